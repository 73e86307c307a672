"""The workloads. Each is run over the real services; times are the client's."""

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import orjson
from aiokafka import TopicPartition
from handrail_contracts import topics
from handrail_contracts.journal import Fences
from handrail_contracts.topics import EXECUTION_PARTITIONS
from handrail_contracts.workflows import WorkflowDefined
from handrail_projector.feed import connect
from handrail_projector.replay import rebuild
from handrail_runtime.machine.partition import PartitionMachine
from handrail_runtime.machine.recovery import read_to
from handrail_runtime.reader import Reader
from handrail_runtime.settings import Settings
from handrail_runtime.tables import TopicTable
from handrail_scheduler.core import SchedulerCore
from handrail_scheduler.definitions import Definitions

from handrail.bench.client import Client
from handrail.bench.floor import create_topics, throughput, two_hops

Say = Callable[[str], None]
STEPS = 10
ONE_AT_A_TIME = 100
MANY, MANY_STEPS = 2000, 5
WIDTH = 100
SPEAKER, SPEAKERS, SPEAKER_SECONDS, CHUNKS_PER_SECOND = "speaker", (20, 50, 100, 200), 5, 50
WATCHED = 5


@dataclass
class Results:
    """Every figure with its unit in its name."""

    machine: dict[str, Any] = field(default_factory=dict)
    floor: dict[str, float] = field(default_factory=dict)
    w1: dict[str, float] = field(default_factory=dict)
    w2: dict[str, float] = field(default_factory=dict)
    half_load: dict[str, float] = field(default_factory=dict)
    w3: dict[str, float] = field(default_factory=dict)
    w4: dict[str, float] = field(default_factory=dict)
    w5: dict[str, float] = field(default_factory=dict)
    ws: dict[str, float] = field(default_factory=dict)
    approvals: dict[str, float] = field(default_factory=dict)
    replay: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def chain(steps: int) -> dict[str, Any]:
    return {"tasks": [{"agent": "noop", "input": {"before": "{{previous_output}}"}} for _ in range(steps)]}


def fan(width: int) -> dict[str, Any]:
    branches = [f"p{number}" for number in range(width)]
    return {
        "steps": [
            {"step_id": "start", "step_type": "trigger", "parameters": {"kind": "api"}, "next_steps": branches},
            *(
                {
                    "step_id": b,
                    "step_type": "agent_execution",
                    "parameters": {"agent_id": "noop"},
                    "next_steps": ["join"],
                }
                for b in branches
            ),
            {"step_id": "join", "step_type": "data_transform", "parameters": {"output": "joined"}},
        ]
    }


PARKED = {
    "steps": [
        {"step_id": "gate", "step_type": "human_approval", "parameters": {"message": "go on?"}, "next_steps": ["end"]},
        {"step_id": "end", "step_type": "data_transform", "parameters": {"output": "released"}},
    ]
}


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def floor(settings: Settings) -> dict[str, float]:
    await create_topics(settings)
    produced, consumed = await throughput(settings)
    return {"produced_per_s": round(produced), "consumed_per_s": round(consumed)}


async def one_at_a_time(client: Client, settings: Settings) -> dict[str, float]:
    """W1: ten sequential no-op steps, one workflow at a time, in turns with the floor; medians of three after a warm-up."""
    workflow = await client.define("w1", chain(STEPS))
    for _ in range(3 * ONE_AT_A_TIME):
        await client.run(workflow)
    hops, runs = [], []
    for _ in range(3):
        hops.append(await two_hops(settings))
        runs.append(sorted([await client.run(workflow) for _ in range(ONE_AT_A_TIME)]))
    p50 = statistics.median(percentile(run, 0.5) for run in runs) * 1000
    p99 = statistics.median(percentile(run, 0.99) for run in runs) * 1000
    two_hops_p50 = statistics.median(percentile(run, 0.5) for run in hops) * 1000
    return {
        "two_hops_p50_ms": round(two_hops_p50, 3),
        "two_hops_p99_ms": round(statistics.median(percentile(run, 0.99) for run in hops) * 1000, 3),
        "workflow_p50_ms": round(p50, 2),
        "workflow_p99_ms": round(p99, 2),
        "workflow_max_ms": round(max(run[-1] for run in runs) * 1000, 2),
        "step_p50_ms": round(p50 / STEPS, 3),
        "step_in_two_hops": round(p50 / STEPS / two_hops_p50, 2),
        "p99_in_p50": round(p99 / p50, 2),
    }


async def many_at_once(client: Client, settings: Settings) -> dict[str, float]:
    """W2: 2,000 workflows of five sequential steps, as fast as one client can publish."""
    workflow = await client.define("w2", chain(MANY_STEPS))
    await client.wait(await client.start(workflow, MANY))
    rates, lags = [], []
    for _ in range(3):
        began = time.perf_counter()
        started = await client.start(workflow, MANY)
        await client.wait(started)
        ended = time.perf_counter()
        await _projected(settings, workflow, started)
        rates.append(MANY * MANY_STEPS / (ended - began))
        lags.append(time.perf_counter() - ended)
    return {
        "steps_per_s": round(statistics.median(rates)),
        "steps_per_s_min": round(min(rates)),
        "read_models_after_s": round(statistics.median(lags), 3),
    }


async def _projected(settings: Settings, workflow: str, started: list[str]) -> None:
    connection = await connect(settings.database_url, "handrail")
    statement = "SELECT count(*) FROM executions WHERE execution_id = any($1::text[]) AND status = 'completed'"
    try:
        while await connection.fetchval(statement, started) < len(started):
            await asyncio.sleep(0.01)
    finally:
        await connection.close()


async def half_load(
    client: Client, api: httpx2.AsyncClient, steps_per_s: float, seconds: float = 10
) -> dict[str, float]:
    """Half of W2's steps a second, evenly; for some executions, the time from the journal's end to REST saying so."""
    workflow = await client.define("half", chain(MANY_STEPS))
    wanted = int(steps_per_s / 2 / MANY_STEPS * seconds)
    open_: set[str] = set()
    watched: list[asyncio.Task[float]] = []
    began = time.monotonic()
    started = 0
    while started < wanted or open_:
        due = min(wanted, int(wanted * (time.monotonic() - began) / seconds))
        if due > started:
            open_.update(await client.start(workflow, due - started))
            started = due
        for number, (execution_id, ended_at) in enumerate(await client.ended(10)):
            open_.discard(execution_id)
            if number == 0:
                watched.append(asyncio.create_task(_seen_after(api, execution_id, ended_at)))
        if time.monotonic() - began > seconds + 60:
            raise TimeoutError(f"{len(open_)} executions at half load have not ended after a minute")
    lags = sorted(await asyncio.gather(*watched))
    return {
        "steps_per_s": round(started * MANY_STEPS / seconds),
        "watched": len(lags),
        "event_to_rest_p50_ms": round(percentile(lags, 0.5) * 1000, 1),
        "event_to_rest_p99_ms": round(percentile(lags, 0.99) * 1000, 1),
    }


async def _seen_after(api: httpx2.AsyncClient, execution_id: str, ended_at: float) -> float:
    while True:
        answer = await api.get(f"/api/v1/executions/{execution_id}")
        if answer.status_code == 200 and answer.json()["status"] == "completed":
            return time.time() - ended_at
        await asyncio.sleep(0.005)


async def fan_out(client: Client) -> dict[str, float]:
    """W3: one workflow with a hundred parallel steps and a join."""
    workflow = await client.define("w3", fan(WIDTH))
    times = sorted([await client.run(workflow) for _ in range(40)][10:])
    return {"p50_ms": round(percentile(times, 0.5) * 1000, 1), "max_ms": round(times[-1] * 1000, 1)}


async def parked(client: Client, count: int, scheduler_pid: int, settings: Settings) -> dict[str, float]:
    """W4: executions that wait for an approval: memory, the effect on others, and all of them released."""
    gate, w1 = await client.define("w4", PARKED), await client.define("w4-others", chain(STEPS))
    alone = sorted([await client.run(w1) for _ in range(50)])
    before = resident_mb(scheduler_pid)
    ids: list[str] = []
    for first in range(0, count, 5000):
        ids += await client.start(gate, min(5000, count - first))
    await _opened(settings, gate, count)
    await asyncio.sleep(2)
    among = sorted([await client.run(w1) for _ in range(50)])
    after = resident_mb(scheduler_pid)
    began = time.perf_counter()
    await client.approve(gate, ids, "gate")
    await client.wait(ids)
    return {
        "parked": count,
        "scheduler_before_mb": before,
        "scheduler_mb": after,
        "bytes_each": round((after - before) * 1024 * 1024 / count),
        "others_p50_alone_ms": round(percentile(alone, 0.5) * 1000, 2),
        "others_p50_ms": round(percentile(among, 0.5) * 1000, 2),
        "released_per_s": round(count / (time.perf_counter() - began)),
    }


async def _opened(settings: Settings, workflow: str, count: int) -> None:
    connection = await connect(settings.database_url, "handrail")
    try:
        while await connection.fetchval("SELECT count(*) FROM approvals WHERE workflow_id = $1", workflow) < count:
            await asyncio.sleep(0.1)
    finally:
        await connection.close()


async def streams(client: Client, api: httpx2.AsyncClient, settings: Settings, model_url: str) -> dict[str, float]:
    """W5: models that say 50 chunks a second each; the time from the model's chunk to the bus, by how many speak at once,
    and for some of them to the gateway's event stream."""
    workflow = await client.define("w5", {"tasks": [{"agent": SPEAKER, "input": "go on"}]})
    async with httpx2.AsyncClient() as http:
        reply = {"stamps": SPEAKER_SECONDS * CHUNKS_PER_SECOND, "chunk_seconds": 1 / CHUNKS_PER_SECOND}
        (await http.post(f"{model_url}/scripts/{SPEAKER}", json=[reply])).raise_for_status()
    await client.wait(await client.start(workflow, 1))
    found: dict[str, float] = {}
    for speakers in SPEAKERS:
        began = time.perf_counter()
        times, batches, streamed = await _listen(client, api, settings, workflow, speakers)
        found[f"speakers_{speakers}_p50_ms"] = round(percentile(times, 0.5) * 1000, 1)
        found[f"speakers_{speakers}_p95_ms"] = round(percentile(times, 0.95) * 1000, 1)
        found[f"speakers_{speakers}_sse_p95_ms"] = round(percentile(streamed, 0.95) * 1000, 1)
        found[f"speakers_{speakers}_chunks_per_s"] = round(len(times) / (time.perf_counter() - began))
        found[f"speakers_{speakers}_chunks_a_message"] = round(len(times) / batches, 1)
    return found


async def _listen(
    client: Client, api: httpx2.AsyncClient, settings: Settings, workflow: str, speakers: int
) -> tuple[list[float], int, list[float]]:
    """Ages of all chunks as they are read from the bus, in order; how many messages they came in; ages on event streams."""
    reader = await Reader.start(settings, "handrail-bench-streams")
    try:
        places = [TopicPartition(topics.STEP_PROGRESSED, p) for p in range(EXECUTION_PARTITIONS)]
        reader.assign(await reader.end_offsets(places))
        ids = await client.start(workflow, speakers)
        watching = [asyncio.create_task(_watch(api, execution_id)) for execution_id in ids[:WATCHED]]
        times: list[float] = []
        batches, deadline = 0, time.monotonic() + 120
        while len(times) < speakers * SPEAKER_SECONDS * CHUNKS_PER_SECOND and time.monotonic() < deadline:
            for records in (await reader.poll(2000)).values():
                now = time.time()
                for record in records:
                    batches += 1
                    stamps = orjson.loads(record.value or b"{}")["data"].get("content", "").split()
                    times += [now - float(stamp) for stamp in stamps]
        streamed = [age for ages in await asyncio.gather(*watching) for age in ages]
        return sorted(times), batches, sorted(streamed)
    finally:
        await reader.stop()


async def _watch(api: httpx2.AsyncClient, execution_id: str) -> list[float]:
    """Ages of the chunks on an event stream, and that each came once and in order."""
    stamps: list[float] = []
    ages: list[float] = []
    async with api.stream("GET", f"/api/v1/executions/{execution_id}/stream", timeout=120) as response:
        async for line in response.aiter_lines():
            if line == "event: complete":
                break
            if line.startswith("data:") and (content := orjson.loads(line[5:]).get("content")):
                now = time.time()
                stamps += [float(stamp) for stamp in content.split()]
                ages += [now - float(stamp) for stamp in content.split()]
    if stamps != sorted(set(stamps)):
        raise RuntimeError(f"the event stream of {execution_id} repeats words, or mixes them up")
    return ages


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


async def replay(settings: Settings) -> dict[str, float]:
    """R: the whole log into an empty scheduler, and into empty read models."""
    events, seconds = await _fold(settings)
    began = time.perf_counter()
    records = await rebuild(settings, "handrail_bench")
    took = time.perf_counter() - began
    connection = await connect(settings.database_url, "handrail_bench")
    try:
        stored = await connection.fetchval("SELECT coalesce(sum(last_n - first_n + 1), 0) FROM execution_history")
        await connection.execute("DROP SCHEMA handrail_bench CASCADE")
    finally:
        await connection.close()
    return {
        "scheduler_events": events,
        "scheduler_events_per_s": round(events / seconds),
        "read_model_records": records,
        "read_model_events_per_s": round(stored / took),
    }


async def _fold(settings: Settings) -> tuple[int, float]:
    definitions = Definitions()
    table = TopicTable(settings, topics.WORKFLOW_DEFINED, _adder(definitions))
    await table.catch_up()
    core: Any = _Counting(definitions)
    machines = [PartitionMachine(core, p, EXECUTION_PARTITIONS, Fences({})) for p in range(EXECUTION_PARTITIONS)]
    reader = await Reader.start(settings, "handrail-bench-replay")
    places = [TopicPartition(topics.EXECUTION_EVENTS, machine.partition) for machine in machines]
    reader.assign(await reader.begin_offsets(places))
    began = time.perf_counter()
    async for records in read_to(reader, await reader.end_offsets(places)):
        machine = machines[records[0].partition]
        for record in records:
            machine.fold(record.offset, record.headers, record.value)
    seconds = time.perf_counter() - began
    await reader.stop()
    await table.close()
    return core.events, seconds


class _Counting(SchedulerCore):
    events = 0

    def evolve(self, state: Any, event: Any, record: Any) -> None:
        self.events += 1
        super().evolve(state, event, record)


def _adder(definitions: Definitions) -> Callable[[WorkflowDefined], None]:
    return definitions.add


def machine_facts() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "load_before": round(os.getloadavg()[0], 2)}
