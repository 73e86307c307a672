"""Snapshots of a partition: cut into chunks, put together again, believed only when whole.

A snapshot is the accepted prefix of the journal and nothing else, so a late one, even a zombie's, is old and never wrong;
the one with the highest offset wins. Why they are whole and not one record per execution: docs/adr/0004.
"""

import base64
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator

from handrail_contracts.ids import derive
from handrail_contracts.platform import SnapshotChunk

from handrail_runtime.machine.core import S
from handrail_runtime.machine.ended import EndedIds
from handrail_runtime.machine.partition import PartitionMachine

CHUNK_BYTES = 600_000
KEPT = 3


def take(machine: PartitionMachine[S]) -> list[SnapshotChunk]:
    """The machine's state as chunks. Only for a machine that `is_delivered`."""
    assert machine.is_delivered(), "a snapshot holds what was read back, and nothing else"
    entries = [
        base64.b64encode(state if isinstance(state, bytes) else machine.core.pack(state)).decode()
        for state in machine.states.values()
    ]
    ended = base64.b64encode(b"".join(machine.ended.digests())).decode()
    groups = list(_groups(entries)) or [[]]
    checksum = _checksum(entries, ended)
    offset = machine.next_offset - 1
    return [
        SnapshotChunk(
            snapshot_id=derive("snapshot", machine.owner, machine.epoch, offset),
            fold_version=machine.core.wiring.fold_version,
            partition=machine.partition,
            epoch=machine.filter.epoch,
            next_seq=machine.filter.next_seq,
            offset=offset,
            acknowledged=machine.acknowledged_offset,
            positions=dict(machine.positions),
            beyond={topic: tuple(_runs(offsets)) for topic, offsets in machine.beyond.items()} if not number else {},
            chunk=number,
            chunks=len(groups),
            checksum=checksum,
            entries=tuple(group),
            ended=ended if number == 0 else "",
            chain=machine.chain if machine.core.wiring.chained else "",
        )
        for number, group in enumerate(groups)
    ]


def _runs(offsets: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Runs without a gap, as (first, last)."""
    first = last = -1
    for offset in sorted(offsets):
        if offset != last + 1 or first < 0:
            if first >= 0:
                yield first, last
            first = offset
        last = offset
    if first >= 0:
        yield first, last


def _groups(entries: list[str]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for entry in entries:
        if group and size + len(entry) > CHUNK_BYTES:
            yield group
            group, size = [], 0
        group.append(entry)
        size += len(entry) + 3
    if group:
        yield group


def _checksum(entries: Iterable[str], ended: str) -> str:
    digest = hashlib.sha256(ended.encode())
    for entry in entries:
        digest.update(entry.encode())
    return digest.hexdigest()


def newest(chunks: Iterable[SnapshotChunk], fold_version: int) -> list[SnapshotChunk] | None:
    """The chunks of the newest snapshot that is whole, unharmed and of this fold version, in order."""
    found: dict[str, dict[int, SnapshotChunk]] = defaultdict(dict)
    for chunk in chunks:
        found[chunk.snapshot_id][chunk.chunk] = chunk
    whole = [
        [parts[number] for number in range(len(parts))]
        for parts in found.values()
        if sorted(parts) == list(range(next(iter(parts.values())).chunks))
    ]
    for parts in sorted(whole, key=lambda group: (group[0].offset, group[0].epoch), reverse=True):
        if parts[0].fold_version == fold_version and _is_unharmed(parts):
            return parts
    return None


def _is_unharmed(parts: list[SnapshotChunk]) -> bool:
    entries = [entry for part in parts for entry in part.entries]
    return _checksum(entries, parts[0].ended) == parts[0].checksum


def restore(machine: PartitionMachine[S], parts: list[SnapshotChunk]) -> None:
    """Puts a fresh machine where the snapshot was taken."""
    head = parts[0]
    digests = base64.b64decode(head.ended)
    machine.ended = EndedIds(digests[i : i + 12] for i in range(0, len(digests), 12))
    machine.restore(
        epoch=head.epoch,
        next_seq=head.next_seq,
        offset=head.offset,
        acknowledged=head.acknowledged,
        positions=head.positions,
        beyond={
            topic: {offset for first, last in ranges for offset in range(first, last + 1)}
            for topic, ranges in head.beyond.items()
        },
        chain=head.chain,
    )
    for part in parts:
        for entry in part.entries:
            machine.restore_state(base64.b64decode(entry))
