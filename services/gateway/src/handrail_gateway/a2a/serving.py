"""The SDK's server side. Importing this imports the SDK, so the router does it when the first client speaks."""

import asyncio
from collections.abc import Awaitable

from a2a.server.context import ServerCallContext
from a2a.server.routes.common import ServerCallContextBuilder
from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
from a2a.server.routes.rest_dispatcher import RestDispatcher
from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from handrail_gateway.a2a.handler import Workflows
from handrail_gateway.a2a.watching import Asked
from handrail_gateway.identity.rights import caller_of
from handrail_gateway.sse import WRITE_SECONDS

LEFT = 499
"""Nobody reads this status: it is for the metrics."""


class Asking(ServerCallContextBuilder):
    def build(self, request: Request) -> ServerCallContext:
        asked = Asked(request.app.state.gateway, caller_of(request.scope), request.state.workflow)
        return ServerCallContext(state={"headers": dict(request.headers), "asked": asked})


JSON_RPC = JsonRpcDispatcher(Workflows(), Asking())
REST = RestDispatcher(Workflows(), Asking())


async def serve(request: Request, method: str) -> Response:
    """`method` is `json_rpc` or one of `REST`; `request.state.workflow` is whom it is for, and the caller may see it."""
    await request.body()  # from here on, the client only leaves
    answering = JSON_RPC.handle_requests if method == "json_rpc" else getattr(REST, method)
    response = await _unless_left(answering(request), request.receive)
    if isinstance(response, EventSourceResponse):
        response.send_timeout = WRITE_SECONDS
    return response


async def _unless_left(answering: Awaitable[Response], receive: Receive) -> Response:
    """Waits no longer for an execution than its client does."""
    answer, left = asyncio.ensure_future(answering), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({answer, left}, return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() else Response(status_code=LEFT)
    finally:
        for task in (answer, left):
            task.cancel()
        await asyncio.gather(answer, left, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
