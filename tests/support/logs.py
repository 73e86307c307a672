"""Raw records as a checker sees them, and the part of a journal that counts as history."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import aiokafka
from aiokafka import TopicPartition

Json = Mapping[str, Any]
_new_consumer: Any = aiokafka.AIOKafkaConsumer  # the client is untyped
Headers = tuple[tuple[str, bytes], ...]
ACCEPTED = 1
"""What a filter's `take` answers for a record that counts: `handrail_contracts.journal.Verdict.ACCEPTED`."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """`timestamp` is the broker's, in milliseconds since 1970; 0 means unknown."""

    topic: str
    partition: int
    offset: int
    value: bytes | None = None
    key: bytes | None = None
    headers: Headers = ()
    timestamp: int = 0

    def json(self) -> Json | None:
        """The body as an object; None if it is none."""
        try:
            body = json.loads(self.value or b"")
        except ValueError:
            return None
        return body if isinstance(body, dict) else None

    @property
    def place(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


class JournalReader(Protocol):
    """`handrail_contracts.journal.JournalFilter`, or a stand-in."""

    def take(self, offset: int, headers: Headers) -> int: ...


def partitions(records: Iterable[LogRecord]) -> dict[tuple[str, int], list[LogRecord]]:
    """Records by topic and partition, in offset order."""
    found: dict[tuple[str, int], list[LogRecord]] = defaultdict(list)
    for record in records:
        found[record.topic, record.partition].append(record)
    return {place: sorted(found[place], key=lambda r: r.offset) for place in sorted(found)}


def accepted(records: Iterable[LogRecord], new_filter: Callable[[], JournalReader]) -> Iterator[LogRecord]:
    """The records of a journal that are history: one filter per partition, in offset order."""
    for sequence in partitions(records).values():
        reader = new_filter()
        yield from (r for r in sequence if reader.take(r.offset, r.headers) == ACCEPTED)


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of the accepted journal, with what its record said."""

    execution_id: str
    event: Json
    record: LogRecord
    at: float
    source: Json

    @property
    def by_timer(self) -> bool:
        return self.source.get("topic") == "timer"

    @property
    def type(self) -> str:
        return str(self.event.get("type", ""))

    @property
    def n(self) -> int:
        return int(self.event.get("n", 0))

    @property
    def written(self) -> float | None:
        """When the record was sent to the broker, in seconds since 1970."""
        return self.record.timestamp / 1000 if self.record.timestamp else None

    def steps(self) -> Sequence[str]:
        """The steps that this event is about."""
        if "step_ids" in self.event:
            return tuple(self.event["step_ids"])
        return (self.event["step_id"],) if self.event.get("step_id") else ()


def seconds(moment: str | float | None) -> float:
    """Seconds since 1970 of an ISO 8601 text or a number; 0 for none."""
    return datetime.fromisoformat(moment).timestamp() if isinstance(moment, str) else float(moment or 0)


def entries(record: LogRecord, body: Json) -> Iterator[Entry]:
    for event in body.get("events", ()):
        execution_id, at = str(body.get("execution_id", "")), seconds(body.get("at"))
        yield Entry(execution_id, event, record, at, body.get("source") or {})


async def read_log(brokers: str, *topics: str) -> list[LogRecord]:
    """Every record that the topics hold now, by partition and offset. Reads uncommitted: nothing is hidden."""
    consumer: Any = _new_consumer(
        bootstrap_servers=brokers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_bytes=16 * 1024 * 1024,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    await consumer.start()
    try:
        places = [TopicPartition(t, p) for t in topics for p in sorted(await _partitions_of(consumer, t))]
        ends = await consumer.end_offsets(places)
        consumer.assign(places)
        for place, begin in (await consumer.beginning_offsets(places)).items():
            consumer.seek(place, begin)
        found: list[LogRecord] = []
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                found += [_from_client(r) for r in batch if r.offset < ends[TopicPartition(r.topic, r.partition)]]
    finally:
        await consumer.stop()
    return sorted(found, key=lambda r: (r.topic, r.partition, r.offset))


async def _partitions_of(consumer: Any, topic: str) -> set[int]:
    await consumer._client._wait_on_metadata(topic)  # aiokafka has no public way to ask about one topic
    found = consumer.partitions_for_topic(topic)
    if not found:
        raise LookupError(f"the broker has no topic {topic!r}")
    return set(found)


def _from_client(record: Any) -> LogRecord:
    headers = tuple((name, value) for name, value in record.headers)
    return LogRecord(record.topic, record.partition, record.offset, record.value, record.key, headers, record.timestamp)
