"""One server: connected to when it is first needed, and again, after growing pauses, when it was lost.

The SDK's client has to be left by the task that entered it, so a task of its own holds it; calls come from anywhere.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import structlog

from handrail_agent_runner.mcp.links import GONE, is_forgotten

if TYPE_CHECKING:  # see _import
    from mcp import Client
    from mcp.client._transport import TransportStreams
    from mcp.client.session import IncomingMessage

log = structlog.get_logger()

CONNECT_SECONDS = 15.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
STEADY_SECONDS = 30.0
"""A connection that held so long is tried for again at once; one that comes and goes is tried for ever less often."""
HURRY_SECONDS = 1.0
"""A caller does not wait for the pause to end, but no server is tried more often than this because of callers."""
CHECK_SECONDS = 30.0
"""A connected server is asked for its tools so often, whether or not it says that they changed."""
MOST_PAGES, MOST_TOOLS = 50, 1_000

Link = Callable[[], "AbstractAsyncContextManager[TransportStreams]"]
Learn = Callable[[list[dict[str, Any]]], None]
Say = Callable[[str], None]
"""Told why the server can't be reached, with nothing once it is connected."""


class Unreachable(Exception):
    """No connection; nothing was sent."""


class Session:
    def __init__(self, name: str, link: Link, learn: Learn, say: Say) -> None:
        self._name, self._link, self._learn, self._say = name, link, learn, say
        self._client: Client | None = None
        self._reason = "it was not tried yet"
        self._users, self._closed = 0, False
        self._tried, self._trying = float("-inf"), False
        self._outcome: asyncio.Future[None] | None = None
        self._hurry, self._changed, self._lost = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._living: asyncio.Task[None] | None = None

    def want(self) -> None:
        """Begins to connect, if nobody has yet."""
        if self._living is None or self._living.done():
            self._trying = True
            self._living = asyncio.create_task(self._live(), name=f"mcp-{self._name}")
            self._living.add_done_callback(self._settle)

    @asynccontextmanager
    async def using(self) -> "AsyncIterator[Client]":
        """The connection, which is not given up for slowness meanwhile.

        Raises `Unreachable` if the server is not reached by the attempt under way, or by one that is due.
        """
        client = await self._connected()
        self._users += 1
        try:
            yield client
        finally:
            self._users -= 1

    async def _connected(self) -> "Client":
        self.want()
        if self._client is None:
            if not self._trying and time.monotonic() - self._tried < HURRY_SECONDS:
                raise Unreachable(self._reason)
            self._hurry.set()
            await self._attempted()
        if self._client is None:
            raise Unreachable(self._reason)
        return self._client

    def lose(self, client: "Client", reason: str) -> None:
        """To be told by whoever finds that the server has forgotten the session."""
        if self._client is client:
            self._client, self._reason = None, reason
            self._lost.set()

    def doubt(self) -> None:
        """To be told by whoever finds that a request came to nothing: whether the server is gone is looked at now."""
        self._changed.set()

    async def close(self) -> None:
        self._closed = True  # a cancellation may be lost in the SDK's own, when a connection breaks at the same moment
        if self._living is not None:
            self._living.cancel()
            await asyncio.gather(self._living, return_exceptions=True)

    async def _attempted(self) -> None:
        if self._outcome is None:
            self._outcome = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._outcome)

    def _settle(self, *_: object) -> None:
        """Whoever waits for the attempt under way looks what became of it."""
        self._trying = False
        outcome, self._outcome = self._outcome, None
        if outcome is not None and not outcome.done():
            outcome.set_result(None)

    # --- the task that holds the connection -------------------------------------------------------------------------

    async def _live(self) -> None:
        await asyncio.to_thread(_import)
        pause = FIRST_PAUSE
        while not self._closed:
            self._trying, self._tried = True, time.monotonic()
            self._hurry.clear()
            try:
                await self._hold()
            except Exception as error:
                self._reason = reason_of(error)
            if time.monotonic() - self._tried > STEADY_SECONDS:
                pause = FIRST_PAUSE
            self._settle()
            if self._closed:
                return
            self._say(self._reason)
            await self._rest(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _hold(self) -> None:
        """Connects, and returns or raises once the connection is lost."""
        from mcp import Client

        self._lost.clear()
        self._changed.clear()
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(CONNECT_SECONDS):
                client = await stack.enter_async_context(Client(self._link(), cache=None, message_handler=self._heard))
                await self._look(client)
            self._client = client
            self._say("")
            self._settle()
            listening = asyncio.create_task(self._listen(client), name=f"mcp-{self._name}-listens")
            try:
                await self._stay(client)
            finally:
                self._client = None
                listening.cancel()

    async def _stay(self, client: "Client") -> None:
        """Looks at the tools again whenever they have changed, and now and then."""
        while not self._lost.is_set():
            waits = [asyncio.create_task(event.wait()) for event in (self._lost, self._changed)]
            try:
                await asyncio.wait(waits, timeout=CHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if not self._lost.is_set():
                self._changed.clear()
                try:
                    async with asyncio.timeout(CONNECT_SECONDS):
                        await self._look(client)
                except Exception as error:
                    if self._is_over(error):
                        raise
                    log.debug("mcp_tools_not_seen", server=self._name, error=reason_of(error))

    def _is_over(self, error: Exception) -> bool:
        """A refusal is no end, and neither is it if a server that works for somebody has no time to say what it can do."""
        from mcp import MCPError

        if isinstance(error, MCPError):
            return error.code in GONE or is_forgotten(error)
        return not self._users

    async def _look(self, client: "Client") -> None:
        tools, cursor = [], None
        for _ in range(MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            tools += [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None or len(tools) >= MOST_TOOLS:
                break
        self._learn(tools[:MOST_TOOLS])

    async def _listen(self, client: "Client") -> None:
        """By the newer protocol a client asks for news; by the older one they come by themselves."""
        from mcp.client.subscriptions import ListenNotSupportedError

        while True:
            try:
                async with client.listen(tools_list_changed=True) as news:
                    self._changed.set()  # what changed before somebody listened
                    async for _ in news:
                        self._changed.set()
            except ListenNotSupportedError:
                return
            except Exception as error:
                log.debug("mcp_news_broke_off", server=self._name, error=str(error))
            self._changed.set()  # whether the server has gone, too, shows when it is asked
            await asyncio.sleep(CHECK_SECONDS)

    async def _heard(self, message: "IncomingMessage") -> None:
        from mcp_types import ToolListChangedNotification

        if isinstance(message, ToolListChangedNotification):
            self._changed.set()

    async def _rest(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._hurry.wait(), seconds)
        except TimeoutError:
            pass


def _import() -> None:
    """Takes half a second: in a thread, so that other agents go on. What goes wrong is told by us, without what servers say."""
    import_module("mcp")
    logging.getLogger("mcp").setLevel(logging.CRITICAL)


def reason_of(error: BaseException) -> str:
    """What went wrong, of an error that may hold others."""
    from anyio import BrokenResourceError, ClosedResourceError

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, BrokenResourceError | ClosedResourceError):
        return "the connection broke off"
    if isinstance(error, TimeoutError):
        return f"it did not answer within {CONNECT_SECONDS:g} s"
    return str(error) or type(error).__name__
