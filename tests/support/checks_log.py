"""Jepsen's checks of a Kafka log: what producers were told and consumers saw, against what the log finally holds."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from support.findings import Violation
from support.history import Outcome
from support.logs import LogRecord

Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Send:
    """One send in the order in which its producer made it. `offset` is what an acknowledgement said."""

    producer: str
    id: str
    topic: str
    partition: int
    outcome: Outcome
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """One record that a reader was handed, in order; a new `session` follows each (re)assignment or seek."""

    reader: str
    id: str
    topic: str
    partition: int
    offset: int
    session: int = 0


def record_id(record: LogRecord) -> str:
    """The `event_id` of a JSON body, else the key: what identifies a record in sends and reads."""
    body = record.json()
    return str(body["event_id"]) if body and "event_id" in body else (record.key or b"").decode(errors="replace")


def check_log(
    log: Iterable[LogRecord], sends: Sequence[Send] = (), reads: Sequence[Read] = (), *, everything_read: bool = False
) -> Iterator[Violation]:
    """All rules of this module. `everything_read`: the readers together had time to see the whole log."""
    held: dict[Place, dict[int, str]] = defaultdict(dict)
    for record in log:
        held[record.topic, record.partition][record.offset] = record_id(record)
    yield from _sends(sends, held)
    yield from _send_order(sends)
    yield from _reads(reads, held)
    if everything_read:
        yield from _unseen(reads, held)


def _sends(sends: Sequence[Send], held: Mapping[Place, Mapping[int, str]]) -> Iterator[Violation]:
    found: dict[str, list[tuple[Place, int]]] = defaultdict(list)
    for place, records in held.items():
        for offset, identity in records.items():
            found[identity].append((place, offset))
    for send in sends:
        places = found.get(send.id, [])
        if len(places) > 1:
            yield Violation("duplicate_write", "", f"{send.id} was sent once and is at {places}")
        if send.outcome == "fail" and places:
            yield Violation("failed_write_visible", "", f"{send.id} was refused and is at {places}")
        if send.outcome != "ok":
            continue
        if not places:
            yield Violation("lost_write", "", f"{send.id} was acknowledged at offset {send.offset} and is nowhere")
        elif send.offset is not None and ((send.topic, send.partition), send.offset) not in places:
            yield Violation("moved_write", "", f"{send.id} was acknowledged at {send.offset} and is at {places}")


def _send_order(sends: Sequence[Send]) -> Iterator[Violation]:
    last: dict[tuple[str, Place], int] = {}
    for send in sends:
        if send.outcome != "ok" or send.offset is None:
            continue
        lane = (send.producer, (send.topic, send.partition))
        if send.offset <= last.get(lane, -1):
            yield Violation("send_order", "", f"{send.id} of {send.producer} is at {send.offset}, behind {last[lane]}")
        last[lane] = send.offset


def _reads(reads: Sequence[Read], held: Mapping[Place, Mapping[int, str]]) -> Iterator[Violation]:
    last: dict[tuple[str, int, Place], int] = {}
    for read in reads:
        place = (read.topic, read.partition)
        records = held.get(place, {})
        if records.get(read.offset) != read.id:
            detail = f"{read.reader} saw {read.id} at {place}@{read.offset}, the log holds {records.get(read.offset)}"
            yield Violation("inconsistent_read", "", detail)
        lane = (read.reader, read.session, place)
        before = last.get(lane)
        last[lane] = read.offset
        if before is None:
            continue
        if read.offset <= before:
            yield Violation("read_order", "", f"{read.reader} saw {place}@{read.offset} after {before}")
        skipped = [offset for offset in range(before + 1, read.offset) if offset in records]
        if skipped:
            yield Violation(
                "read_gap", "", f"{read.reader} went from {place}@{before} to {read.offset} past {skipped[:5]}"
            )


def _unseen(reads: Sequence[Read], held: Mapping[Place, Mapping[int, str]]) -> Iterator[Violation]:
    seen = {((read.topic, read.partition), read.offset) for read in reads}
    for place, records in held.items():
        missed = [offset for offset in records if (place, offset) not in seen]
        if missed:
            yield Violation("unseen_write", "", f"nobody read {len(missed)} records of {place}: {missed[:5]}")
