"""Kill, pause, restart while hundreds of executions are in flight: the promises hold, by the checker's 28 rules.

The number of executions is `HANDRAIL_CHAOS_EXECUTIONS`; 500 is what the promises are stated for, CI takes fewer.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from chaos.conftest import Platform
from chaos.figures import tell
from handrail_contracts import topics
from handrail_contracts.journal import JournalFilter
from handrail_projector.replay import rebuild, table_hashes
from handrail_runtime.settings import Settings
from support.checker import Evidence, check
from support.effects import load_effects
from support.logs import read_log
from support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.chaos
EXECUTIONS = int(os.environ.get("HANDRAIL_CHAOS_EXECUTIONS", "150"))
SESSION_SECONDS = 6.0

Fault = Callable[[Platform], Awaitable[None]]


def killing(service: str) -> Fault:
    async def fault(platform: Platform) -> None:
        platform.cluster.kill(service)

    return fault


async def kill_everything(platform: Platform) -> None:
    platform.cluster.kill_all()


async def zombie(platform: Platform) -> None:
    """A scheduler stands still for longer than its session; another takes over; then it wakes."""
    second = await platform.cluster.add("scheduler")
    first = platform.cluster.get("scheduler")
    first.stop()
    await asyncio.sleep(SESSION_SECONDS * 1.5)
    first.cont()
    await asyncio.sleep(1)
    assert second.running
    await platform.cluster.remove("scheduler", 1)


async def restart_broker(platform: Platform) -> None:
    await asyncio.to_thread(platform.broker.kill)
    platform.broker.start()
    await asyncio.to_thread(platform.broker.wait_ready)


async def restart_database(platform: Platform) -> None:
    await asyncio.to_thread(platform.database.kill)
    platform.database.start()
    await asyncio.to_thread(platform.database.wait_ready)


async def cut_the_projector_off(platform: Platform) -> None:
    """Its connection breaks again and again, each time after the database got a COMMIT and before the projector knows."""
    direct = platform.database.url
    where = urlsplit(direct)
    async with TcpProxy(f"{where.hostname}:{where.port}") as proxy:
        cut = proxy.cut_at(b"COMMIT", times=5)
        proxied = direct.replace(f"{where.hostname}:{where.port}", proxy.address)
        await platform.cluster.restart("projector", env={"HANDRAIL_DATABASE_URL": proxied})
        for number in range(5):
            await platform.load.start(EXECUTIONS // 10)
            await cut.hit(number + 1)
        await platform.cluster.restart("projector", env={"HANDRAIL_DATABASE_URL": direct})


async def schedulers_come_and_go(platform: Platform) -> None:
    await platform.cluster.add("scheduler")
    await platform.cluster.add("scheduler")
    await platform.load.start(EXECUTIONS // 5)
    await platform.cluster.remove("scheduler", 1)
    await platform.load.start(EXECUTIONS // 5)
    await platform.cluster.remove("scheduler", 2)


FAULTS: dict[str, Fault] = {
    "kill the scheduler": killing("scheduler"),
    "kill the agent-runner": killing("agent-runner"),
    "kill approvals": killing("approvals"),
    "kill the projector": killing("projector"),
    "kill the gateway": killing("gateway"),
    "kill everything": kill_everything,
    "zombie scheduler": zombie,
    "restart the broker": restart_broker,
    "restart the database": restart_database,
    "cut the projector off": cut_the_projector_off,
    "schedulers come and go": schedulers_come_and_go,
}


@pytest.mark.parametrize("name", FAULTS)
async def test_promises_survive(platform: Platform, name: str) -> None:
    await platform.load.start(EXECUTIONS)
    await asyncio.sleep(0.3)
    struck, struck_at = time.monotonic(), time.time()
    await FAULTS[name](platform)
    await platform.load.settle()
    ended = time.monotonic() - struck
    await platform.cluster.ready()
    stood = await longest_silence(platform, struck_at)
    tell(
        f"R6 {name}, {EXECUTIONS} in flight", f"nothing moved for {stood:.1f} s at most, all ended after {ended:.1f} s"
    )
    await require_promises(platform, cut_off=name == "restart the broker", struck=struck)
    await require_read_models_equal_replay(platform)


async def longest_silence(platform: Platform, since: float) -> float:
    """Seconds between two records of the journal, from a moment on: how long a waiting execution may have waited."""
    records = await read_log(platform.broker.bootstrap, topics.EXECUTION_EVENTS)
    moments = sorted(r.timestamp / 1000 for r in records if r.timestamp / 1000 > since and r.key)
    return max((b - a for a, b in pairwise([since, *moments])), default=0.0)


_broker_cuts: list[float] = []


async def require_promises(platform: Platform, *, cut_off: bool, struck: float, lasting: float = 10) -> None:
    """The checker over everything since the platform started, this fault and those before it.

    `cut_off`: for those seconds runners could not be heard, so a step may have been carried out twice.
    """
    records = await read_log(
        platform.broker.bootstrap,
        topics.EXECUTION_EVENTS,
        topics.APPROVAL_EVENTS,
        topics.WORKFLOW_COMPLETED,
        topics.APPROVAL_DECIDED,
    )
    if cut_off:
        _broker_cuts.extend(struck + tenth / 10 for tenth in range(int(lasting * 10)))
    interruptions = [
        moment
        for process in platform.cluster.of("agent-runner")
        for outage in process.outages
        for moment in (outage.since, outage.until or outage.since)
    ]
    report = check(
        Evidence(
            journal=[record for record in records if record.topic == topics.EXECUTION_EVENTS],
            new_filter=JournalFilter,
            floor=len(platform.load.started) // 2,
            started=list(platform.load.started),
            maybe_started=(),
            plan_of=platform.load.plan,
            effects=load_effects(platform.effects),
            interruptions=[*interruptions, *_broker_cuts],
            approvals=[record for record in records if record.topic == topics.APPROVAL_EVENTS],
            published=[r for r in records if r.topic in (topics.WORKFLOW_COMPLETED, topics.APPROVAL_DECIDED)],
        )
    )
    report.require()


async def require_read_models_equal_replay(platform: Platform) -> None:
    settings = Settings(brokers=platform.broker.bootstrap, database_url=platform.database.url)
    await rebuild(settings, "check")
    connection: Any = await asyncpg.connect(platform.database.url)
    try:
        different: list[str] = ["not compared"]
        deadline = time.monotonic() + 30
        while different and time.monotonic() < deadline:
            live, fresh = await table_hashes(connection, "handrail"), await table_hashes(connection, "check")
            different = [table for table in live if live[table] != fresh[table]]
            await asyncio.sleep(0.1 if different else 0)
        assert not different, f"these read models differ from a replay: {different}"
    finally:
        await connection.close()
