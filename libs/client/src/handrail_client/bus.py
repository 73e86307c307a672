"""Straight to the topics, for programs that are on the bus anyway. Needs the extra: `handrail-client[bus]`."""

from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from pydantic_core import to_json

from handrail_client.models import Json
from handrail_client.transport import given

STARTED, RECEIVED = "workflow.started", "event.received"


class Bus:
    """A producer that waits for every in-sync replica. For whom it speaks it says itself: on the bus, only the broker checks."""

    def __init__(self, brokers: str, *, organization_id: str, project_id: str, user_id: str, **producer: Any) -> None:
        """`producer`: more settings of aiokafka's, such as those of TLS and SASL."""
        self._whose = {"organization_id": organization_id, "project_id": project_id, "user_id": user_id}
        # bytes are given and partitioned as Java's client does it: murmur2 of the key
        self._producer = AIOKafkaProducer(bootstrap_servers=brokers, acks="all", enable_idempotence=True, **producer)

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._producer.stop()

    async def start(
        self,
        workflow_id: str,
        input: Any = None,
        *,
        version: int | None = None,
        context: Json | None = None,
        execution_id: str | None = None,
    ) -> str:
        """Publishes `workflow.started` and gives the execution's id. The same `execution_id` again starts nothing new."""
        identifier = execution_id or str(uuid4())
        await self._publish(
            STARTED,
            identifier,
            event_id=identifier,
            schema_version=2,
            execution_id=identifier,
            workflow_id=workflow_id,
            input=input,
            **given(workflow_version=version, context=context),
        )
        return identifier

    async def publish(self, type: str, data: Any = None, *, source: str = "", event_id: str | None = None) -> str:
        """Publishes `event.received`; workflows whose trigger names its type start, for the same `event_id` once."""
        identifier = event_id or str(uuid4())
        key = f"event:{identifier}"
        await self._publish(RECEIVED, key, event_id=identifier, schema_version=1, type=type, source=source, data=data)
        return identifier

    async def _publish(self, topic: str, key: str, **message: Any) -> None:
        envelope = {"event_type": topic, "occurred_at": datetime.now(UTC), **self._whose}
        await self._producer.send_and_wait(topic, to_json(envelope | message), key=key.encode())
