"""Answers on their way to the bus: kept until they have arrived, whatever happens to the broker in between."""

import asyncio
from collections.abc import Callable
from functools import partial

import structlog
from handrail_runtime.errors import Unavailable
from handrail_runtime.outbox import Outbox
from handrail_runtime.settings import Settings
from handrail_runtime.writer import Parcel, Writer

log = structlog.get_logger()

MOST_ENTRIES = 5_000
MOST_BYTES = 64 * 1024 * 1024


class Answers:
    """Publishes parcels; after a fault, everything unconfirmed is published again by a new writer, with the same ids."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._unconfirmed: dict[int, tuple[list[Parcel], Callable[[], None]]] = {}
        self._all_confirmed = asyncio.Event()
        self._bytes = 0
        self._next = 0
        self._outbox: Outbox | None = None
        self._writer: Writer | None = None
        self._healing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._writer = await Writer.start(self._settings, "handrail-agent-runner")
        self._outbox = Outbox(self._writer, self._fault, self._settings.send_timeout_seconds)

    @property
    def unconfirmed(self) -> int:
        return len(self._unconfirmed)

    @property
    def full(self) -> bool:
        """Enough waits here: no new work should be taken until some of it has arrived."""
        return len(self._unconfirmed) > MOST_ENTRIES or self._bytes > MOST_BYTES

    def publish(self, parcels: list[Parcel], delivered: Callable[[], None]) -> None:
        number = self._next
        self._next += 1
        self._unconfirmed[number] = (parcels, delivered)
        self._bytes += _weight(parcels)
        self._all_confirmed.clear()
        if self._outbox is not None:
            self._outbox.put(parcels, partial(self._confirmed, number))

    def _confirmed(self, number: int) -> None:
        entry = self._unconfirmed.pop(number, None)
        if entry is not None:
            self._bytes -= _weight(entry[0])
            entry[1]()
        if not self._unconfirmed:
            self._all_confirmed.set()

    def _fault(self, error: Exception) -> None:
        if self._healing is not None and not self._healing.done():
            return
        log.warning("answers_delayed", unconfirmed=len(self._unconfirmed), error=str(error))
        self._healing = asyncio.create_task(self._heal(), name="answers-heal")

    async def _heal(self) -> None:
        await self._let_go()
        while self._outbox is None:
            try:
                await self.start()
            except Unavailable:
                await asyncio.sleep(0.5)
        for number, (parcels, _) in list(self._unconfirmed.items()):
            self._outbox.put(parcels, partial(self._confirmed, number))

    async def drain(self, timeout: float) -> None:
        """Waits for what is unconfirmed, as long as the time allows."""
        if self._unconfirmed:
            try:
                await asyncio.wait_for(self._all_confirmed.wait(), timeout)
            except TimeoutError:
                log.warning(
                    "answers_lost_here", unconfirmed=len(self._unconfirmed), detail="they will be asked for again"
                )

    async def close(self) -> None:
        if self._healing is not None:
            self._healing.cancel()
        await self._let_go()

    async def _let_go(self) -> None:
        outbox, self._outbox, writer, self._writer = self._outbox, None, self._writer, None
        if outbox is not None:
            outbox.close()
        if writer is not None:
            await writer.stop()


def _weight(parcels: list[Parcel]) -> int:
    return sum(len(parcel.value) for parcel in parcels)
