"""From nothing to a claimed partition: snapshot, journal, fence, claim. Numbered as in docs/architecture.md."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Generic

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from handrail_contracts.codec import DecodeError, decode, encode
from handrail_contracts.journal import Fences
from handrail_contracts.platform import Fence, SnapshotChunk
from handrail_contracts.topics import FENCES, catalogue

from handrail_runtime.errors import JournalRegressed
from handrail_runtime.machine import snapshots
from handrail_runtime.machine.core import Core, S
from handrail_runtime.machine.partition import PartitionMachine
from handrail_runtime.reader import Reader
from handrail_runtime.settings import Settings
from handrail_runtime.telemetry import CLAIMS
from handrail_runtime.writer import Parcel, Writer, deliver

log = structlog.get_logger()
Records = list[ConsumerRecord[Any, Any]]


async def read_to(reader: Reader, ends: dict[TopicPartition, int]) -> AsyncIterator[Records]:
    """Batches of the assigned partitions until each has reached its end; one await per batch keeps the loop alive."""
    while any(reader.position(tp) < end for tp, end in ends.items()):
        for records in (await reader.poll(1000)).values():
            yield records
        await asyncio.sleep(0)


async def read_fences(settings: Settings, service: str) -> Fences:
    """All fences there are now."""
    fences = Fences({})
    reader = await Reader.start(settings, f"handrail-{service}-fences")
    try:
        partitions = [TopicPartition(FENCES, 0)]
        reader.assign(await reader.begin_offsets(partitions))
        async for records in read_to(reader, await reader.end_offsets(partitions)):
            for record in records:
                observe_fence(fences, record)
    finally:
        await reader.stop()
    return fences


def observe_fence(fences: Fences, record: ConsumerRecord[Any, Any]) -> None:
    """Takes in a record of the fences topic; one that is no fence concerns nobody."""
    try:
        fences.observe(record.headers)
    except ValueError as error:
        log.warning("fence_unreadable", offset=record.offset, error=str(error))


class Recovery(Generic[S]):
    """Brings partitions up, together, so that their fences share their round trips."""

    def __init__(
        self,
        core: Core[S],
        settings: Settings,
        writer: Writer,
        fences: Fences,
        wanted: Callable[[int], bool],
    ) -> None:
        self._core, self._settings, self._writer, self._fences = core, settings, writer, fences
        self._wanted = wanted
        self._machines: dict[int, PartitionMachine[S]] = {}

    async def run(self, partitions: Iterable[int]) -> dict[int, PartitionMachine[S]]:
        """Claimed machines of those partitions that are still wanted at the end."""
        count = catalogue()[self._core.wiring.journal].partitions
        self._machines = {p: PartitionMachine(self._core, p, count, self._fences) for p in partitions}
        reader = await Reader.start(self._settings, f"handrail-{self._core.wiring.service}-recovery")
        try:
            await self._load_snapshots(reader)
            await self._begin_journal(reader)
            unclaimed = set(self._machines)
            while unclaimed:
                unclaimed = {p for p in unclaimed if self._wanted(p)}
                await self._fold_to_end(reader)
                unclaimed -= await self._claim(reader, unclaimed)
        finally:
            await reader.stop()
        return {p: machine for p, machine in self._machines.items() if self._wanted(p)}

    async def _load_snapshots(self, reader: Reader) -> None:
        topic = self._core.wiring.snapshots
        partitions = [TopicPartition(topic, p) for p in self._machines]
        reader.assign(await reader.begin_offsets(partitions))
        chunks: dict[int, list[SnapshotChunk]] = {p: [] for p in self._machines}
        async for records in read_to(reader, await reader.end_offsets(partitions)):
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

    async def _begin_journal(self, reader: Reader) -> None:
        partitions = [TopicPartition(self._core.wiring.journal, p) for p in self._machines]
        begins, ends = await reader.begin_offsets(partitions), await reader.end_offsets(partitions)
        for partition in partitions:
            start = self._machines[partition.partition].next_offset
            if not begins[partition] <= start <= ends[partition]:
                raise JournalRegressed(
                    f"{partition.topic} partition {partition.partition} holds offsets {begins[partition]} to "
                    f"{ends[partition]}, but its state continues at {start}: the topic was recreated, shortened or "
                    "trimmed too far. Restore the topic, or remove the snapshots if the journal is whole."
                )
        reader.assign({partition: self._machines[partition.partition].next_offset for partition in partitions})

    async def _fold_to_end(self, reader: Reader) -> None:
        partitions = [TopicPartition(self._core.wiring.journal, p) for p in self._machines]
        async for records in read_to(reader, await reader.end_offsets(partitions)):
            machine = self._machines[records[0].partition]
            for record in records:
                machine.fold(record.offset, record.headers, record.value)

    async def _claim(self, reader: Reader, partitions: set[int]) -> set[int]:
        """One attempt for each partition: fence first, then the claim; returns those whose claim counted."""
        machines = [self._machines[p] for p in sorted(partitions)]
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
        if parcels:
            await deliver(self._writer, parcels, self._settings.send_timeout_seconds)

    async def _append_claims(self, machines: list[PartitionMachine[S]]) -> dict[int, int]:
        claims = []
        for machine in machines:
            headers, value = machine.claim(secrets.token_hex(8))
            parcel = Parcel(self._core.wiring.journal, "", value, headers, machine.partition)
            claims.append(deliver(self._writer, [parcel], self._settings.send_timeout_seconds))
        offsets = await asyncio.gather(*claims)
        return {machine.partition: offset for machine, offset in zip(machines, offsets, strict=True)}
