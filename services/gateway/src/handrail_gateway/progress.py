"""What running steps told before a stream was there to hear it, or while it was away: read from the log when one joins."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

import orjson
import structlog
from aiokafka import ConsumerRecord, TopicPartition
from handrail_contracts.ids import partition_of
from handrail_contracts.topics import EXECUTION_PARTITIONS, STEP_PROGRESSED
from handrail_runtime.machine.recovery import read_to
from handrail_runtime.reader import Reader
from handrail_runtime.settings import Settings

from handrail_gateway.streaming import Frame, progress_frame

log = structlog.get_logger()

MOST_RECORDS = 50_000
"""How far back a stream that joins may look: words older than that are in the step's result, once it has one."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What was told up to the offset `end`."""

    frames: list[Frame]
    end: int


class Missed(Protocol):
    async def between(self, execution_id: str, start: int | None, since: float, end: int | None) -> Heard:
        """Progress from offset `start` (or from the moment `since`, seconds since the epoch) up to `end` (or now), in order."""

    async def close(self) -> None: ...


class ProgressLog:
    """One reader for all streams that join, one at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reader: Reader | None = None
        self._lock = asyncio.Lock()

    async def between(self, execution_id: str, start: int | None, since: float, end: int | None) -> Heard:
        tp = TopicPartition(STEP_PROGRESSED, partition_of(execution_id, EXECUTION_PARTITIONS))
        async with self._lock:
            if self._reader is None:
                self._reader = await Reader.start(self._settings, "handrail-gateway-progress")
            if end is None:
                end = (await self._reader.end_offsets([tp]))[tp]
            if start is not None and start >= end:
                return Heard([], start)
            if start is None:
                start = (await self._reader.offsets_at([tp], int(since * 1000)))[tp]
            first = max((await self._reader.begin_offsets([tp]))[tp], start, end - MOST_RECORDS)
            if start < 0 or first >= end:
                return Heard([], end)
            return Heard(await self._read(self._reader, tp, first, end, execution_id.encode()), end)

    async def _read(self, reader: Reader, tp: TopicPartition, first: int, end: int, key: bytes) -> list[Frame]:
        reader.assign({tp: first})
        found: list[Frame] = []
        async for records in read_to(reader, {tp: end}):
            mine = [record for record in records if record.key == key and record.offset < end]
            found += [frame for record in mine if (frame := frame_of(record)) is not None]
        return found

    async def close(self) -> None:
        if self._reader is not None:
            await self._reader.stop()


def frame_of(record: "ConsumerRecord[bytes, bytes]") -> Frame | None:
    """None for what streams do not know, and for what is no progress."""
    try:
        return progress_frame(orjson.loads(record.value or b""), record.offset + 1)
    except (ValueError, AttributeError, TypeError) as error:
        log.warning("live_record_unreadable", topic=record.topic, offset=record.offset, error=repr(error))
        return None
