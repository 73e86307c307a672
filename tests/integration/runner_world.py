"""The agent-runner as a process over a real broker: the test is its scheduler."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.record import default_records
from handrail_agent_runner.ownership import GROUP
from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.envelope import utc
from handrail_contracts.ids import partition_of
from handrail_contracts.journal import Stamp
from handrail_contracts.platform import Fence
from handrail_contracts.steps import StepRequested
from handrail_runtime import bus
from handrail_runtime.settings import Settings
from support.processes import ServiceCluster

TESTS = Path(__file__).parents[1]
AGENTS = [
    {"agent": "echo", "kind": "python", "config": {"entry_point": "handrail_agent_runner.builtin:echo"}},
    {"agent": "traced", "kind": "python", "config": {"entry_point": "integration.runner_agents:traced"}},
    {"agent": "script", "kind": "scripted", "config": {"output": {"said": "{{input.x}}"}, "deltas": ["a", "b"]}},
]
ANSWERS = [TopicPartition(topics.AGENT_EXECUTED, p) for p in range(topics.EXECUTION_PARTITIONS)]
COMMANDS = [TopicPartition(topics.STEP_REQUESTED, p) for p in range(topics.EXECUTION_PARTITIONS)]

_PythonBuilder: Any = default_records._DefaultRecordBatchBuilderPy


@dataclass
class World:
    """Commands go in by `request`; `answers` collects what comes out, by run."""

    settings: Settings
    folder: Path
    producer: AIOKafkaProducer
    reader: AIOKafkaConsumer
    runners: ServiceCluster
    name: str = field(default_factory=lambda: uuid4().hex[:8])
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    places: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """An owner of this test alone, so that its fences concern nobody else."""
        return f"test-{self.name}/0"

    @property
    def effects(self) -> Counter[str]:
        trace = self.folder / "trace"
        return Counter(trace.read_text().split()) if trace.exists() else Counter()

    def run(self, number: int | str) -> str:
        return f"{self.name}-{number}"

    async def request(self, number: int | str, agent: str = "echo", epoch: int = 5, **changes: Any) -> str:
        run = self.run(number)
        wish: dict[str, Any] = {
            "event_id": f"{run}-{changes.get('attempt', 1)}",
            "occurred_at": utc(time.time()),
            "execution_id": f"ex-{run}",
            "workflow_id": "w",
            "partition": partition_of(f"ex-{run}", topics.EXECUTION_PARTITIONS),
            "step_id": "s",
            "run_id": run,
            "attempt": 1,
            "agent": agent,
            "input": {"run": run, "x": number},
            "timeout_seconds": 60,
        }
        value = encode(StepRequested(**(wish | changes)))
        await self.send(run, value, [Stamp(self.owner, epoch).header()])
        return run

    async def send(self, key: str, value: bytes, headers: list[tuple[str, Any]]) -> tuple[int, int]:
        partition = partition_of(key, topics.EXECUTION_PARTITIONS)
        sent = await self.producer.send_and_wait(
            topics.STEP_REQUESTED, value, key=key.encode(), partition=partition, headers=headers
        )
        return partition, sent.offset

    async def send_with_foreign_header(self, key: str, value: bytes) -> tuple[int, int]:
        """A header name that is not UTF-8, as a client in another language may write it."""

        class Name(str):
            def encode(self, *_: Any) -> bytes:
                return b"\xff\xfe"

        producer: Any = AIOKafkaProducer(bootstrap_servers=self.settings.brokers, acks="all")
        await producer.start()
        try:
            batch = producer.create_batch()
            batch._builder = _PythonBuilder(2, 0, False, -1, -1, -1, 1 << 20)
            batch.append(key=key.encode(), value=value, timestamp=None, headers=[(Name("zz"), b"x")])
            partition = partition_of(key, topics.EXECUTION_PARTITIONS)
            sent = await (await producer.send_batch(batch, topics.STEP_REQUESTED, partition=partition))
        finally:
            await producer.stop()
        return partition, sent.offset

    async def fence(self, epoch: int, partitions: Iterable[int]) -> None:
        stamp = Stamp(self.owner, epoch)
        for partition in partitions:
            await self.producer.send_and_wait(
                topics.STEP_REQUESTED, b"{}", partition=partition, headers=[stamp.fence_header()]
            )

    async def fence_for_late_comers(self, epoch: int) -> None:
        stamp = Stamp(self.owner, epoch)
        value = encode(Fence(owner=stamp.owner, epoch=epoch))
        await self.producer.send_and_wait(
            topics.FENCES, value, key=stamp.owner.encode(), partition=0, headers=[stamp.fence_header()]
        )

    async def answered(self, *runs: str, timeout: float = 40) -> None:
        """Returns when each of these has an answer."""
        await self._read(lambda: all(run in self.answers for run in runs), timeout, runs)

    async def effects_begun(self, *runs: str, timeout: float = 40) -> None:
        await self._read(lambda: all(self.effects[run] for run in runs), timeout, runs)

    async def _read(self, enough: Callable[[], bool], timeout: float, wanted: Iterable[str]) -> None:
        deadline = time.monotonic() + timeout
        while not enough():
            if time.monotonic() > deadline:
                missing = [run for run in wanted if run not in self.answers]
                raise TimeoutError(f"{len(missing)} without answer, such as {missing[:3]}; {self._logs()}")
            await self._read_some()

    async def _read_some(self) -> None:
        for records in (await self.reader.getmany(timeout_ms=100)).values():
            for record in records:
                body = orjson.loads(record.value or b"")
                self.answers.setdefault(body["run_id"], []).append(body)
                self.places[body["run_id"]] = (record.partition, record.key or b"")

    async def quiet(self) -> None:
        """Whatever was said until now has been read."""
        ends = await bus.end_offsets(self.reader, ANSWERS)
        while any([await self.reader.position(tp) < end for tp, end in ends.items()]):
            await self._read_some()

    async def letters(self, code: str) -> list[dict[str, Any]]:
        """Dead letters with this code, from the runner."""
        found = await self.bodies(TopicPartition(topics.DEAD_LETTERS, 0))
        return [letter for letter in found if letter["code"] == code and letter["service"] == "agent-runner"]

    async def bodies(self, tp: TopicPartition) -> list[dict[str, Any]]:
        """All of a partition."""
        reader = await bus.start_reader(self.settings, "test-bodies", max_wait_ms=50)
        try:
            [end] = (await bus.end_offsets(reader, [tp])).values()
            [begin] = (await bus.begin_offsets(reader, [tp])).values()
            reader.assign([tp])
            reader.seek(tp, begin)
            found: list[dict[str, Any]] = []
            while await reader.position(tp) < end:
                for records in (await reader.getmany(timeout_ms=200)).values():
                    found += [orjson.loads(record.value or b"") for record in records]
        finally:
            await bus.stop(reader)
        return found

    @asynccontextmanager
    async def positions(self) -> AsyncIterator[AIOKafkaConsumer]:
        """A client that sees, and may change, what the runners have committed."""
        reader = await bus.start_reader(self.settings, "test-positions", group=f"{GROUP}.positions")
        reader.assign(COMMANDS)
        try:
            yield reader
        finally:
            await bus.stop(reader)

    def _logs(self) -> str:
        return "\n".join(process.tail() for process in self.runners.processes)


@asynccontextmanager
async def world(broker: str, folder: Path, brokers_of_runner: str = "", **env: str) -> AsyncIterator[World]:
    """A runner that is ready, and the test's own clients."""
    settings = Settings(brokers=broker)
    agents = folder / "agents.json"
    await asyncio.to_thread(agents.write_text, json.dumps(AGENTS))
    environment = {
        "HANDRAIL_AGENTS_FILE": str(agents),
        "HANDRAIL_SESSION_TIMEOUT_MS": "2000",
        "HANDRAIL_HEARTBEAT_INTERVAL_MS": "300",
        "PYTHONPATH": str(TESTS),
        "RUNNER_TRACE": str(folder / "trace"),
    }
    cluster = ServiceCluster(brokers_of_runner or broker, "", folder, {"agent-runner": 1}, {**environment, **env})
    producer = await bus.start_producer(settings, "test-scheduler")
    reader = await bus.start_reader(settings, "test-answers")
    try:
        ends = await bus.end_offsets(reader, ANSWERS)
        reader.assign(ANSWERS)
        for tp, offset in ends.items():
            reader.seek(tp, offset)
        async with cluster:
            yield World(settings, folder, producer, reader, cluster)
    finally:
        await bus.stop(reader)
        await bus.stop(producer)
