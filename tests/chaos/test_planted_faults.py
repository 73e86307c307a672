"""The suite can see: scenarios that sound services survive, and that services with a fault planted into them do not.

The simulation plants eleven more faults, into the pure parts.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from chaos.conftest import Platform, platform_in
from chaos.planted import PLANTS
from handrail.deadletters import Filter, letters, redrive
from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.control import ExecutionControlled
from handrail_contracts.envelope import utc
from handrail_contracts.ids import partition_of
from handrail_contracts.topics import EXECUTION_PARTITIONS
from support.broker_proxy import BrokerProxy, Hold, Rule
from support.effects import Effect, load_effects
from support.kafka_wire import Api

pytestmark = pytest.mark.chaos

PATIENCE = 6.0
PLANTED = "chaos.planted"


class Broken(Exception):
    """A promise was not kept."""


@dataclass
class World:
    """A platform whose first scheduler, when `proxied`, speaks to the broker through `proxy`."""

    platform: Platform
    proxy: BrokerProxy

    async def restart(self, service: str, plant: str, *, proxied: bool = False) -> None:
        brokers = self.proxy.address if proxied else self.platform.broker.bootstrap
        await self.platform.cluster.restart(service, env={"CHAOS_PLANT": plant, "HANDRAIL_BROKERS": brokers})

    def hold(self, client: str, topic: str) -> Rule:
        return self.proxy.rule(
            Api.PRODUCE, "request", Hold(), where=lambda f: f.client_id == client and f.writes_to(topic)
        )

    async def start(self, workflow: str) -> str:
        [execution_id] = await self.platform.load.start(1, [workflow])
        return execution_id

    async def settle(self) -> None:
        try:
            await self.platform.load.settle(PATIENCE)
        except AssertionError as error:
            self.platform.load.started.clear()
            raise Broken(str(error)) from error

    def effects(self, execution_id: str) -> list[Effect]:
        return [effect for effect in load_effects(self.platform.effects) if effect.execution_id == execution_id]

    async def begun(self, execution_id: str) -> None:
        async with asyncio.timeout(20):
            while not self.effects(execution_id):
                await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    modules = dict.fromkeys(("scheduler", "agent-runner", "projector"), PLANTED)
    env = {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "HANDRAIL_SESSION_TIMEOUT_MS": "2000",
        "HANDRAIL_HEARTBEAT_INTERVAL_MS": "300",
    }
    instances = dict.fromkeys(("scheduler", "agent-runner", "projector"), 1)
    folder = tmp_path_factory.mktemp("planted")
    async with (
        platform_in(folder, modules=modules, env=env, instances=instances) as platform,
        BrokerProxy(platform.broker.bootstrap) as proxy,
    ):
        yield World(platform, proxy)


async def nothing_happens_before_its_record(world: World, plant: str) -> None:
    await world.restart("scheduler", plant, proxied=True)
    held = world.hold("handrail-scheduler-journal", topics.EXECUTION_EVENTS)
    execution = await world.start("chain")
    await held.hit()
    await asyncio.sleep(1)
    early = world.effects(execution)
    world.proxy.heal()
    await world.settle()
    if early:
        raise Broken("an agent ran for a step that no record speaks of")


async def lost_commands_are_said_again(world: World, plant: str) -> None:
    await world.restart("scheduler", plant, proxied=True)
    held = world.hold("handrail-scheduler-messages", topics.STEP_REQUESTED)
    await world.start("chain")
    await held.hit()
    world.platform.cluster.kill("scheduler")
    await world.restart("scheduler", plant)
    await world.settle()


async def a_zombies_command_is_refused(world: World, plant: str) -> None:
    """It was decided before a cancel that another scheduler took in, and arrives after it."""
    cluster = world.platform.cluster
    await world.restart("agent-runner", plant if plant == "fences_ignored" else "")
    await world.restart("scheduler", "", proxied=True)
    held = world.hold("handrail-scheduler-messages", topics.STEP_REQUESTED)
    execution = await world.start("chain")
    await held.hit()
    cluster.get("scheduler").stop()
    cancel = ExecutionControlled(
        event_id=f"{execution}/cancel", occurred_at=utc(time.time()), execution_id=execution, workflow_id="chain",
        action="cancel",
    )  # fmt: skip
    partition = partition_of(execution, EXECUTION_PARTITIONS)
    await world.platform.load.put(
        topics.EXECUTION_CONTROLLED, encode(cancel), key=execution.encode(), partition=partition
    )
    await cluster.add("scheduler", {"CHAOS_PLANT": plant if plant == "no_fence" else ""})
    try:
        await world.settle()
        held.release()
        await asyncio.sleep(1)
        if world.effects(execution):
            raise Broken("an agent ran for an execution that had been cancelled")
    finally:
        cluster.kill("scheduler")
        await cluster.remove("scheduler", 1)


async def a_killed_runners_step_is_run_again(world: World, plant: str) -> None:
    await world.restart("agent-runner", plant)
    execution = await world.start("slow")
    await world.begun(execution)
    await asyncio.sleep(0.5)
    await world.restart("agent-runner", plant)
    await world.settle()


async def a_command_that_comes_twice_is_carried_out_once(world: World, plant: str) -> None:
    """A scheduler that comes back requests again what is outstanding, while it runs."""
    await world.restart("agent-runner", plant)
    execution = await world.start("slow")
    await world.begun(execution)
    await world.restart("scheduler", "")
    await world.settle()
    if len(world.effects(execution)) > 1:
        raise Broken("an agent ran twice though nobody had died while it ran")


async def rows_and_positions_go_together(world: World, plant: str) -> None:
    """The projector finds a whole execution at once, waits for a table that is locked, and dies."""
    await world.restart("projector", plant)
    projector = world.platform.cluster.get("projector")
    connection: Any = await asyncpg.connect(world.platform.database.url)
    try:
        projector.stop()
        execution = await world.start("chain")
        await world.settle()
        blocking = connection.transaction()
        await blocking.start()
        await connection.execute("LOCK TABLE handrail.executions IN ACCESS EXCLUSIVE MODE")
        projector.cont()
        async with asyncio.timeout(20):
            while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.02)
        projector.kill()
        await blocking.rollback()
        await world.restart("projector", plant)
        query = "SELECT status FROM handrail.executions WHERE execution_id = $1"
        deadline = time.monotonic() + PATIENCE
        while (status := await connection.fetchval(query, execution)) != "completed":
            if time.monotonic() > deadline:
                raise Broken(f"the read models say {status!r} of an execution that has completed")
            await asyncio.sleep(0.05)
    finally:
        await connection.close()


Scenario = Callable[[World, str], Awaitable[None]]
CAUGHT_BY: dict[str, Scenario] = {
    "commands_before_acknowledgement": nothing_happens_before_its_record,
    "nothing_requested_again": lost_commands_are_said_again,
    "no_fence": a_zombies_command_is_refused,
    "fences_ignored": a_zombies_command_is_refused,
    "committed_before_carried_out": a_killed_runners_step_is_run_again,
    "attempts_repeated": a_command_that_comes_twice_is_carried_out_once,
    "positions_in_a_transaction_of_their_own": rows_and_positions_go_together,
}
SCENARIOS = dict.fromkeys(CAUGHT_BY.values())


async def restore(world: World, *services: str) -> None:
    world.proxy.heal()
    world.platform.load.started.clear()
    for service in services:
        await world.restart(service, "")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_sound_services_keep_the_promise(world: World, scenario: Scenario) -> None:
    await scenario(world, "")
    await restore(world, "scheduler")


@pytest.mark.parametrize("plant", PLANTS)
async def test_a_planted_fault_is_caught(world: World, plant: str) -> None:
    with pytest.raises(Broken):
        await CAUGHT_BY[plant](world, plant)
    await restore(world, "scheduler", "agent-runner", "projector")


async def test_a_mistake_of_ours_stops_one_input_and_nothing_else(world: World) -> None:
    """The input is set aside with the reason, everybody else goes on; once the mistake is mended it is taken after all."""
    load, bootstrap = world.platform.load, world.platform.broker.bootstrap
    await world.restart("scheduler", "a_mistake_in_the_core")
    [answer, timer] = await load.start(2, ["cursed", "cursed timer"])
    cursed = {name: load.started.pop(name) for name in (answer, timer)}
    await load.start(20)
    await load.settle(20)
    async with asyncio.timeout(20):
        while not (found := [letter async for letter in letters(bootstrap, Filter(code="INTERNAL_ERROR"))]):
            await asyncio.sleep(0.1)
    assert [(letter.execution_id, letter.reason) for letter in found] == [(answer, "KeyError: 'a mistake of ours'")]
    await world.restart("scheduler", "")
    await redrive(bootstrap, Filter(code="INTERNAL_ERROR"))
    load.started.update(cursed)
    await load.settle(20)
