"""The agent-runner over a real broker: at least once, never silently, never more often than it must."""

import asyncio
import signal
import sys
from pathlib import Path

import httpx2
import pytest
from handrail.embedded.process import free_port
from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.ids import partition_of
from handrail_contracts.journal import Stamp
from handrail_runtime import bus
from integration.runner_world import COMMANDS, World, world
from support.broker_proxy import BrokerProxy, CutConnection
from support.kafka_wire import Api

pytestmark = pytest.mark.integration
EVERYWHERE = range(topics.EXECUTION_PARTITIONS)


async def committed(world: World) -> dict[int, int | None]:
    async with world.positions() as reader:
        return {tp.partition: await reader.committed(tp) for tp in COMMANDS}


async def ends(world: World) -> dict[int, int]:
    return {tp.partition: end for tp, end in (await bus.end_offsets(world.reader, COMMANDS)).items()}


async def test_every_command_is_answered_once_where_its_journal_is_and_then_committed(
    broker: str, tmp_path: Path
) -> None:
    async with world(broker, tmp_path) as w:
        runs = [await w.request(n, agent) for agent in ("echo", "script", "nobody") for n in range(len(agent) * 8)]
        runs = [await w.request(f"{agent}{n}", agent) for n in range(40) for agent in ("echo", "traced", "script")]
        await w.answered(*runs)
        await w.runners.get("agent-runner").shut_down()
        await w.quiet()
        assert {len(w.answers[run]) for run in runs} == {1}
        for run in runs:
            key = f"ex-{run}"
            assert w.places[run] == (partition_of(key, topics.EXECUTION_PARTITIONS), key.encode())
        assert {w.answers[run][0]["status"] for run in runs} == {"completed"}
        assert await committed(w) == {p: end or None for p, end in (await ends(w)).items()}
