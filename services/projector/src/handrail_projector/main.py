"""Puts the projector together: owns partitions, feeds the live schema, survives both its neighbours."""

import asyncio
import time

import asyncpg
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from handrail_contracts import topics
from handrail_contracts.codec import cloud_event_headers
from handrail_runtime.deadletters import dead_letter, letter_bytes
from handrail_runtime.errors import Fenced, Unavailable
from handrail_runtime.membership import Membership
from handrail_runtime.reader import Reader
from handrail_runtime.service import Health
from handrail_runtime.settings import Settings
from handrail_runtime.telemetry import CONSUMER_LAG, PROJECTOR_POSITION
from handrail_runtime.writer import Parcel, Writer, deliver

from handrail_projector.columns import Unreadable
from handrail_projector.feed import Feed, Record, connect
from handrail_projector.migrate import migrate
from handrail_projector.writer import PositionMoved

log = structlog.get_logger()

PORT = 8004
SCHEMA = "handrail"
FRESHNESS_MS = 25  # how long the broker may hold records back to make fetches, and transactions, few and large
REPORT_SECONDS = 1.0

RECOVERABLE = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    KafkaError,
    OSError,
    TimeoutError,
    Unavailable,
    Fenced,
    PositionMoved,
)


async def main(settings: Settings, health: Health, stop: asyncio.Event) -> None:
    delay = 0.1
    while not stop.is_set():
        projector = Projector(settings, health)
        began = time.monotonic()
        try:
            await projector.run(stop)
        except RECOVERABLE as error:
            health.set_not_ready(f"recovering: {type(error).__name__}: {error}")
            log.warning("projector_starts_over", error=f"{type(error).__name__}: {error}")
            delay = 0.1 if time.monotonic() - began > 5 else min(delay * 2, 1.0)
            await asyncio.sleep(delay)
        finally:
            await projector.close()


class Projector:
    """One life, from connecting to the first fault."""

    def __init__(self, settings: Settings, health: Health) -> None:
        self._settings, self._health = settings, health
        self._membership = Membership(settings, "handrail.projector", topics.EXECUTION_EVENTS)
        self._reader: Reader | None = None
        self._writer: Writer | None = None
        self._connection: asyncpg.Connection | None = None

    async def run(self, stop: asyncio.Event) -> None:
        connection = self._connection = await connect(self._settings.database_url, SCHEMA)
        applied = await migrate(connection, SCHEMA)
        if applied:
            log.info("migrated", migrations=applied)
        self._reader = await Reader.start(self._settings, "handrail-projector", min_bytes=64 * 1024)
        await self._membership.start()
        feed = Feed(self._reader, connection, self._set_aside)
        reported = time.monotonic()
        while not stop.is_set():
            if self._membership.changed.is_set():
                self._membership.changed.clear()
                await feed.assign(self._membership.assigned)
                log.info("partitions_assigned", partitions=sorted(self._membership.assigned))
                self._health.set_ready(f"{len(self._membership.assigned)} partitions")
            if not feed.positions:
                await asyncio.sleep(0.02)
                self._health.beat()
                continue
            await feed.step(FRESHNESS_MS)
            self._health.beat()
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                self._report(feed)
        await self._membership.stop(leave=True)

    def _report(self, feed: Feed) -> None:
        assert self._reader is not None
        lag: dict[str, int] = {}
        for (topic, partition), position in feed.positions.items():
            PROJECTOR_POSITION.labels(topic, partition).set(position.next_offset)
            mark = self._reader.highwater(TopicPartition(topic, partition)) or 0
            lag[topic] = lag.get(topic, 0) + max(0, mark - position.next_offset)
        for topic, records in lag.items():
            CONSUMER_LAG.labels("projector", topic).set(records)

    async def _set_aside(self, record: Record, error: Unreadable) -> None:
        """A record that can't be projected goes to the dead letters before its position is passed."""
        log.warning("record_unreadable", topic=record.topic, partition=record.partition, offset=record.offset)
        if record.topic == topics.DEAD_LETTERS:
            return
        if self._writer is None:
            self._writer = await Writer.start(self._settings, "handrail-projector")
        letter = dead_letter(record, service="projector", code="UNREADABLE", reason=str(error), now=time.time())
        key, value = letter_bytes(letter)
        parcel = Parcel(topics.DEAD_LETTERS, key.decode(), value, cloud_event_headers(letter, "/handrail/projector"), 0)
        await deliver(self._writer, [parcel], self._settings.send_timeout_seconds)

    async def close(self) -> None:
        await self._membership.stop()
        for client in (self._reader, self._writer):
            if client is not None:
                await client.stop()
        if self._connection is not None:
            self._connection.terminate()
