"""Stand-ins for the services that the gateway's tests leave out.

The scheduler's and approvals' part is played by journals that the test writes; the projector's by a few statements that
fill the read models from the topics as the agreed schema says.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson
from aiokafka import TopicPartition
from handrail_contracts.codec import encode
from handrail_contracts.envelope import utc
from handrail_contracts.ids import partition_of
from handrail_contracts.journal import JournalFilter, Record, Verdict, claim_header, record_header
from handrail_contracts.topics import EXECUTION_PARTITIONS, catalogue
from handrail_runtime import bus
from handrail_runtime.settings import Settings

PROJECTED = ("workflow.defined", "workflow.started", "execution.events", "approval.events", "agent.registered")
ENDS = {
    "execution.completed": "completed",
    "execution.failed": "failed",
    "execution.rejected": "failed",
    "execution.cancelled": "cancelled",
    "execution.timed_out": "timeout",
}


@dataclass
class Journal:
    """One journal topic, written as its owner writes it: a claim first, then records in sequence."""

    producer: Any
    topic: str
    _filters: dict[int, JournalFilter] = field(default_factory=dict)

    async def append(self, key: str, record: Record) -> None:
        partition = partition_of(key, EXECUTION_PARTITIONS)
        if partition not in self._filters:
            await self.claim(partition)
        state = self._filters[partition]
        header = record_header(state.epoch, state.next_seq)
        sent = await self.producer.send_and_wait(self.topic, encode(record), key.encode(), partition, headers=[header])
        assert state.take(sent.offset, [header]) is Verdict.ACCEPTED

    async def claim(self, partition: int) -> None:
        state = self._filters.setdefault(partition, JournalFilter())
        header = claim_header(state.epoch, "test")
        sent = await self.producer.send_and_wait(self.topic, b"{}", b"claim", partition, headers=[header])
        assert state.take(sent.offset, [header]) is Verdict.CLAIM

    async def foreign(self, key: str, value: bytes, epoch: int = -7) -> None:
        """A record of an owner that was fenced out: no reader may take it."""
        partition = partition_of(key, EXECUTION_PARTITIONS)
        await self.producer.send_and_wait(self.topic, value, key.encode(), partition, headers=[record_header(epoch, 0)])


@dataclass
class StandInProjector:
    """Fills the read models, one transaction a batch, positions in it. `pause` holds it back."""

    settings: Settings
    going: asyncio.Event = field(default_factory=asyncio.Event)
    _filters: dict[TopicPartition, JournalFilter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.going.set()

    def pause(self) -> None:
        self.going.clear()

    def resume(self) -> None:
        self.going.set()

    async def run(self) -> None:
        reader: Any = await bus.start_reader(self.settings, "test-projector", max_wait_ms=20)
        places = [TopicPartition(topic, p) for topic in PROJECTED for p in range(catalogue()[topic].partitions)]
        connection = await asyncpg.connect(self.settings.database_url, server_settings={"search_path": "handrail"})
        try:
            reader.assign(places)
            for place, offset in (await bus.begin_offsets(reader, places)).items():
                reader.seek(place, offset)
            while True:
                fetched = await reader.getmany(timeout_ms=20)
                await self.going.wait()
                async with connection.transaction():
                    for place, records in fetched.items():
                        await self._project(connection, place, records)
        finally:
            await bus.stop(reader)
            await connection.close()

    async def _project(self, connection: Any, place: TopicPartition, records: Sequence[Any]) -> None:
        state = self._filters.setdefault(place, JournalFilter())
        for record in records:
            if place.topic.endswith(".events") and state.take(record.offset, record.headers) is not Verdict.ACCEPTED:
                continue
            body = orjson.loads(record.value)
            await getattr(self, "_" + place.topic.replace(".", "_"))(connection, record, body)
        await connection.execute(
            "INSERT INTO positions VALUES ($1, $2, $3, $4, $5) ON CONFLICT (topic, partition) DO UPDATE"
            " SET next_offset = $3, epoch = $4, next_seq = $5",
            place.topic,
            place.partition,
            records[-1].offset + 1,
            state.epoch,
            state.next_seq,
        )

    async def _workflow_defined(self, connection: Any, record: Any, body: Mapping[str, Any]) -> None:
        await connection.execute(
            "INSERT INTO workflow_versions VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
            *(body[name] for name in ("workflow_id", "version", "user_id", "organization_id", "project_id", "name")),
            orjson.dumps(body["definition"]).decode(),
            body["active"],
            body["event_id"],
            utc(record.timestamp / 1000),
        )

    async def _workflow_started(self, connection: Any, record: Any, body: Mapping[str, Any]) -> None:
        await connection.execute(
            "INSERT INTO executions VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', $8, $9, $10, NULL, NULL, $11, NULL, 0)"
            " ON CONFLICT DO NOTHING",
            *(body.get(name) for name in ("execution_id", "workflow_id", "workflow_version", "user_id")),
            *(body.get(name) for name in ("organization_id", "project_id", "session_id")),
            *(orjson.dumps(body.get(name)).decode() for name in ("trigger", "input", "context")),
            utc(record.timestamp / 1000),
        )

    async def _agent_registered(self, connection: Any, record: Any, body: Mapping[str, Any]) -> None:
        await connection.execute("DELETE FROM agents WHERE agent = $1", body["agent"])
        if not body["removed"]:
            await connection.execute(
                "INSERT INTO agents VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                *(body[name] for name in ("agent", "kind", "name", "description", "capabilities")),
                *(body[name] for name in ("organization_id", "project_id")),
                orjson.dumps(body["config"]).decode(),
                utc(record.timestamp / 1000),
            )

    async def _execution_events(self, connection: Any, record: Any, body: Mapping[str, Any]) -> None:
        events, execution_id = body["events"], body["execution_id"]
        await connection.execute(
            "INSERT INTO execution_history VALUES ($1, $2, $3, $4, $5, $6, 'test', $7)",
            execution_id,
            events[0]["n"],
            events[-1]["n"],
            record.partition,
            record.offset,
            utc(record.timestamp / 1000),
            orjson.dumps(events).decode(),
        )
        for event in events:
            if event["type"] == "execution.started":
                await self._status(connection, execution_id, "running", event)
            if event["type"] == "step.started":
                await connection.execute(
                    "INSERT INTO steps (execution_id, step_id, step_type, run_id, agent, status, attempt, started_at, first_n)"
                    " VALUES ($1, $2, $3, $4, $5, 'running', $6, $7, $8)",
                    execution_id,
                    *(event.get(name) for name in ("step_id", "step_type", "run_id", "agent", "attempt")),
                    utc(record.timestamp / 1000),
                    event["n"],
                )
            if event["type"] == "step.completed":
                await connection.execute(
                    "UPDATE steps SET status = 'completed', output = $3, completed_at = $4"
                    " WHERE execution_id = $1 AND step_id = $2",
                    execution_id,
                    event["step_id"],
                    orjson.dumps(event.get("output")).decode(),
                    utc(record.timestamp / 1000),
                )
            if event["type"] in ENDS:
                await self._status(connection, execution_id, ENDS[event["type"]], event)

    async def _status(self, connection: Any, execution_id: str, status: str, event: Mapping[str, Any]) -> None:
        await connection.execute(
            "UPDATE executions SET status = $2, last_n = $3, result = $4, error = $5 WHERE execution_id = $1",
            execution_id,
            status,
            event["n"],
            orjson.dumps(event.get("result")).decode(),
            orjson.dumps(event.get("error")).decode() if "error" in event else None,
        )

    async def _approval_events(self, connection: Any, record: Any, body: Mapping[str, Any]) -> None:
        for ordinal, event in enumerate(body["events"]):
            if event["type"] == "approval.opened":
                await connection.execute(
                    "INSERT INTO approvals (approval_id, execution_id, workflow_id, step_id, user_id, organization_id,"
                    " project_id, status, approvers, message, created_at)"
                    " VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', $8, $9, $10)",
                    event["approval_id"],
                    body["execution_id"],
                    body["workflow_id"],
                    *(event[name] for name in ("step_id", "user_id", "organization_id", "project_id", "approvers")),
                    event.get("message", ""),
                    utc(record.timestamp / 1000),
                )
            if event["type"] == "approval.closed":
                await connection.execute(
                    "UPDATE approvals SET status = $2, submission_id = $3, decided_by = $4, comment = $5, decided_at = $6"
                    " WHERE approval_id = $1",
                    *(event[name] for name in ("approval_id", "decision", "submission_id", "by", "comment")),
                    utc(record.timestamp / 1000),
                )
            await connection.execute(
                "INSERT INTO approval_history VALUES ($1, $2, $3, $4, $5, $6)",
                event["approval_id"],
                record.partition,
                record.offset,
                ordinal,
                utc(record.timestamp / 1000),
                orjson.dumps(event).decode(),
            )
