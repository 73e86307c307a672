"""From nothing to a claimed partition: snapshot, journal, fence, claim. Numbered as in docs/architecture.md."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Generic

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from handrail_contracts.codec import DecodeError, decode, encode
from handrail_contracts.journal import Fences
from handrail_contracts.platform import Fence, SnapshotChunk
from handrail_contracts.topics import FENCES, catalogue

from handrail_runtime import bus
from handrail_runtime.errors import JournalRegressed
from handrail_runtime.machine import snapshots
from handrail_runtime.machine.core import Core, S
from handrail_runtime.machine.partition import PartitionMachine
from handrail_runtime.outbox import Parcel, await_all, send_batches
from handrail_runtime.settings import Settings
from handrail_runtime.telemetry import CLAIMS

log = structlog.get_logger()
Records = list[ConsumerRecord[Any, Any]]


async def read_to(reader: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> AsyncIterator[Records]:
    """Batches of the assigned partitions until each has reached its end; one await per batch keeps the loop alive."""
    while True:
        behind = [tp for tp, end in ends.items() if await reader.position(tp) < end]
        if not behind:
            return
        fetched = await reader.getmany(timeout_ms=1000, max_records=1000)
        for records in fetched.values():
            yield records
        await asyncio.sleep(0)


async def read_fences(settings: Settings, service: str) -> Fences:
    """All fences there are now."""
    fences = Fences({})
    reader = await bus.start_reader(settings, f"handrail-{service}-fences", max_wait_ms=50)
    try:
        partition = TopicPartition(FENCES, 0)
        reader.assign([partition])
        await seek_to_begin(reader, [partition])
        async for records in read_to(reader, await bus.end_offsets(reader, [partition])):
            for record in records:
                observe_fence(fences, record)
    finally:
        await bus.stop(reader)
    return fences


def observe_fence(fences: Fences, record: ConsumerRecord[Any, Any]) -> None:
    """Takes in a record of the fences topic; one that is no fence concerns nobody."""
    try:
        fences.observe(record.headers)
    except ValueError as error:
        log.warning("fence_unreadable", offset=record.offset, error=str(error))


async def seek_to_begin(reader: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    begins = await bus.begin_offsets(reader, list(partitions))
    for partition, offset in begins.items():
        reader.seek(partition, offset)
    return begins


class Recovery(Generic[S]):
    """Brings partitions up, together, so that their fences share their round trips."""

    def __init__(
        self,
        core: Core[S],
        settings: Settings,
        producer: AIOKafkaProducer,
        fences: Fences,
        wanted: Callable[[int], bool],
    ) -> None:
        self._core, self._settings, self._producer, self._fences = core, settings, producer, fences
        self._wanted = wanted
        self._machines: dict[int, PartitionMachine[S]] = {}

    async def run(self, partitions: Iterable[int]) -> dict[int, PartitionMachine[S]]:
        """Claimed machines of those partitions that are still wanted at the end."""
        count = catalogue()[self._core.wiring.journal].partitions
        self._machines = {p: PartitionMachine(self._core, p, count, self._fences) for p in partitions}
        reader = await bus.start_reader(
            self._settings, f"handrail-{self._core.wiring.service}-recovery", max_wait_ms=20
        )
        try:
            await self._load_snapshots(reader)
            await self._begin_journal(reader)
            unclaimed = set(self._machines)
            while unclaimed:
                unclaimed = {p for p in unclaimed if self._wanted(p)}
                await self._fold_to_end(reader)
                unclaimed -= await self._claim(reader, unclaimed)
        finally:
            await bus.stop(reader)
        return {p: machine for p, machine in self._machines.items() if self._wanted(p)}

    async def _load_snapshots(self, reader: AIOKafkaConsumer) -> None:
        topic = self._core.wiring.snapshots
        partitions = [TopicPartition(topic, p) for p in self._machines]
        reader.assign(partitions)
        await seek_to_begin(reader, partitions)
        chunks: dict[int, list[SnapshotChunk]] = {p: [] for p in self._machines}
        async for records in read_to(reader, await bus.end_offsets(reader, partitions)):
            for record in records:
                try:
                    chunks[record.partition].append(decode(topic, record.value))
                except DecodeError as error:
                    log.warning(
                        "snapshot_unreadable", partition=record.partition, offset=record.offset, error=str(error)
                    )
        for p, machine in self._machines.items():
            parts = snapshots.newest(chunks[p], self._core.wiring.fold_version)
            if parts is not None:
                snapshots.restore(machine, parts)

    async def _begin_journal(self, reader: AIOKafkaConsumer) -> None:
        partitions = [TopicPartition(self._core.wiring.journal, p) for p in self._machines]
        reader.assign(partitions)
        begins, ends = await bus.begin_offsets(reader, partitions), await bus.end_offsets(reader, partitions)
        for partition in partitions:
            start = self._machines[partition.partition].next_offset
            if not begins[partition] <= start <= ends[partition]:
                raise JournalRegressed(
                    f"{partition.topic} partition {partition.partition} holds offsets {begins[partition]} to "
                    f"{ends[partition]}, but its state continues at {start}: the topic was recreated, shortened or "
                    "trimmed too far. Restore the topic, or remove the snapshots if the journal is whole."
                )
            reader.seek(partition, start)

    async def _fold_to_end(self, reader: AIOKafkaConsumer) -> None:
        partitions = [TopicPartition(self._core.wiring.journal, p) for p in self._machines]
        async for records in read_to(reader, await bus.end_offsets(reader, partitions)):
            machine = self._machines[records[0].partition]
            for record in records:
                machine.fold(record.offset, record.headers, record.value)

    async def _claim(self, reader: AIOKafkaConsumer, partitions: set[int]) -> set[int]:
        """One attempt for each partition: fence first, then the claim; returns those whose claim counted."""
        machines = [self._machines[p] for p in sorted(partitions)]
        if "no_fence" not in self._settings.faults:
            await self._fence(machines)
        offsets = await self._append_claims(machines)
        await self._fold_to_end(reader)
        counted = {machine.partition for machine in machines if machine.claimed(offsets[machine.partition])}
        CLAIMS.labels(self._core.wiring.service, "counted").inc(len(counted))
        CLAIMS.labels(self._core.wiring.service, "lost").inc(len(machines) - len(counted))
        return counted

    async def _fence(self, machines: list[PartitionMachine[S]]) -> None:
        """The compacted topic first: it tells those who come later, and owners whose epoch ends here."""
        stamps = [machine.fence_stamp() for machine in machines]
        fences = [
            Parcel(FENCES, stamp.owner, encode(Fence(owner=stamp.owner, epoch=stamp.epoch)), [stamp.fence_header()], 0)
            for stamp in stamps
        ]
        await self._send(fences)
        parcels: list[Parcel] = []
        for topic in self._core.wiring.commands:
            for machine, stamp in zip(machines, stamps, strict=True):
                everywhere = range(catalogue()[topic.name].partitions)
                for p in everywhere if topic.spread else (machine.partition,):
                    parcels.append(Parcel(topic.name, stamp.owner, b"{}", [stamp.fence_header()], p))
        await self._send(parcels)

    async def _send(self, parcels: list[Parcel]) -> None:
        by_partition: dict[tuple[str, int], list[Parcel]] = {}
        for parcel in parcels:
            by_partition.setdefault((parcel.topic, parcel.partition or 0), []).append(parcel)
        futures: list[asyncio.Future[Any]] = []
        for (topic, partition), group in by_partition.items():
            futures += await send_batches(self._producer, topic, partition, group)
        if futures:
            await await_all(futures, self._settings.send_timeout_seconds)

    async def _append_claims(self, machines: list[PartitionMachine[S]]) -> dict[int, int]:
        futures: dict[int, asyncio.Future[Any]] = {}
        for machine in machines:
            headers, value = machine.claim(secrets.token_hex(8))
            parcel = Parcel(self._core.wiring.journal, "", value, headers)
            [futures[machine.partition]] = await send_batches(
                self._producer, self._core.wiring.journal, machine.partition, [parcel]
            )
        if futures:
            await await_all(list(futures.values()), self._settings.send_timeout_seconds)
        return {p: future.result().offset for p, future in futures.items()}
