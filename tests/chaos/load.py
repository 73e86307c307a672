"""Executions by the hundred, started by an outsider with an ordinary Kafka client, and watched until they have ended."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.envelope import utc
from handrail_contracts.ids import partition_of
from handrail_contracts.topics import EXECUTION_PARTITIONS
from handrail_contracts.workflows import WorkflowDefined, WorkflowStarted
from handrail_graph import Graph, compile_workflow
from support.checker import Plan

RETRY = {"max_attempts": 3, "backoff_seconds": 0.2}


def _agent(step_id: str, agent: str, following: list[str]) -> dict[str, Any]:
    parameters = {"agent_id": agent, "input": {"from": "{{previous_output ?? 'start'}}"}}
    return {
        "step_id": step_id,
        "step_type": "agent_execution",
        "parameters": parameters,
        "next_steps": following,
        "retry": RETRY,
    }


WORKFLOWS: dict[str, dict[str, Any]] = {
    "chain": {"name": "chain", "tasks": [{"agent": "slow:50", "input": {"n": "{{input.n}}"}} for _ in range(4)]},
    "fan": {
        "name": "fan",
        "steps": [
            _agent("first", "echo", ["a", "b", "c"]),
            _agent("a", "slow:50", ["join"]),
            _agent("b", "flaky:1", ["join"]),
            _agent("c", "echo", ["join"]),
            _agent("join", "slow:50", []),
        ],
    },
    "delayed": {
        "name": "delayed",
        "steps": [
            {"step_id": "wait", "step_type": "delay", "parameters": {"seconds": 1}, "next_steps": ["check"]},
            {
                "step_id": "check",
                "step_type": "condition",
                "parameters": {"condition": "{{input.n}} >= 5"},
                "next_steps": ["high"],
                "else_steps": ["low"],
            },
            _agent("high", "echo", []),
            _agent("low", "slow:50", []),
        ],
    },
}


WORKFLOWS["slow"] = {"name": "slow", "tasks": [{"agent": "slow:2000", "input": {}}]}
WORKFLOWS["cursed"] = {"name": "cursed", "steps": [_agent("cursed", "echo", [])]}
WORKFLOWS["cursed timer"] = {
    "name": "cursed timer",
    "steps": [{"step_id": "cursed", "step_type": "delay", "parameters": {"seconds": 0.2}}],
}
WORKFLOWS["copy"] = {
    "name": "copy",
    "steps": [{"step_id": "copy", "step_type": "data_transform", "parameters": {"output": "{{input}}"}}],
}
WORKFLOWS["big"] = {"name": "big", "tasks": [{"agent": "big:5000000", "input": {}}]}
TURNS = ("chain", "fan", "delayed")


class Load:
    """Starts and follows executions. Everything acknowledged is in `started`."""

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        self.started: dict[str, str] = {}
        self.ended: dict[str, str] = {}
        self._producer: AIOKafkaProducer | None = None
        self._consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(bootstrap_servers=self._brokers, acks="all", enable_idempotence=True)
        await self._producer.start()
        for name, definition in WORKFLOWS.items():
            message = WorkflowDefined(
                event_id=f"{name}@1",
                occurred_at=utc(time.time()),
                workflow_id=name,
                version=1,
                name=name,
                definition=definition,
            )
            await self._producer.send_and_wait(topics.WORKFLOW_DEFINED, encode(message), key=f"{name}@1".encode())
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self._brokers, auto_offset_reset="earliest")
        await self._consumer.start()
        self._consumer.assign([TopicPartition(topics.WORKFLOW_COMPLETED, p) for p in range(EXECUTION_PARTITIONS)])
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._producer is not None and self._consumer is not None
        await asyncio.gather(self._producer.stop(), self._consumer.stop())

    async def put(self, topic: str, value: bytes, *, key: bytes = b"k", partition: int = 0, headers: Any = ()) -> None:
        """Anything at all, as an outsider may write it."""
        assert self._producer is not None
        await self._producer.send_and_wait(topic, value, key=key, partition=partition, headers=list(headers))

    async def start(self, count: int, workflows: Sequence[str] = TURNS) -> list[str]:
        """Starts executions of these workflows in turn; returns their ids."""
        assert self._producer is not None
        sends, ids = [], []
        for number in range(count):
            execution_id, name = str(uuid.uuid4()), workflows[number % len(workflows)]
            ids.append(execution_id)
            message = WorkflowStarted(
                event_id=execution_id,
                occurred_at=utc(time.time()),
                execution_id=execution_id,
                workflow_id=name,
                input={"n": number % 10},
            )
            partition = partition_of(execution_id, EXECUTION_PARTITIONS)
            sends.append(
                await self._producer.send(
                    topics.WORKFLOW_STARTED, encode(message), key=execution_id.encode(), partition=partition
                )
            )
            self.started[execution_id] = name
        await asyncio.gather(*sends)
        return ids

    async def settle(self, timeout: float = 90.0) -> None:
        """Returns when everything started has ended; fails with what has not."""
        assert self._consumer is not None
        deadline = time.monotonic() + timeout
        while missing := self.started.keys() - self.ended.keys():
            if time.monotonic() > deadline:
                some = list(missing)[:5]
                raise AssertionError(f"{len(missing)} of {len(self.started)} executions have not ended: {some}")
            for records in (await self._consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    self.ended[(record.key or b"").decode()] = (record.value or b"").decode()

    def plan(self, execution_id: str) -> Plan | None:
        """What the checker holds the order of steps against."""
        graph: Graph = compile_workflow(WORKFLOWS[self.started[execution_id]])
        return plan_of(graph)


def plan_of(graph: Graph) -> Plan:
    edges = ((node.id, target) for node in graph.nodes.values() for target in node.targets)
    return Plan(frozenset(edges))
