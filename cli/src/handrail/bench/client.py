"""An outsider with a Kafka client: defines, starts, and waits for `workflow.completed`."""

import asyncio
import time
import uuid
from collections.abc import Iterable
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from handrail_contracts import topics
from handrail_contracts.approvals import ApprovalSubmitted
from handrail_contracts.codec import encode
from handrail_contracts.envelope import utc
from handrail_contracts.ids import derive, partition_of
from handrail_contracts.topics import EXECUTION_PARTITIONS
from handrail_contracts.workflows import WorkflowDefined, WorkflowStarted
from handrail_runtime import bus
from handrail_runtime.outbox import Parcel, await_all, send_batches
from handrail_runtime.settings import Settings

PATIENCE = 300.0


class Client:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._reader: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        self._producer = await bus.start_producer(self._settings, "handrail-bench")
        self._reader = await bus.start_reader(self._settings, "handrail-bench")
        ends = [TopicPartition(topics.WORKFLOW_COMPLETED, p) for p in range(EXECUTION_PARTITIONS)]
        places = await bus.end_offsets(self._reader, ends)
        self._reader.assign(ends)
        for tp, offset in places.items():
            self._reader.seek(tp, offset)
        return self

    async def __aexit__(self, *_: object) -> None:
        await bus.stop(self._producer)
        await bus.stop(self._reader)

    async def define(self, name: str, definition: dict[str, Any]) -> str:
        """Saves a definition under a name of its own and returns that."""
        workflow_id = f"{name}-{uuid.uuid4().hex[:8]}"
        message = WorkflowDefined(
            event_id=f"{workflow_id}@1",
            occurred_at=utc(time.time()),
            workflow_id=workflow_id,
            version=1,
            name=name,
            definition={"name": name, **definition},
        )
        await self._send(
            topics.WORKFLOW_DEFINED, [Parcel(topics.WORKFLOW_DEFINED, f"{workflow_id}@1", encode(message), [], 0)]
        )
        return workflow_id

    async def start(self, workflow_id: str, count: int = 1) -> list[str]:
        """Ids of executions whose starts the broker has acknowledged."""
        ids = [str(uuid.uuid4()) for _ in range(count)]
        now = utc(time.time())
        await self._send(
            topics.WORKFLOW_STARTED,
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
                user_id="bench",
                approval_id=derive(execution_id, step_id),
                decision="approved",
            )
            parcels.append(Parcel(topics.APPROVAL_SUBMITTED, execution_id, encode(message), []))
        await self._send(topics.APPROVAL_SUBMITTED, parcels)

    async def _send(self, topic: str, parcels: list[Parcel]) -> None:
        assert self._producer is not None
        by_partition: dict[int, list[Parcel]] = {}
        for parcel in parcels:
            partition = partition_of(parcel.key, EXECUTION_PARTITIONS) if parcel.partition is None else parcel.partition
            by_partition.setdefault(partition, []).append(parcel)
        futures: list[asyncio.Future[Any]] = []
        for partition, group in by_partition.items():
            futures += await send_batches(self._producer, topic, partition, group)
        await await_all(futures, 60)

    async def wait(self, executions: Iterable[str]) -> None:
        """Returns when `workflow.completed` has come for each; raises `TimeoutError` after five minutes."""
        assert self._reader is not None
        open_, deadline = set(executions), time.monotonic() + PATIENCE
        while open_:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(open_)} executions have not ended after {PATIENCE:g} s")
            for records in (await self._reader.getmany(timeout_ms=1000)).values():
                open_.difference_update((record.key or b"").decode() for record in records)

    async def run(self, workflow_id: str) -> float:
        """Seconds from publishing the start to reading the end of one execution."""
        began = time.perf_counter()
        await self.wait(await self.start(workflow_id))
        return time.perf_counter() - began
