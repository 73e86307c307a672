"""Taking partitions of commands over: where to go on, and what was answered already."""

import time
from dataclasses import dataclass

from aiokafka import TopicPartition
from handrail_contracts import topics
from handrail_contracts.codec import DecodeError, decode
from handrail_contracts.steps import AgentExecuted
from handrail_runtime.machine.recovery import read_to
from handrail_runtime.positions import Positions
from handrail_runtime.reader import Reader
from handrail_runtime.settings import Settings

from handrail_agent_runner.answered import CAPACITY, Answered, attempt_key
from handrail_agent_runner.conversation import CLOCKS_APART_MS


@dataclass(frozen=True, slots=True)
class Start:
    """Where to go on. Commands before `end` may have been begun by the runner before."""

    offset: int
    end: int


async def find_starts(
    reader: Reader, positions: Positions, partitions: set[int]
) -> tuple[dict[int, Start], dict[int, str]]:
    """Where to go on, and the reason for each partition where nobody can: it is never reset by itself."""
    tps = [TopicPartition(topics.STEP_REQUESTED, p) for p in sorted(partitions)]
    begins, ends = await reader.begin_offsets(tps), await reader.end_offsets(tps)
    committed = await positions.committed(tps)
    starts, stopped = {}, {}
    for tp in tps:
        start = committed.get(tp, begins[tp])
        if begins[tp] <= start <= ends[tp]:
            starts[tp.partition] = Start(start, ends[tp])
        else:
            stopped[tp.partition] = out_of_range(tp.partition, start, f"holds offsets {begins[tp]} to {ends[tp]}")
    return starts, stopped


def out_of_range(partition: int, start: int, found: str) -> str:
    return (
        f"{topics.STEP_REQUESTED} partition {partition} stands still: it {found}, but the runner continues at {start}. "
        "Commands were removed before they were carried out, or the topic was recreated. Reset the offsets of the "
        "runner's group for it and restart; a scheduler requests what is outstanding again when it restarts."
    )


async def learn_answers(settings: Settings, starts: dict[int, Start], answered: Answered) -> None:
    """What was answered since the oldest command that will be read again, the latest `CAPACITY` answers at most."""
    reader = await Reader.start(settings, "handrail-agent-runner-recent")
    try:
        since = await _oldest_uncommitted(reader, starts)
        if since is None:
            return
        tps = [TopicPartition(topics.AGENT_EXECUTED, p) for p in range(topics.EXECUTION_PARTITIONS)]
        ends, found = await reader.end_offsets(tps), await reader.offsets_at(tps, since)
        places = {tp: max(at, ends[tp] - CAPACITY // len(tps)) for tp, at in found.items() if at >= 0}
        reader.assign(places)
        async for records in read_to(reader, {tp: ends[tp] for tp in places}):
            for record in records:
                _learn(record.value, answered)
    finally:
        await reader.stop()


def _learn(value: bytes | None, answered: Answered) -> None:
    try:
        message = decode(topics.AGENT_EXECUTED, value)
    except DecodeError:
        return
    if isinstance(message, AgentExecuted):
        answered.learn(attempt_key(message.run_id, message.attempt))


async def _oldest_uncommitted(reader: Reader, starts: dict[int, Start]) -> int | None:
    """Time stamp in milliseconds; none if nothing will be read again."""
    tps = {TopicPartition(topics.STEP_REQUESTED, p): start.offset for p, start in starts.items()}
    ends = await reader.end_offsets(tps)
    waiting = {tp: start for tp, start in tps.items() if start < ends[tp]}
    if not waiting:
        return None
    oldest, deadline = int(time.time() * 1000), time.monotonic() + 5
    while waiting and time.monotonic() < deadline:
        reader.assign(waiting)
        for tp, records in (await reader.poll(100)).items():
            oldest = min(oldest, records[0].timestamp)
            del waiting[tp]
    return 0 if waiting else max(0, oldest - CLOCKS_APART_MS)
