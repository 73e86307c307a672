"""A broker client that keeps itself connected: replaced in the background when it fails, never waited for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog
from aiokafka.errors import KafkaError
from handrail_runtime.errors import Unavailable

log = structlog.get_logger()

C = TypeVar("C")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0


class Connection(Generic[C]):
    def __init__(self, name: str, start: Callable[[], Awaitable[C]], discard: Callable[[C], Awaitable[None]]) -> None:
        self._name, self._start, self._discard = name, start, discard
        self._client: C | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self.connected_once = asyncio.Event()

    @property
    def client(self) -> C | None:
        """None while there is no connection."""
        return self._client

    def open(self) -> None:
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect(), name=f"{self._name}-connect")

    def replace(self, client: C, cause: BaseException) -> None:
        """Of many requests that fail on one client only the first replaces it."""
        if self._client is not client:
            return
        log.warning("client_discarded", client=self._name, cause=repr(cause))
        self._client = None
        self._discard_later(client)
        self.open()

    async def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None:
            self._discard_later(client)
        await asyncio.gather(*self._background, return_exceptions=True)

    def _discard_later(self, client: C) -> None:
        task = asyncio.create_task(self._end(client), name=f"{self._name}-discard")
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _end(self, client: C) -> None:
        await self._discard(client)

    async def _connect(self) -> None:
        pause = FIRST_PAUSE
        while True:
            starting = asyncio.ensure_future(self._start())
            try:
                self._client = await asyncio.shield(starting)
            except asyncio.CancelledError:
                starting.add_done_callback(self._left_behind)
                raise
            except (Unavailable, KafkaError, OSError) as error:
                log.warning("broker_unavailable", client=self._name, error=str(error), retry_in=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                self.connected_once.set()
                log.info("broker_connected", client=self._name)
                return

    def _left_behind(self, starting: "asyncio.Future[C]") -> None:
        """A client that came up after we were closed must not stay open."""
        if not starting.cancelled() and starting.exception() is None:
            self._discard_later(starting.result())
