"""Journals as scheduler and approvals write them, for tests in which neither runs."""

from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from handrail_contracts.codec import encode
from handrail_contracts.ids import partition_of
from handrail_contracts.journal import JournalFilter, Record, Verdict, claim_header, record_header
from handrail_contracts.topics import EXECUTION_PARTITIONS
from handrail_runtime import bus
from handrail_runtime.settings import Settings


async def read_whole(settings: Settings, place: TopicPartition) -> list[Any]:
    """Every record of a partition."""
    reader: Any = await bus.start_reader(settings, "test-look", max_wait_ms=20)
    try:
        end = (await bus.end_offsets(reader, [place]))[place]
        reader.assign([place])
        reader.seek(place, (await bus.begin_offsets(reader, [place]))[place])
        found: list[Any] = []
        while await reader.position(place) < end:
            for records in (await reader.getmany(place, timeout_ms=100)).values():
                found += records
        return found
    finally:
        await bus.stop(reader)


@dataclass
class Journal:
    """One journal topic, written as its owner writes it: a claim first, then records in sequence."""

    settings: Settings
    producer: Any
    topic: str
    _filters: dict[int, JournalFilter] = field(default_factory=dict)

    async def append(self, key: str, record: Record) -> None:
        partition = partition_of(key, EXECUTION_PARTITIONS)
        if partition not in self._filters:
            await self.claim(partition)
        state = self._filters[partition]
        header = record_header(state.epoch, state.next_seq)
        sent = await self.producer.send_and_wait(self.topic, encode(record), key.encode(), partition, headers=[header])
        assert state.take(sent.offset, [header]) is Verdict.ACCEPTED

    async def claim(self, partition: int) -> None:
        state = self._filters[partition] = JournalFilter()
        for record in await read_whole(self.settings, TopicPartition(self.topic, partition)):
            state.take(record.offset, record.headers)
        header = claim_header(state.epoch, "test")
        sent = await self.producer.send_and_wait(self.topic, b"{}", b"claim", partition, headers=[header])
        assert state.take(sent.offset, [header]) is Verdict.CLAIM

    async def foreign(self, key: str, value: bytes, epoch: int = -7) -> None:
        """A record of an owner that was fenced out: no reader may take it."""
        partition = partition_of(key, EXECUTION_PARTITIONS)
        await self.producer.send_and_wait(self.topic, value, key.encode(), partition, headers=[record_header(epoch, 0)])
