"""What this runner tells of tools and servers, on its way to `agent.registered`: behind whatever else it does."""

import asyncio

import structlog
from aiokafka.errors import KafkaError
from handrail_contracts import topics
from handrail_contracts.codec import cloud_event_headers, encode
from handrail_contracts.steps import AgentRegistered
from handrail_runtime.errors import Fenced, Unavailable
from handrail_runtime.settings import Settings
from handrail_runtime.writer import Parcel, Writer, deliver

from handrail_agent_runner.conversation import SOURCE

RETRY_SECONDS = 1.0
AWAY = (Fenced, Unavailable, KafkaError, TimeoutError)
"""What keeps us from the broker, for now."""

log = structlog.get_logger()


async def announce(settings: Settings, messages: list[AgentRegistered]) -> None:
    """Returns once they are acknowledged. Raises `Unavailable` or `Fenced`."""
    parcels = [
        Parcel(topics.AGENT_REGISTERED, message.agent, encode(message), cloud_event_headers(message, SOURCE), 0)
        for message in messages
    ]
    writer = await Writer.start(settings, "handrail-agent-runner-registration")
    try:
        await deliver(writer, parcels, settings.send_timeout_seconds)
    finally:
        await writer.stop()


class Announcements:
    """Keeps what is to be told until the broker has it; the latest word about a name is enough."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._waiting: dict[str, AgentRegistered] = {}
        self._some = asyncio.Event()

    def put(self, message: AgentRegistered) -> None:
        self._waiting[message.agent] = message
        self._some.set()

    async def run(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            messages = list(self._waiting.values())
            try:
                await announce(self._settings, messages)
            except AWAY as error:
                log.warning("announcements_delayed", count=len(messages), error=str(error) or repr(error))
                self._some.set()
                await asyncio.sleep(RETRY_SECONDS)
            else:
                for message in messages:
                    if self._waiting.get(message.agent) is message:
                        del self._waiting[message.agent]
