"""The runner says every few seconds that it lives, and how its agents are; at once when a breaker opens or closes.

Off the critical path: a client of its own, and whatever fails is tried again at the next beat.
"""

import asyncio
import socket
import time
from itertools import islice

import structlog
from handrail_contracts import topics
from handrail_contracts.codec import cloud_event_headers, encode
from handrail_contracts.envelope import utc
from handrail_contracts.ids import derive
from handrail_contracts.runners import AgentState, RunnerStatus
from handrail_runtime.service import Health
from handrail_runtime.settings import Settings
from handrail_runtime.writer import Parcel, Writer, deliver

from handrail_agent_runner.announcing import AWAY
from handrail_agent_runner.breakers import Breakers
from handrail_agent_runner.choosing import Choosing
from handrail_agent_runner.conversation import SOURCE
from handrail_agent_runner.registry import Registry

log = structlog.get_logger()

LEAST_GAP_SECONDS = 0.2
LAST_WORD_SECONDS = 2.0
MOST_AGENTS = 1_000


class Heartbeat:
    def __init__(
        self, settings: Settings, port: int, health: Health, registry: Registry, breakers: Breakers, choosing: Choosing
    ) -> None:
        self._settings, self._health = settings, health
        self._registry, self._breakers, self._choosing = registry, breakers, choosing
        self._runner_id = settings.instance_id or f"{socket.gethostname()}:{settings.port or port}"
        self._writer: Writer | None = None

    async def run(self) -> None:
        """Until it is cancelled. A runner whose main loop has stopped says nothing, and so is missed."""
        while True:
            self._breakers.changed.clear()
            if self._health.alive:
                await self._beat()
            await asyncio.sleep(min(LEAST_GAP_SECONDS, self._settings.runner_status_seconds))
            try:
                await asyncio.wait_for(self._breakers.changed.wait(), self._settings.runner_status_seconds)
            except TimeoutError:
                pass

    async def _beat(self) -> None:
        try:
            await self._say(self._status())
        except Exception as error:
            log.warning("status_not_told", error=str(error) or repr(error))
            await self._let_go()

    async def close(self) -> None:
        """The last word, if the broker takes it: nobody has to miss a runner that says that it goes."""
        try:
            async with asyncio.timeout(LAST_WORD_SECONDS):
                await self._say(self._status(stopped=True))
        except AWAY as error:
            log.info("leave_not_told", error=str(error) or repr(error))
        await self._let_go()

    def _status(self, stopped: bool = False) -> RunnerStatus:
        now = time.time()
        broken = (AgentState(agent=name, error=error[:500]) for name, error in self._registry.broken.items())
        told = {each.agent: each for each in (*broken, *self._breakers.states(now))}
        return RunnerStatus(
            event_id=derive(self._runner_id, topics.RUNNER_STATUS, now),
            occurred_at=utc(now),
            runner_id=self._runner_id,
            every_seconds=self._settings.runner_status_seconds,
            running=self._choosing.running,
            agents=tuple(islice(told.values(), MOST_AGENTS)),
            chosen=self._choosing.chosen(),
            stopped=stopped,
        )

    async def _say(self, status: RunnerStatus) -> None:
        if self._writer is None:
            self._writer = await Writer.start(self._settings, "handrail-agent-runner-status")
        headers = cloud_event_headers(status, SOURCE)
        parcel = Parcel(topics.RUNNER_STATUS, self._runner_id, encode(status), headers, 0)
        await deliver(self._writer, [parcel], self._settings.send_timeout_seconds)

    async def _let_go(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.stop()
