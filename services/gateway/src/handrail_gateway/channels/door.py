"""`/ws`: who may open one, and all that are open."""

import asyncio
from collections import Counter

from starlette.types import Receive, Scope, Send

from handrail_gateway.channels.client import STOPPING, Client
from handrail_gateway.channels.hub import Hub
from handrail_gateway.channels.upgrade import BEARER, PROTOCOL, Headers, offered, origin_allowed
from handrail_gateway.channels.wire import EXTENSION, Wire
from handrail_gateway.gateway import Gateway
from handrail_gateway.identity.authenticator import Authenticator
from handrail_gateway.identity.rights import caller_of
from handrail_gateway.metrics import CHANNEL_CLIENTS
from handrail_gateway.problems import Problem, forbidden, unavailable


class Channels:
    """An ASGI application for WebSockets that the gate has let through."""

    def __init__(self, gateway: Gateway, hub: Hub, authenticator: Authenticator) -> None:
        self._gateway, self._hub, self._authenticator = gateway, hub, authenticator
        self._clients: set[Client] = set()
        self._tenants: Counter[tuple[str, str]] = Counter()
        self._closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller, headers = caller_of(scope), scope["headers"]
        tenant = (caller.organization_id, caller.project_id)
        try:
            self._check(headers, tenant)
        except Problem as problem:
            await problem.response(scope["path"])(scope, receive, send)
            return
        await receive()
        protocol = PROTOCOL if PROTOCOL in offered(headers) else None
        await send({"type": "websocket.accept", "subprotocol": protocol})
        wire: Wire = scope["extensions"][EXTENSION]
        client = Client(self._gateway, self._hub, self._authenticator, caller, wire)
        self._clients.add(client)
        self._tenants[tenant] += 1
        CHANNEL_CLIENTS.inc()
        try:
            await client.run(receive)
        finally:
            CHANNEL_CLIENTS.dec()
            self._clients.discard(client)
            self._tenants[tenant] -= 1
            if not self._tenants[tenant]:
                del self._tenants[tenant]

    def _check(self, headers: Headers, tenant: tuple[str, str]) -> None:
        if not origin_allowed(headers, self._gateway.ws_origins):
            raise forbidden("Pages of this origin may not connect; the operator names others in HANDRAIL_WS_ORIGINS.")
        names = offered(headers)
        if PROTOCOL not in names and any(name.startswith(BEARER) for name in names):
            raise Problem(400, "BAD_REQUEST", f"Offer `{PROTOCOL}` beside the token: a token is not sent back.")
        if self._closing:
            raise unavailable("STOPPING", "This gateway stops; another one will answer.")
        if self._tenants[tenant] >= self._gateway.ws_connections:
            sentence = f"{self._tenants[tenant]} connections of your project are open here; close some."
            raise Problem(429, "TOO_MANY_CONNECTIONS", sentence, headers={"Retry-After": "5"})

    async def close(self) -> None:
        """Sends everybody elsewhere, with where to go on."""
        self._closing = True
        for client in list(self._clients):
            client.end(STOPPING)
        await asyncio.sleep(0)
        await self._hub.close()
