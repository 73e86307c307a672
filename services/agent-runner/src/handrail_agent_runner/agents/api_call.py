"""Steps that are HTTP calls themselves. Where a call may go is checked on the address that is connected to."""

import asyncio
import ipaddress
import socket
from typing import Any

import httpx2
import orjson
from handrail_contracts.steps import StepRequested
from handrail_runtime.settings import Settings

from handrail_agent_runner.agents.base import AgentFailure, Progress
from handrail_agent_runner.agents.http import read_limited

KEPT_HEADERS = ("content-type", "etag", "location", "retry-after", "x-request-id")


class ApiCall:
    """Resolves once, checks, connects to what it checked; redirects are answers, not orders."""

    inline = None

    def __init__(self, settings: Settings) -> None:
        self._limit, self._private = settings.result_limit_bytes, settings.allow_private_networks
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(300.0, connect=5.0), follow_redirects=False, trust_env=False
        )

    async def execute(self, request: StepRequested, progress: Progress) -> Any:
        call: dict[str, Any] = request.input
        url, host = await self._checked(str(call["url"]))
        headers = {str(name): str(value) for name, value in (call.get("headers") or {}).items()}
        headers = {"Idempotency-Key": request.run_id, **headers, "Host": host}
        body = call.get("body")
        content = None if body is None else orjson.dumps(body)
        if content is not None:
            headers.setdefault("content-type", "application/json")
        try:
            extensions = {"sni_hostname": host.rsplit(":", 1)[0]}
            async with self._client.stream(
                call["method"], url, content=content, headers=headers, extensions=extensions
            ) as response:
                answer = await read_limited(response, self._limit, call["url"])
                return self._output(call, response, answer)
        except httpx2.TimeoutException as error:
            raise AgentFailure("TIMEOUT", f"{call['url']} did not answer in time", retryable=True) from error
        except httpx2.HTTPError as error:
            message = f"{call['url']} can't be reached: {error or type(error).__name__}"
            raise AgentFailure("TOOL_ERROR", message, retryable=True) from error

    def _output(self, call: dict[str, Any], response: httpx2.Response, answer: bytes) -> Any:
        expected, status = call.get("expected_status"), response.status_code
        if not (status in expected if expected else 200 <= status < 300):
            message = f"{call['method']} {call['url']} answered {status}: {answer[:300].decode('utf-8', 'replace')}"
            retryable = status >= 500 or status in (408, 429)
            code = "RATE_LIMIT" if status == 429 else "TOOL_ERROR" if retryable else "VALIDATION_ERROR"
            raise AgentFailure(code, message, retryable=retryable)
        try:
            body = orjson.loads(answer) if answer else None
        except orjson.JSONDecodeError:
            body = answer.decode("utf-8", "replace")
        headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
        return {"status": status, "headers": headers, "body": body}

    async def _checked(self, text: str) -> tuple[httpx2.URL, str]:
        """The URL with a checked address in place of the name, and the name for Host and TLS."""
        try:
            url = httpx2.URL(text)
        except httpx2.InvalidURL as error:
            raise AgentFailure("VALIDATION_ERROR", f"{text[:200]!r} is no address: {error}", retryable=False) from error
        if url.scheme not in ("http", "https") or not url.host:
            raise AgentFailure(
                "VALIDATION_ERROR", f"{text[:200]!r}: only http and https can be called", retryable=False
            )
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise AgentFailure("TOOL_ERROR", f"the name {url.host} can't be resolved", retryable=True) from error
        address = ipaddress.ip_address(found[0][4][0])
        if not allowed(address, self._private):
            raise AgentFailure(
                "VALIDATION_ERROR", f"{url.host} leads to {address}, where no step may call", retryable=False
            )
        return url.copy_with(host=str(address)), url.netloc.decode()


def allowed(address: ipaddress.IPv4Address | ipaddress.IPv6Address, private: bool) -> bool:
    """Never link-local (metadata services), multicast, unspecified or reserved; private networks only if settings allow."""
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    if mapped is not None:
        address = mapped
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    if address.is_loopback or address.is_private or not address.is_global:
        return private
    return not address.is_reserved
