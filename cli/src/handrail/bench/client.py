"""A client on the bus alone: defines, starts, and waits for `workflow.completed`."""

import time
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Self

import orjson
from aiokafka import TopicPartition
from handrail_contracts import topics
from handrail_contracts.approvals import ApprovalSubmitted
from handrail_contracts.codec import encode
from handrail_contracts.envelope import utc
from handrail_contracts.ids import derive
from handrail_contracts.topics import EXECUTION_PARTITIONS
from handrail_contracts.workflows import WorkflowDefined, WorkflowStarted
from handrail_runtime.reader import Reader
from handrail_runtime.settings import Settings
from handrail_runtime.writer import Parcel, Writer, deliver

PATIENCE = 300.0
TENANT = {"user_id": "bench", "organization_id": "bench", "project_id": "bench"}


class Client:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._writer: Writer | None = None
        self._reader: Reader | None = None

    async def __aenter__(self) -> Self:
        self._writer = await Writer.start(self._settings, "handrail-bench")
        self._reader = await Reader.start(self._settings, "handrail-bench")
        ends = [TopicPartition(topics.WORKFLOW_COMPLETED, p) for p in range(EXECUTION_PARTITIONS)]
        self._reader.assign(await self._reader.end_offsets(ends))
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in (self._writer, self._reader):
            if client is not None:
                await client.stop()

    async def define(self, name: str, definition: dict[str, Any]) -> str:
        """Saves a definition under a name of its own and returns that."""
        workflow_id = f"{name}-{uuid.uuid4().hex[:8]}"
        message = WorkflowDefined(
            event_id=f"{workflow_id}@1",
            occurred_at=utc(time.time()),
            workflow_id=workflow_id,
            **TENANT,
            version=1,
            name=name,
            definition={"name": name, **definition},
        )
        await self._send([Parcel(topics.WORKFLOW_DEFINED, f"{workflow_id}@1", encode(message), [], 0)])
        return workflow_id

    async def start(self, workflow_id: str, count: int = 1) -> list[str]:
        """Ids of executions whose starts the broker has acknowledged."""
        ids = [str(uuid.uuid4()) for _ in range(count)]
        now = utc(time.time())
        await self._send(
            [
                Parcel(
                    topics.WORKFLOW_STARTED,
                    execution_id,
                    encode(
                        WorkflowStarted(
                            event_id=execution_id,
                            occurred_at=now,
                            execution_id=execution_id,
                            workflow_id=workflow_id,
                            **TENANT,
                            input={"n": 1},
                        )
                    ),
                    [],
                )
                for execution_id in ids
            ],
        )
        return ids

    async def approve(self, workflow_id: str, executions: Iterable[str], step_id: str) -> None:
        """Approves the gate of that step in each execution."""
        now = utc(time.time())
        parcels = []
        for execution_id in executions:
            message = ApprovalSubmitted(
                event_id=derive(execution_id, "bench"),
                occurred_at=now,
                execution_id=execution_id,
                workflow_id=workflow_id,
                **TENANT,
                approval_id=derive(execution_id, step_id),
                decision="approved",
            )
            parcels.append(Parcel(topics.APPROVAL_SUBMITTED, execution_id, encode(message), []))
        await self._send(parcels)

    async def _send(self, parcels: list[Parcel]) -> None:
        assert self._writer is not None
        await deliver(self._writer, parcels, 60)

    async def wait(self, executions: Iterable[str]) -> None:
        """Returns when `workflow.completed` has come for each; raises `TimeoutError` after five minutes."""
        open_, deadline = set(executions), time.monotonic() + PATIENCE
        while open_:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(open_)} executions have not ended after {PATIENCE:g} s")
            open_.difference_update(execution_id for execution_id, _ in await self.ended())

    async def ended(self, wait_ms: int = 200) -> list[tuple[str, float]]:
        """What has ended since the last call, a moment's wait included: ids, and when the journal says that it was."""
        assert self._reader is not None
        return [
            (
                (record.key or b"").decode(),
                datetime.fromisoformat(orjson.loads(record.value or b"")["timestamp"]).timestamp(),
            )
            for records in (await self._reader.poll(wait_ms=wait_ms)).values()
            for record in records
        ]

    async def run(self, workflow_id: str) -> float:
        """Seconds from publishing the start to reading the end of one execution."""
        began = time.perf_counter()
        await self.wait(await self.start(workflow_id))
        return time.perf_counter() - began
