"""Puts the agent-runner together."""

import asyncio
import time

import structlog
from handrail_contracts import topics
from handrail_contracts.steps import AgentRegistered
from handrail_runtime.service import Health
from handrail_runtime.settings import Settings
from handrail_runtime.tables import TopicTable

from handrail_agent_runner.announcing import AWAY, Announcements, announce
from handrail_agent_runner.breakers import Breakers
from handrail_agent_runner.choosing import Choosing
from handrail_agent_runner.heartbeat import Heartbeat
from handrail_agent_runner.notifier import Notifier
from handrail_agent_runner.registry import AgentsFileError, Registry, agents_of_file
from handrail_agent_runner.runner import Runner
from handrail_agent_runner.tools import native_tools

log = structlog.get_logger()

PORT = 8002
FOLLOW_SECONDS = 0.2


async def main(settings: Settings, health: Health, stop: asyncio.Event) -> None:
    announcements = Announcements(settings)
    registry = Registry(settings, announcements.put)
    breakers = Breakers(registry, settings)
    choosing = Choosing(registry.able, breakers.rank)
    heartbeat = Heartbeat(settings, PORT, health, registry, breakers, choosing)
    table = TopicTable(settings, topics.AGENT_REGISTERED, registry.add)
    beside: list[asyncio.Task[None]] = []
    try:
        await _until_registered(settings, registry, table, health, stop)
        beside.append(asyncio.create_task(announcements.run(), name="announcements"))
        beside.append(asyncio.create_task(_follow(table, registry), name="agents"))
        beside.append(asyncio.create_task(heartbeat.run(), name="heartbeat"))
        beside.append(asyncio.create_task(Notifier(settings).run(), name="notifier"))
        while not stop.is_set():
            runner = Runner(settings, health, registry, breakers, choosing)
            try:
                await runner.run(stop)
            except AWAY as error:
                health.set_not_ready(f"recovering: {error}")
                log.warning("runner_starts_over", error=str(error) or repr(error))
                await asyncio.sleep(0.5)
            finally:
                await runner.close()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await registry.servers.close()
        await table.close()
        await heartbeat.close()


async def _until_registered(
    settings: Settings, registry: Registry, table: TopicTable, health: Health, stop: asyncio.Event
) -> None:
    while not stop.is_set():
        try:
            await table.catch_up()
            await _register_own(settings, registry)
            return
        except AWAY as error:
            health.set_not_ready(str(error) or repr(error))
            await asyncio.sleep(0.5)
        except AgentsFileError as error:
            raise SystemExit(str(error)) from error


async def _register_own(settings: Settings, registry: Registry) -> None:
    """Publishes the agents of the file and the native tools that are not registered as they are, so that all know them."""
    now = time.time()
    entries = native_tools(now)
    if settings.agents_file is not None:
        entries += registry.own(agents_of_file(settings.agents_file, now))
    unknown = [entry for entry in entries if _event_id(registry.registered(entry.agent)) != entry.event_id]
    if unknown:
        await announce(settings, unknown)
    for entry in unknown:
        registry.add(entry)
    registry.servers.discover()


def _event_id(registered: AgentRegistered | None) -> str | None:
    return registered.event_id if registered else None


async def _follow(table: TopicTable, registry: Registry) -> None:
    """New registrations, soon after they were made."""
    while True:
        await asyncio.sleep(FOLLOW_SECONDS)
        try:
            await table.catch_up()
            registry.servers.discover()
        except Exception as error:
            log.warning("agents_not_followed", error=str(error) or repr(error))
