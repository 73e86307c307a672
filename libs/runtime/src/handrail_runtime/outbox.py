"""Sends messages in order, and tells in that order when they arrived. Nothing sent is forgotten."""

import asyncio
from collections import deque
from collections.abc import Callable

from handrail_runtime.errors import Fenced
from handrail_runtime.writer import Parcel, Writer

Delivered = Callable[[], None]


class Outbox:
    """Confirms in the order of `put`.

    A refused or unanswered message is the end: `failed` gets the reason, nothing more is confirmed, and the owner makes a
    new outbox with a new writer.
    """

    def __init__(self, writer: Writer, failed: Callable[[Exception], None], timeout: float) -> None:
        self._writer, self._failed, self._timeout = writer, failed, timeout
        self._entries: deque[tuple[asyncio.Future[int] | None, Delivered | None, float]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False

    def put(self, parcels: list[Parcel], delivered: Delivered | None = None) -> None:
        """Sends parcels; `delivered` is called once they and all before them have arrived."""
        future = self._writer.write(parcels) if parcels else None
        self._entries.append((future, delivered, self._loop.time()))
        self._idle.clear()
        if future is None:
            self._confirm()
        else:
            future.add_done_callback(self._confirm)
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._look)

    @property
    def open(self) -> int:
        """How many `put`s are not confirmed yet."""
        return len(self._entries)

    async def flush(self) -> None:
        """Returns when everything put so far was confirmed; raises `Fenced` if that takes longer than the time-out."""
        try:
            await asyncio.wait_for(self._idle.wait(), self._timeout)
        except TimeoutError as error:
            raise Fenced(f"messages were not confirmed within {self._timeout} s; their outcome is unknown") from error

    def close(self) -> None:
        """Confirms nothing any more."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()

    def _confirm(self, _: object = None) -> None:
        while self._entries and not self._closed:
            future, delivered, _at = self._entries[0]
            if future is not None:
                if not future.done():
                    break
                if future.cancelled() or future.exception() is not None:
                    self._end(Fenced("the message was withdrawn") if future.cancelled() else future.exception())
                    break
            self._entries.popleft()
            if delivered is not None:
                delivered()
        if not self._entries:
            self._idle.set()

    def _look(self) -> None:
        """The oldest message must not be older than the time-out."""
        self._watch = None
        if not self._entries or self._closed:
            return
        left = self._entries[0][2] + self._timeout - self._loop.time()
        if left <= 0:
            self._end(Fenced(f"a message was not answered within {self._timeout} s; its outcome is unknown"))
        else:
            self._watch = self._loop.call_later(left, self._look)

    def _end(self, error: BaseException | None) -> None:
        self.close()
        self._failed(error if isinstance(error, Exception) else Fenced(repr(error)))
