"""`/mcp`: streamable HTTP. Every request stands for itself, so any gateway answers it and none keeps a session."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from handrail_gateway.documentation import FOREIGN_REFUSALS
from handrail_gateway.identity.rights import caller_of
from handrail_gateway.problems import Problem

if TYPE_CHECKING:  # see Door
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecurityMiddleware

    from handrail_gateway.mcp.api import Api

HERE = ("127.0.0.1", "localhost", "[::1]")
ORIGINS = (("http", ""), ("http", ":*"), ("https", ""), ("https", ":*"))

router = APIRouter(tags=["mcp"])


@dataclass(frozen=True, slots=True)
class _Opened:
    manager: "StreamableHTTPSessionManager"
    names: "TransportSecurityMiddleware"


class Door:
    """The MCP server over the API of the same process; made at the first request, since importing it takes a while.

    The tools call `app` as the caller that its gate let in, and its routes decide on the caller's rights as on any request.
    """

    def __init__(self, app: ASGIApp, version: str, hosts: Sequence[str] = ()) -> None:
        self._app, self._version = app, version
        self._hosts = (*HERE, *hosts)
        self._opening: asyncio.Task[_Opened] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises a `Problem` for a name that is not this gateway's: a page elsewhere may have led a browser here by it."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="mcp-opens")
        opened = await asyncio.shield(self._opening)
        request = Request(scope)
        if not request.headers.get("content-type", "").lower().startswith("application/json"):
            raise Problem(415, "UNSUPPORTED_MEDIA_TYPE", "The body must be sent as `Content-Type: application/json`.")
        refused = await opened.names.validate_request(request)
        if refused is not None:
            raise Problem(
                refused.status_code,
                "MISDIRECTED_REQUEST",
                f"This gateway is not known as {request.headers.get('host', '')[:200]!r} to pages of "
                f"{request.headers.get('origin', 'nobody')[:200]!r}: name it in HANDRAIL_MCP_HOSTS if it is its own.",
            )
        await opened.manager.handle_request(scope, receive, send)

    async def close(self) -> None:
        """Ends what is under way."""
        self._stop.set()
        if self._serving is not None:
            await asyncio.gather(self._serving, return_exceptions=True)

    async def _open(self) -> _Opened:
        module: Any = await asyncio.to_thread(import_module, "handrail_gateway.mcp.server")
        from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings

        server: MCPServer[Any] = module.make_server(self._as_caller, self._version)
        names = TransportSecuritySettings(
            allowed_hosts=[name + port for name in self._hosts for port in ("", ":*")],
            allowed_origins=[f"{scheme}://{name}{port}" for name in self._hosts for scheme, port in ORIGINS],
        )
        server.streamable_http_app(stateless_http=True, transport_security=names)
        begun = asyncio.Event()
        self._serving = asyncio.create_task(self._serve(server.session_manager, begun), name="mcp")
        await begun.wait()
        return _Opened(server.session_manager, TransportSecurityMiddleware(names))

    async def _serve(self, manager: "StreamableHTTPSessionManager", begun: asyncio.Event) -> None:
        """In one task from beginning to end, as the manager's task group wants it."""
        async with manager.run():
            begun.set()
            await self._stop.wait()

    @asynccontextmanager
    async def _as_caller(self, ctx: "Context[Any, Any]") -> "AsyncIterator[Api]":
        import httpx2

        from handrail_gateway.mcp.api import Api
        from handrail_gateway.mcp.inprocess import InProcess

        came: Any = ctx.request_context.request
        async with httpx2.AsyncClient(
            transport=InProcess(self._app, caller_of(came.scope)), base_url="http://gateway/api/v1", trust_env=False
        ) as client:
            yield Api(client)


class _Handed(Response):
    """The door writes the answer itself."""

    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._door.handle(scope, receive, send)


@router.post(
    "/mcp",
    response_class=Response,
    responses={
        200: {
            "description": "JSON-RPC, as JSON or as server-sent events",
            "content": {"application/json": {}, "text/event-stream": {}},
        },
        202: {"description": "a notification was taken"},
        **FOREIGN_REFUSALS,
    },
)
async def mcp(request: Request) -> Response:
    """The Model Context Protocol over streamable HTTP, for clients of that protocol: see docs/guides/mcp.md."""
    return _Handed(request.app.state.door)
