"""Commands, records and in-memory twins of what the runner stands on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from aiokafka import ConsumerRecord, TopicPartition
from handrail_agent_runner.breakers import Breakers
from handrail_agent_runner.choosing import Choosing
from handrail_agent_runner.mcp.servers import Servers
from handrail_agent_runner.registry import Registry
from handrail_agent_runner.runner import Runner
from handrail_agent_runner.tools import Toolbox
from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.journal import Stamp
from handrail_contracts.steps import AgentRegistered, StepRequested
from handrail_runtime.service import Health
from handrail_runtime.settings import Settings
from handrail_runtime.watermark import Watermark
from handrail_runtime.writer import Parcel

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = Settings(result_limit_bytes=10_000, runner_concurrency=8)


def request(run: str = "r1", agent: str = "echo", **changes: Any) -> StepRequested:
    standard: dict[str, Any] = {
        "event_id": f"{run}-{changes.get('attempt', 1)}",
        "occurred_at": WHEN,
        "execution_id": f"ex-{run}",
        "workflow_id": "w",
        "organization_id": "acme",
        "partition": 3,
        "step_id": "write",
        "run_id": run,
        "attempt": 1,
        "agent": agent,
        "input": {"x": 1},
        "timeout_seconds": 5,
    }
    return StepRequested(**(standard | changes))


def registered(agent: str, kind: str = "python", **config: Any) -> AgentRegistered:
    return AgentRegistered.model_validate(
        {"event_id": f"reg-{agent}", "occurred_at": WHEN, "agent": agent, "kind": kind, "config": config}
    )


def toolbox(settings: Settings = SETTINGS) -> Toolbox:
    """Without servers."""
    return Toolbox(settings, Servers(settings, lambda message: None))


def function(agent: str, name: str) -> AgentRegistered:
    """A python agent of `functions.py`."""
    return registered(agent, entry_point=f"unit.agent_runner.functions:{name}")


def record(value: bytes, offset: int = 0, headers: tuple[tuple[str, Any], ...] = ()) -> ConsumerRecord[Any, Any]:
    return ConsumerRecord(topics.STEP_REQUESTED, 0, offset, 0, 0, b"k", value, None, 1, len(value), headers)


def command(wish: StepRequested, offset: int = 0, epoch: int = 7) -> ConsumerRecord[Any, Any]:
    return record(encode(wish), offset, (Stamp("scheduler/3", epoch).header(),))


def fence(epoch: int, offset: int = 0) -> ConsumerRecord[Any, Any]:
    return record(b"{}", offset, (Stamp("scheduler/3", epoch).fence_header(),))


@dataclass
class FakeAnswers:
    """Keeps what was published until the test says that it arrived."""

    published: list[tuple[list[Parcel], Callable[[], None]]] = field(default_factory=list)
    full: bool = False

    def publish(self, parcels: list[Parcel], delivered: Callable[[], None]) -> None:
        self.published.append((parcels, delivered))

    def arrive(self) -> None:
        arrived, self.published = self.published, []
        for _, delivered in arrived:
            delivered()

    def bodies(self, topic: str = topics.AGENT_EXECUTED) -> list[dict[str, Any]]:
        return [orjson.loads(p.value) for parcels, _ in self.published for p in parcels if p.topic == topic]


@dataclass
class World:
    """A runner without a broker: records go in by `take`, answers come out in `answers`."""

    runner: Runner
    registry: Registry
    answers: FakeAnswers
    watermark: Watermark

    @classmethod
    def new(cls, *agents: AgentRegistered, settings: Settings = SETTINGS) -> "World":
        registry = Registry(settings)
        breakers = Breakers(registry, settings)
        choosing = Choosing(registry.able, breakers.rank)
        runner, answers = Runner(settings, Health(), registry, breakers, choosing), FakeAnswers()
        runner._answers = answers  # type: ignore[assignment]
        for agent in (function("echo", "echo"), *agents):
            registry.add(agent)
        world = cls(runner, registry, answers, Watermark(0))
        world.watermark_at(0)
        return world

    def watermark_at(self, position: int) -> Watermark:
        """A new one, as after a takeover."""
        self.watermark = self.runner._watermarks[0] = Watermark(position)
        return self.watermark

    def take(self, *records: ConsumerRecord[Any, Any]) -> None:
        self.runner._add({TopicPartition(topics.STEP_REQUESTED, 0): list(records)})
        self.runner._take(self.runner._turns.take(len(records), lambda tenant: len(records)))

    async def finished(self) -> None:
        while self.runner._running:
            await asyncio.wait(set(self.runner._running))


Handler = Callable[[str, dict[str, str], bytes], bytes | None]
"""Request line, headers, body; the whole answer, or None to hang up."""


@asynccontextmanager
async def http_server(handler: Handler) -> AsyncIterator[str]:
    """Answers each connection's first request; gives the address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line, _, rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").partition("\r\n")
            headers = {}
            for header in filter(None, rest.split("\r\n")):
                name, _, value = header.partition(": ")
                headers[name.lower()] = value
            answer = handler(line, headers, await reader.readexactly(int(headers.get("content-length", 0))))
            if answer is not None:
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def answer(status: int = 200, body: bytes = b"{}", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
