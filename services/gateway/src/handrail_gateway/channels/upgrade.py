"""What a request for a WebSocket brings with it: credentials, the page that it comes from, the protocol. Pure."""

from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

PROTOCOL = "handrail.v1"
BEARER = "bearer."
SELECTORS = {"organization_id": b"x-elevaite-organizationid", "project_id": b"x-elevaite-projectid"}
"""Pages cannot set headers, so the tenant may be selected in the query: it is no secret, and widens nothing."""

Headers = Sequence[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case, a name as often as it was sent."""


def values(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1") for found, value in headers if found == name]


def offered(headers: Headers) -> list[str]:
    """The subprotocols that the client offers."""
    several = values(headers, b"sec-websocket-protocol")
    return [name.strip() for value in several for name in value.split(",")]


def with_credentials(headers: Headers, query: bytes) -> list[tuple[bytes, bytes]]:
    """The headers as if a page could set them: its token comes among the subprotocols, as `bearer.TOKEN`."""
    tokens = [name.removeprefix(BEARER) for name in offered(headers) if name.startswith(BEARER)]
    selected = parse_qs(query.decode("latin-1"))
    return [
        *headers,
        *((b"authorization", f"Bearer {token}".encode("latin-1")) for token in tokens),
        *((SELECTORS[name], value.encode()) for name in SELECTORS for value in selected.get(name, ())),
    ]


def origin_allowed(headers: Headers, allowed: Sequence[str]) -> bool:
    """Programs send none. A page has to be of this host, or of an origin that the operator has named."""
    origins, hosts = values(headers, b"origin"), values(headers, b"host")
    if not origins:
        return True
    if len(origins) > 1 or len(hosts) != 1:
        return False
    return origins[0] in allowed or urlsplit(origins[0]).netloc.lower() == hosts[0].lower()
