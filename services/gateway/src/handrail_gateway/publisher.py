"""The gateway's only way to change anything: a record on a topic, acknowledged by every in-sync replica, or a 503.

An idempotent aiokafka producer retries for ever, so a send that is not answered in time is *unknown*, not failed. Its
producer is discarded with whatever it still holds, and another is started in the background.
"""

import asyncio
from typing import Any, Protocol

from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)
from handrail_contracts.codec import MAX_RECORD_BYTES, cloud_event_headers, encode
from handrail_contracts.envelope import Message
from handrail_contracts.ids import partition_of
from handrail_contracts.topics import catalogue
from handrail_runtime import bus
from handrail_runtime.settings import Settings

from handrail_gateway.connection import Connection
from handrail_gateway.metrics import PUBLISHED
from handrail_gateway.problems import Problem, unavailable

SEND_SECONDS = 4.0
SOURCE = "handrail/gateway"
_REFUSED = (InvalidTopicError, TopicAuthorizationFailedError)


class Producer(Protocol):
    """What is used of `AIOKafkaProducer`."""

    async def send(
        self, topic: str, value: bytes, key: bytes, partition: int, *, headers: list[tuple[str, bytes]]
    ) -> "asyncio.Future[Any]": ...


async def discard(producer: Any) -> None:
    """Stops a producer without letting it deliver what it holds: its caller has been told that the outcome is unknown."""
    sender = getattr(producer, "_sender", None)
    task: asyncio.Task[None] | None = getattr(sender, "sender_task", None)
    for _ in range(100):  # once more for every request in flight: a cancelled sender waits for them, one by one
        if task is None or task.done():
            break
        task.cancel()
        await asyncio.sleep(0)
    try:
        await asyncio.wait_for(producer.client.close(), 5)
    except (TimeoutError, KafkaError, OSError):
        pass
    await bus.stop(producer)


class Publisher:
    """Publishes with an explicit partition."""

    def __init__(self, connection: Connection[Any], send_seconds: float = SEND_SECONDS) -> None:
        self.connection, self._send_seconds = connection, send_seconds

    @classmethod
    def from_settings(cls, settings: Settings) -> "Publisher":
        return cls(Connection("publisher", lambda: bus.start_producer(settings, "handrail-gateway"), discard))

    async def publish(self, topic: str, key: str, message: Message) -> tuple[int, int]:
        """Partition and offset of the record, once all in-sync replicas have it. Raises a `Problem` otherwise."""
        value, headers = encode(message), cloud_event_headers(message, SOURCE)
        if len(value) + len(key) + 512 > MAX_RECORD_BYTES:
            raise Problem(413, "RECORD_TOO_LARGE", f"What this asks for is larger than {MAX_RECORD_BYTES} bytes.")
        if (producer := self.connection.client) is None:
            PUBLISHED.labels(topic, "refused").inc()
            raise unavailable("BROKER_UNAVAILABLE", "The broker cannot be reached; nothing was accepted.")
        partition = partition_of(key, catalogue()[topic].partitions)
        try:
            offset = await asyncio.wait_for(
                self._send(producer, topic, value, key, partition, headers), self._send_seconds
            )
        except (MessageSizeTooLargeError, *_REFUSED) as error:
            PUBLISHED.labels(topic, "refused").inc()
            raise unavailable("BROKER_REFUSED", f"The broker refuses records of {topic}: {error}", 30) from error
        except (TimeoutError, KafkaError, OSError, AssertionError) as error:
            self.connection.replace(producer, error)
            PUBLISHED.labels(topic, "unknown").inc()
            raise unavailable(
                "OUTCOME_UNKNOWN",
                "The broker did not acknowledge in time, so whether this was accepted is unknown. "
                "It is safe to retry with the same Idempotency-Key.",
            ) from error
        PUBLISHED.labels(topic, "acknowledged").inc()
        return partition, offset

    @staticmethod
    async def _send(
        producer: Producer, topic: str, value: bytes, key: str, partition: int, headers: list[tuple[str, bytes]]
    ) -> int:
        acknowledged = await producer.send(topic, value, key.encode(), partition, headers=headers)
        offset: int = (await acknowledged).offset
        return offset
