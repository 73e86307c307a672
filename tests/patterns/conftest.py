"""The control-flow patterns of the Workflow Patterns catalogue, each on the real engine."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from chaos.conftest import Platform, platform_in
from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.control import ExecutionControlled
from handrail_contracts.envelope import utc
from handrail_contracts.ids import partition_of
from handrail_contracts.journal import JournalFilter
from handrail_contracts.topics import EXECUTION_PARTITIONS
from handrail_contracts.workflows import WorkflowDefined, WorkflowStarted
from support.logs import Entry, accepted, entries, read_log

Meanwhile = Callable[["Run"], Awaitable[None]]


def agent(step_id: str, *following: str, does: str = "echo", **options: Any) -> dict[str, Any]:
    """`does`: echo, slow:50 or slow:2000 (milliseconds)."""
    return {
        "step_id": step_id,
        "step_type": "agent_execution",
        "parameters": {"agent_id": does, "input": options.pop("input", step_id)},
        "next_steps": list(following),
        **options,
    }


def step(step_id: str, kind: str, *following: str, **options: Any) -> dict[str, Any]:
    inside = options.pop("parameters", {})
    return {"step_id": step_id, "step_type": kind, "parameters": inside, "next_steps": list(following), **options}


@dataclass
class Run:
    """One execution, and what its journal says of it."""

    platform: Platform
    workflow_id: str
    execution_id: str

    async def control(self, action: Any, **fields: Any) -> None:
        message = ExecutionControlled(
            event_id=str(uuid4()), occurred_at=utc(time.time()), execution_id=self.execution_id,
            workflow_id=self.workflow_id, action=action, **fields,
        )  # fmt: skip
        await self._put(topics.EXECUTION_CONTROLLED, encode(message))

    async def _put(self, topic: str, value: bytes) -> None:
        partition = partition_of(self.execution_id, EXECUTION_PARTITIONS)
        await self.platform.load.put(topic, value, key=self.execution_id.encode(), partition=partition)

    async def history(self) -> list[Entry]:
        records = await read_log(self.platform.broker.bootstrap, topics.EXECUTION_EVENTS)
        found = [entry for r in accepted(records, JournalFilter) for entry in entries(r, r.json() or {})]
        return [entry for entry in found if entry.execution_id == self.execution_id]

    async def begun(self) -> list[str]:
        """Steps in the order in which they began."""
        return [entry.event["step_id"] for entry in await self.history() if entry.type == "step.started"]

    async def until(self, *steps: str) -> None:
        """These steps have begun."""
        async with asyncio.timeout(20):
            while not set(steps) <= set(await self.begun()):
                await asyncio.sleep(0.05)


@dataclass
class Engine:
    platform: Platform

    async def run(self, *steps: dict[str, Any], given: Any = None, meanwhile: Meanwhile | None = None) -> Run:
        """Defines a workflow of these steps, runs it to its end, and does something meanwhile."""
        workflow_id = f"pattern-{uuid4().hex[:8]}"
        await self.define(workflow_id, 1, *steps)
        return await self.start(workflow_id, 1, given, meanwhile)

    async def define(self, workflow_id: str, version: int, *steps: dict[str, Any]) -> None:
        defined = WorkflowDefined(
            event_id=f"{workflow_id}@{version}", occurred_at=utc(time.time()), workflow_id=workflow_id, version=version,
            name=workflow_id, definition={"name": workflow_id, "steps": list(steps)},
        )  # fmt: skip
        await self.platform.load.put(topics.WORKFLOW_DEFINED, encode(defined), key=f"{workflow_id}@{version}".encode())

    async def start(self, workflow_id: str, version: int, given: Any = None, meanwhile: Meanwhile | None = None) -> Run:
        run = Run(self.platform, workflow_id, str(uuid4()))
        started = WorkflowStarted(
            event_id=run.execution_id, occurred_at=utc(time.time()), execution_id=run.execution_id,
            workflow_id=workflow_id, workflow_version=version, input=given,
        )  # fmt: skip
        await run._put(topics.WORKFLOW_STARTED, encode(started))
        self.platform.load.started[run.execution_id] = workflow_id
        if meanwhile is not None:
            await meanwhile(run)
        await self.platform.load.settle(20)
        return run

    def end(self, run: Run) -> str:
        """What `workflow.completed` says of it."""
        return self.platform.load.ended[run.execution_id]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    instances = dict.fromkeys(("scheduler", "agent-runner", "approvals"), 1)
    async with platform_in(tmp_path_factory.mktemp("patterns"), instances=instances) as platform:
        yield Engine(platform)
