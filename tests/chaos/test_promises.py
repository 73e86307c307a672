"""The promises as figures (R1 to R10), at a scale that CI can run; `make chaos` runs them larger."""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import TopicPartition
from chaos.conftest import Platform
from chaos.figures import percentile, tell
from chaos.test_faults import require_promises, require_read_models_equal_replay, restart_broker, restart_database
from chaos.test_poison import POISON
from handrail_contracts import topics
from handrail_contracts.journal import JournalFilter, Verdict
from handrail_contracts.topics import EXECUTION_PARTITIONS
from handrail_runtime.reader import Reader
from handrail_runtime.settings import Settings
from support.logs import Entry, accepted, entries, read_log, seconds
from support.processes import SERVICES

pytestmark = pytest.mark.chaos

LARGE = "HANDRAIL_CHAOS_EXECUTIONS" in os.environ
KILLS = 40 if LARGE else 6
COPIES = 33_333 if LARGE else 3_000
TIMERS = 10_000 if LARGE else 500


async def test_many_kills_in_a_row_lose_nothing(platform: Platform) -> None:
    """R1, R2, R3: while work keeps coming, one after another dies."""
    chance = random.Random(KILLS)
    accepted_before = len(platform.load.started)
    database_restarts = broker_kills = 0
    began = time.monotonic()
    for number in range(KILLS):
        await platform.load.start(30)
        if LARGE and number % 10 == 9:
            broker_kills += 1
            await restart_broker(platform)
        elif number % 5 == 4:
            database_restarts += 1
            await restart_database(platform)
        else:
            process = platform.cluster.get(chance.choice(SERVICES))
            if process.running:
                process.kill()
        await asyncio.sleep(chance.uniform(0.2, 1.5))
    await platform.load.settle()
    await platform.cluster.ready()
    await require_promises(platform, cut_off=broker_kills > 0, struck=began, lasting=time.monotonic() - began)
    await require_read_models_equal_replay(platform)
    tell(
        "R1 R2 R3 kills in a row",
        f"{KILLS} ({database_restarts} of the database, {broker_kills} of the broker): "
        f"{len(platform.load.started) - accepted_before} accepted, 0 lost, 0 wrong, 0 silent repeats",
    )


async def test_a_copy_of_everything_arrives_once_and_in_order(platform: Platform) -> None:
    """R4: starts in, ends out, through bounces; somebody reads along the whole time, as every reader of a journal does."""
    seen: dict[int, list[str]] = {p: [] for p in range(EXECUTION_PARTITIONS)}
    reading = asyncio.create_task(_follow(platform, seen))
    bounces: list[Callable[[Platform], Awaitable[Any]]] = [_kill_scheduler, _stop_scheduler]
    if LARGE:
        bounces = [*bounces, restart_broker, _stop_broker] * 3
    ids: list[str] = []
    for bounce in bounces:
        ids += await platform.load.start(COPIES // len(bounces), ["copy"])
        await asyncio.sleep(0.2)
        await bounce(platform)
    await platform.load.settle()
    async with asyncio.timeout(30):
        while sum(map(len, seen.values())) < len(ids):
            await asyncio.sleep(0.05)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    log = await read_log(platform.broker.bootstrap, topics.WORKFLOW_STARTED)
    wanted = set(ids)
    for partition in range(EXECUTION_PARTITIONS):
        sent = [(r.key or b"").decode() for r in log if r.partition == partition and (r.key or b"").decode() in wanted]
        assert seen[partition] == sent
    tell("R4 copy test", f"{len(ids)} records, {len(bounces)} bounces: sets and order equal, no duplicate seen")


async def _follow(platform: Platform, seen: dict[int, list[str]]) -> None:
    reader = await Reader.start(Settings(brokers=platform.broker.bootstrap), "test-follower")
    try:
        places = [TopicPartition(topics.EXECUTION_EVENTS, p) for p in seen]
        filters = {p: JournalFilter() for p in seen}
        reader.assign(await reader.begin_offsets(places))
        while True:
            for tp, records in (await reader.poll()).items():
                for record in records:
                    if filters[tp.partition].take(record.offset, record.headers) is not Verdict.ACCEPTED:
                        continue
                    value = record.value or b""
                    if b'"step_id":"copy"' in value and b"execution.completed" in value:
                        seen[tp.partition].append((record.key or b"").decode())
    finally:
        await reader.stop()


async def _kill_scheduler(platform: Platform) -> None:
    platform.cluster.kill("scheduler")


async def _stop_scheduler(platform: Platform) -> None:
    await platform.cluster.get("scheduler").shut_down()


async def _stop_broker(platform: Platform) -> None:
    await asyncio.to_thread(platform.broker.stop)
    platform.broker.start()
    await asyncio.to_thread(platform.broker.wait_ready)


async def test_timers_are_never_early(platform: Platform) -> None:
    """R9: many due at once; and once more while the scheduler is away when they are."""
    ids = await platform.load.start(TIMERS, ["delayed"])
    await platform.load.settle()
    late = await _lateness(platform, ids)
    tell(
        f"R9 {TIMERS} timers due at once",
        f"0 early, p99 {percentile(late, 0.99) * 1000:.0f} ms late, last {max(late) * 1000:.0f} ms",
    )
    ids = await platform.load.start(TIMERS // 5, ["delayed"])
    await asyncio.sleep(0.7)
    platform.cluster.kill("scheduler")
    await platform.load.settle()
    late = await _lateness(platform, ids)
    tell("R9 timers due while the scheduler is dead", f"0 early, last {max(late):.2f} s late")


async def _lateness(platform: Platform, ids: list[str]) -> list[float]:
    chosen, due, late = set(ids), dict[str, float](), list[float]()
    for entry in await _journal(platform):
        if entry.execution_id not in chosen or entry.event.get("step_id") != "wait":
            continue
        if entry.type == "step.started":
            due[entry.execution_id] = seconds(entry.event["wake_at"])
        elif entry.type == "step.completed":
            late.append(entry.at - due[entry.execution_id])
    assert len(late) == len(ids)
    assert min(late) >= 0
    return late


async def _journal(platform: Platform) -> list[Entry]:
    records = await read_log(platform.broker.bootstrap, topics.EXECUTION_EVENTS)
    return [entry for r in accepted(records, JournalFilter) for entry in entries(r, r.json() or {})]


async def test_poison_delays_nobody(platform: Platform) -> None:
    """R10: executions one by one, while every partition gets records that nobody can read."""
    ids: list[str] = []
    for number in range(40):
        for value in POISON.values():
            for topic in (topics.WORKFLOW_STARTED, topics.AGENT_EXECUTED, topics.STEP_REQUESTED):
                await platform.load.put(topic, value, partition=number % EXECUTION_PARTITIONS)
        ids += await platform.load.start(1, ["copy"])
    await platform.load.settle()
    log = await read_log(platform.broker.bootstrap, topics.WORKFLOW_STARTED)
    sent = {(r.key or b"").decode(): r.timestamp / 1000 for r in log}
    ended = {e.execution_id: e.at for e in await _journal(platform) if e.type == "execution.completed"}
    tell("R10 executions among poison", f"slowest {max(ended[i] - sent[i] for i in ids) * 1000:.0f} ms")
