"""Where a step may call to: decided on the address that is connected to, after resolving the name once."""

import asyncio
import ipaddress
import socket

from handrail_agent_runner.agents.base import AgentFailure

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

METADATA = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
"""Clouds' metadata services that are not link-local."""
NAT64 = ipaddress.ip_network("64:ff9b::/96")


def allowed(address: Address, private: bool) -> bool:
    """Never metadata services, link-local, multicast, unspecified or reserved; private networks only if settings allow."""
    address = _inner(address)
    if address in METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    if address.is_loopback or address.is_private or not address.is_global:
        return private and not (address.version == 4 and address.is_reserved)
    return not address.is_reserved


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo or address


async def resolve(host: str, port: int, private: bool) -> Address:
    """One address of the host, IPv4 if it has one. Raises `AgentFailure` if any of its addresses is out of bounds."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AgentFailure("TOOL_ERROR", f"the name {host} can't be resolved: {error}", retryable=True) from error
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    for address in addresses:
        if not allowed(address, private):
            message = f"{host} leads to {address}, where no step may call"
            raise AgentFailure("VALIDATION_ERROR", message, retryable=False)
    return min(addresses, key=lambda address: address.version)
