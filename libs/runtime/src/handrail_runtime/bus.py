"""Kafka clients with every setting that matters made explicit, in one place."""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from handrail_runtime.errors import Unavailable
from handrail_runtime.settings import Settings

FETCH_MAX_WAIT_MS = 500
START_TIMEOUT = 20.0


async def start_producer(settings: Settings, client_id: str) -> AIOKafkaProducer:
    """An idempotent producer with acks from all in-sync replicas and no linger.

    Requests are bounded by `send_timeout_seconds` at the callers: aiokafka itself retries an idempotent batch for ever.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.brokers,
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=512 * 1024,
        max_request_size=2 * 1024 * 1024,
        request_timeout_ms=30_000,
        retry_backoff_ms=50,
        metadata_max_age_ms=60_000,
    )
    await _start(producer, settings)
    return producer


async def start_reader(
    settings: Settings,
    client_id: str,
    *,
    group: str | None = None,
    max_wait_ms: int = FETCH_MAX_WAIT_MS,
    min_bytes: int = 1,
) -> AIOKafkaConsumer:
    """A consumer without subscription: its user assigns and seeks. An offset out of range raises, always."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.brokers,
        client_id=client_id,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        fetch_max_wait_ms=max_wait_ms,
        fetch_min_bytes=min_bytes,
        max_partition_fetch_bytes=2 * 1024 * 1024,
        fetch_max_bytes=16 * 1024 * 1024,
        check_crcs=False,
        retry_backoff_ms=50,
        metadata_max_age_ms=60_000,
        request_timeout_ms=30_000,
    )
    await _start(consumer, settings)
    return consumer


async def start_member(settings: Settings, client_id: str, group: str) -> AIOKafkaConsumer:
    """A consumer that only belongs to a group; nothing is fetched through it, so it never counts as idle."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.brokers,
        client_id=client_id,
        group_id=group,
        group_instance_id=settings.instance_id or None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        partition_assignment_strategy=(StickyPartitionAssignor,),
        session_timeout_ms=settings.session_timeout_ms,
        heartbeat_interval_ms=settings.heartbeat_interval_ms,
        max_poll_interval_ms=2**31 - 1,
        rebalance_timeout_ms=30_000,
        retry_backoff_ms=50,
        metadata_max_age_ms=60_000,
    )
    await _start(consumer, settings)
    return consumer


async def start_group_reader(settings: Settings, client_id: str, group: str, topic: str) -> AIOKafkaConsumer:
    """A member of a group that reads its share of a topic, from the group's position or the beginning; its user commits."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=settings.brokers,
        client_id=client_id,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        partition_assignment_strategy=(StickyPartitionAssignor,),
        session_timeout_ms=settings.session_timeout_ms,
        heartbeat_interval_ms=settings.heartbeat_interval_ms,
        max_poll_interval_ms=300_000,
        isolation_level="read_committed",
        retry_backoff_ms=50,
        metadata_max_age_ms=60_000,
    )
    await _start(consumer, settings)
    return consumer


async def _start(client: AIOKafkaProducer | AIOKafkaConsumer, settings: Settings) -> None:
    try:
        await asyncio.wait_for(client.start(), START_TIMEOUT)
    except (KafkaError, OSError, TimeoutError) as error:
        await stop(client)
        raise Unavailable(f"no broker answers at {settings.brokers}: {error!r}") from error


async def stop(client: AIOKafkaProducer | AIOKafkaConsumer | None, timeout: float = 5.0) -> None:
    """Stops a client; one that cannot say goodbye in time is left behind (`stop` waits for a broker that is away)."""
    if client is None:
        return
    try:
        await asyncio.wait_for(client.stop(), timeout)
    except (TimeoutError, KafkaError, OSError):
        pass


async def end_offsets(reader: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Where the partitions end now. Raises `Unavailable` if the broker does not say so in time."""
    try:
        found: dict[TopicPartition, int] = await asyncio.wait_for(reader.end_offsets(partitions), 30)
    except (KafkaError, TimeoutError) as error:
        raise Unavailable(f"the broker does not tell the ends of {len(partitions)} partitions: {error!r}") from error
    return found


async def begin_offsets(reader: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Where the partitions begin now."""
    try:
        found: dict[TopicPartition, int] = await asyncio.wait_for(reader.beginning_offsets(partitions), 30)
    except (KafkaError, TimeoutError) as error:
        raise Unavailable(f"the broker does not tell the beginnings: {error!r}") from error
    return found
