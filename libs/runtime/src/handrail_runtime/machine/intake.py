"""From the input topics to decisions. What goes on already is decided as it comes; beginnings wait for their turn.

Something new begins while few executions of its tenant are busy, and tenants take turns (docs/adr/0012). So what is begun
is soon done, no queue inside the platform grows with a flood, and nobody waits behind somebody else's.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from handrail_contracts.topics import FENCES

from handrail_runtime.errors import JournalRegressed
from handrail_runtime.machine.core import Wiring
from handrail_runtime.reader import Places, Reader
from handrail_runtime.settings import Settings
from handrail_runtime.turns import Busy, Tenant, Turns
from handrail_runtime.watermark import Watermark

MICRO_BATCH = 400
SLICE = 16
"""Beginnings decided at a time: what goes on already waits a millisecond for them."""
READ_AHEAD = 2000
"""Beginnings taken in at a time, which are only looked at: some milliseconds' work."""
POLL_MS = 200
TURN_SECONDS = 0.005
"""How soon it is looked whether a tenant may begin something: executions also cease to be busy by time."""

_FENCES = TopicPartition(FENCES, 0)

Record = ConsumerRecord[Any, Any]
Decide = Callable[[dict[TopicPartition, list[Record]]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Source:
    """Topics that are fetched together."""

    reader: Reader
    topics: frozenset[str]


class Intake:
    """Reads the inputs of our partitions and hands them to `decide`.

    Beginnings come out of order: each that was handed over has to come back to `finish` once it is decided.
    """

    def __init__(
        self, settings: Settings, wiring: Wiring, decide: Decide, fences: Callable[[list[Record]], None]
    ) -> None:
        self._settings, self._wiring, self._decide, self._observe_fences = settings, wiring, decide, fences
        self.busy = Busy(settings.busy_alone)
        self.open = True
        self._sources: list[_Source] = []
        self._watermarks: dict[int, Watermark] = {}
        self._turns = Turns(self._watermarks)
        self._flooding: set[Tenant] = set()
        self._wanted = asyncio.Event()

    async def start(self) -> list[asyncio.Task[None]]:
        """Connects; the tasks run until they are cancelled, or end with the fault that ends this life."""
        wiring, pumps = self._wiring, []
        begins = frozenset() if wiring.begins is None else frozenset({wiring.begins})
        often = frozenset({FENCES, *wiring.inputs}) - wiring.seldom - begins
        for name, topics in (("inputs", often), ("seldom", wiring.seldom), ("begins", begins)):
            if topics:
                reader = await Reader.start(self._settings, f"handrail-{wiring.service}-{name}")
                self._sources.append(_Source(reader, topics))
                pump = self._read_ahead if topics is begins else self._pump
                pumps.append(asyncio.create_task(pump(reader), name=name))
        if begins:
            pumps.append(asyncio.create_task(self._take_turns(), name="turns"))
        return pumps

    async def stop(self) -> None:
        await asyncio.gather(*(source.reader.stop() for source in self._sources))

    # --- places -----------------------------------------------------------------------------------------------------

    @property
    def offsets(self) -> Reader:
        """To ask where partitions begin and end."""
        return self._sources[0].reader

    def assign(self, positions: Places, fences: Places) -> None:
        """Reads these and nothing else; what was read and not handed over will be read again."""
        for source in self._sources:
            places = {tp: at for tp, at in positions.items() if tp.topic in source.topics}
            source.reader.assign({**places, **fences} if FENCES in source.topics else places)
        self._watermarks = {
            tp.partition: Watermark(at) for tp, at in positions.items() if tp.topic == self._wiring.begins
        }
        self._turns = Turns(self._watermarks)

    def lag(self, tp: TopicPartition, position: int) -> int:
        """Records past `position`, as of the last fetch."""
        reader = next(source.reader for source in self._sources if tp.topic in source.topics)
        return max(0, (reader.highwater(tp) or 0) - position)

    # --- what goes on -----------------------------------------------------------------------------------------------

    async def _pump(self, reader: Reader) -> None:
        while True:
            if not self.open:
                await asyncio.sleep(0.01)
                continue
            await asyncio.sleep(0)  # what the last records led to leaves before the next are asked for
            polled = await self._poll(reader)
            if (fences := polled.pop(_FENCES, None)) is not None:
                self._observe_fences(fences)
            await self._decide(polled)
            if self._turns:
                self._wanted.set()

    async def _poll(self, reader: Reader, most: int = MICRO_BATCH) -> dict[TopicPartition, list[Record]]:
        try:
            return await reader.poll(most, POLL_MS)
        except OffsetOutOfRangeError as error:
            raise JournalRegressed(f"{self._wiring.service}: positions fell out of their topics: {error}") from error

    # --- beginnings -------------------------------------------------------------------------------------------------

    async def _read_ahead(self, reader: Reader) -> None:
        while True:
            if not self.open or self._turns.full:
                await asyncio.sleep(0.01)
                continue
            for tp, records in (await self._poll(reader, READ_AHEAD)).items():
                self._turns.add(tp.partition, records)
            self._wanted.set()
            await asyncio.sleep(0)

    async def _take_turns(self) -> None:
        while True:
            if not self.open or not await self._begin_some():
                self._wanted.clear()
                await self._wait()
            await asyncio.sleep(0)

    async def _wait(self) -> None:
        if not self._turns:
            await self._wanted.wait()
            return
        try:
            await asyncio.wait_for(self._wanted.wait(), TURN_SECONDS)
        except TimeoutError:
            pass

    async def _begin_some(self) -> int:
        """A slice of those that may begin; returns how many there were."""
        self.busy.expire(time.time())
        flooding, waiting = self._flooding, self._turns.tenants
        room = self.busy.room(flooding, waiting)
        records = self._turns.take(SLICE if self.busy.beside else MICRO_BATCH, room)
        self._flooding = self._turns.tenants
        together = dict[TopicPartition, list[Record]]()
        for record in records:
            together.setdefault(TopicPartition(record.topic, record.partition), []).append(record)
        await self._decide(together)
        return len(records)

    def finish(self, tp: TopicPartition, records: list[Record]) -> int | None:
        """These are decided: where the partition goes on without a gap, if it is one of beginnings and still ours."""
        watermark = self._watermarks.get(tp.partition)
        if tp.topic != self._wiring.begins or watermark is None:
            return None
        for record in records:
            watermark.finish(record.offset)
        return watermark.position
