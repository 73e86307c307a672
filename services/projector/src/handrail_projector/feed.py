"""From topics to read models: reads partitions from the positions that the database holds, and writes batches."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import asyncpg
import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from handrail_contracts import topics
from handrail_contracts.journal import JournalFilter, Verdict, chain_of, link
from handrail_runtime.errors import JournalRegressed
from handrail_runtime.reader import Reader

from handrail_projector.columns import Unreadable
from handrail_projector.projections import Batch
from handrail_projector.writer import Place, Position, create_positions, read_positions, write

log = structlog.get_logger()

PARTITIONED = (
    topics.WORKFLOW_STARTED,
    topics.EXECUTION_EVENTS,
    topics.APPROVAL_EVENTS,
    topics.SCHEDULE_DEFINED,
    topics.COMMENT_ADDED,
)
SINGLE = (
    topics.WORKFLOW_DEFINED,
    topics.AGENT_REGISTERED,
    topics.RUNNER_STATUS,
    topics.API_KEY_DEFINED,
    topics.API_KEY_USED,
    topics.DEAD_LETTERS,
)
COMPACTED = frozenset({topics.AGENT_REGISTERED, topics.RUNNER_STATUS, topics.API_KEY_DEFINED, topics.API_KEY_USED})
JOURNALS = frozenset({topics.EXECUTION_EVENTS, topics.APPROVAL_EVENTS})
BATCH = 4000
GATHER_SECONDS = 0.01

Record = ConsumerRecord[Any, Any]
Reject = Callable[[Record, Unreadable], Awaitable[None]]


def _link_of(record: Record) -> str:
    """The record's own link, if its journal is chained."""
    before = chain_of(record.headers)
    return "" if before is None else link(before, record.value)


def places_of(partitions: Iterable[int]) -> list[Place]:
    """The places that go with partition numbers; single-partition topics go with partition 0."""
    owned = sorted(partitions)
    places = [(topic, partition) for partition in owned for topic in PARTITIONED]
    return places + [(topic, 0) for topic in SINGLE if 0 in owned]


class Feed:
    """Projects some partitions over one connection. After `PositionMoved` or a lost connection, `assign` again."""

    def __init__(self, reader: Reader, connection: asyncpg.Connection, reject: Reject) -> None:
        self._reader, self._connection, self._reject = reader, connection, reject
        self.positions: dict[Place, Position] = {}
        self.events = 0

    async def assign(self, partitions: Iterable[int]) -> None:
        """Continues where the database is, for these partitions and no others."""
        places = places_of(partitions)
        tps = [TopicPartition(*place) for place in places]
        begins, ends = await self._reader.begin_offsets(tps), await self._reader.end_offsets(tps)
        known = await read_positions(self._connection)
        await create_positions(
            self._connection, {place: begins[TopicPartition(*place)] for place in places if place not in known}
        )
        known = await read_positions(self._connection)
        self.positions = {place: known[place] for place in places}
        for place, position in self.positions.items():
            begin, end = begins[TopicPartition(*place)], ends[TopicPartition(*place)]
            if not begin <= position.next_offset <= end:
                raise JournalRegressed(
                    f"{place[0]} partition {place[1]} holds offsets {begin} to {end}, but the read models continue at "
                    f"{position.next_offset}: the topic was recreated or trimmed. Rebuild them with `handrail replay`."
                )
        self._reader.assign({TopicPartition(*place): at.next_offset for place, at in self.positions.items()})

    async def step(self, wait_ms: int) -> int:
        """Reads what is there, up to a batch, and writes it; returns how many records that were."""
        fetched = await self._fetch(wait_ms)
        if not fetched:
            return 0
        batch, before, after = Batch(), {}, {}
        for place, records in fetched.items():
            position = self.positions[place]
            before[place] = position.next_offset
            after[place] = await self._take(batch, place, records, position)
        await write(self._connection, batch, before, after)
        self.positions.update(after)
        return sum(map(len, fetched.values()))

    async def _fetch(self, wait_ms: int) -> dict[Place, list[Record]]:
        """Gathers for a moment once something is there: few big transactions cost less than many small ones."""
        gathered: dict[Place, list[Record]] = {}
        count, deadline = 0, 0.0
        while count < BATCH:
            left = wait_ms if not gathered else int((deadline - time.monotonic()) * 1000)
            if left < 0:
                break
            try:
                found = await self._reader.poll(BATCH - count, left)
            except OffsetOutOfRangeError as error:
                raise JournalRegressed(f"records were removed before they were projected: {error}") from error
            if not found:
                break
            if not gathered:
                deadline = time.monotonic() + GATHER_SECONDS
            for tp, records in found.items():
                gathered.setdefault((tp.topic, tp.partition), []).extend(records)
                count += len(records)
        return gathered

    async def _take(self, batch: Batch, place: Place, records: list[Record], position: Position) -> Position:
        topic, partition = place
        journal = topic in JOURNALS
        accepted = JournalFilter(position.filter.epoch, position.filter.next_seq)
        for record in records:
            if journal and accepted.take(record.offset, record.headers) is not Verdict.ACCEPTED:
                continue
            if record.value is None and topic in COMPACTED:
                continue
            try:
                batch.add(topic, partition, record.offset, record.value, _link_of(record) if journal else "")
            except Unreadable as error:
                await self._reject(record, error)
        self.events += len(records)
        return Position(records[-1].offset + 1, accepted)

    async def caught_up(self) -> bool:
        """Whether the database is where the topics ended a moment ago."""
        ends = await self._reader.end_offsets([TopicPartition(*place) for place in self.positions])
        return all(position.next_offset >= ends[TopicPartition(*place)] for place, position in self.positions.items())


async def connect(url: str, schema: str, timeout: float = 10.0) -> asyncpg.Connection:
    return await asyncio.wait_for(
        asyncpg.connect(url, server_settings={"search_path": schema, "application_name": "handrail-projector"}), timeout
    )
