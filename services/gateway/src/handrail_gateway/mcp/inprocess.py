"""A client's road to an ASGI application of the same process. Answers stream, which httpx2's own transport does not do."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
from starlette.types import ASGIApp, Message, Scope

from handrail_gateway.identity.caller import Caller
from handrail_gateway.identity.rights import CALLER


class InProcess(httpx2.AsyncBaseTransport):
    def __init__(self, app: ASGIApp, caller: Caller) -> None:
        """Every request is the caller's, whatever its headers say."""
        self._app, self._caller = app, caller

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = _Exchange(await request.aread())
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "scheme": request.url.scheme,
            "path": request.url.path,
            "raw_path": request.url.raw_path.split(b"?")[0],
            "query_string": request.url.query,
            "server": (request.url.host, request.url.port),
            "client": ("127.0.0.1", 0),
            "root_path": "",
            CALLER: self._caller,
        }
        exchange.working = asyncio.create_task(exchange.work(self._app, scope), name=f"in-process {request.url.path}")
        status, headers = await exchange.begun()
        return httpx2.Response(status, headers=headers, stream=exchange)


class _Exchange(httpx2.AsyncByteStream):
    """One request and its answer. The application works in a task of its own; who closes the answer ends it."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._said: asyncio.Queue[Message | None] = asyncio.Queue(16)
        self._asked = False
        self.working: asyncio.Task[None]

    async def work(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._said.put)
        except Exception:
            pass  # the application has answered 500 and raises it again for its server's log
        await self._said.put(None)

    async def _receive(self) -> Message:
        if self._asked:
            await asyncio.Event().wait()  # a caller that leaves cancels us
        self._asked = True
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def begun(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        try:
            message = await self._said.get()
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if message is None:
            raise httpx2.ReadError("the application did not answer")
        return message["status"], list(message.get("headers", ()))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (message := await self._said.get()) is not None:
            yield message.get("body", b"")
            if not message.get("more_body", False):
                return

    async def aclose(self) -> None:
        self.working.cancel()
        await asyncio.gather(self.working, return_exceptions=True)
