"""Reads partitions from given offsets on: one fetch at a time, when asked, through Kafka's incremental fetch sessions.

aiokafka's consumer names every partition in every fetch, takes every one of them apart in every answer, and fetches ahead
before what it handed out could be worked on. A session (KIP-227) names only what has changed, and here nothing is fetched
until `poll` is called: what the last records led to has left this process by then.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    NotLeaderForPartitionError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.api import Request
from aiokafka.protocol.fetch import FetchRequest_v11
from aiokafka.protocol.offset import OffsetRequest

from handrail_runtime.errors import Unavailable
from handrail_runtime.settings import Settings
from handrail_runtime.tolerant import KeptRecords, TolerantPartitionRecords

log = structlog.get_logger()

Record = ConsumerRecord[Any, Any]
Places = dict[TopicPartition, int]

READ_COMMITTED = 1
EARLIEST, LATEST = -2, -1
LAST_EPOCH = 2**31 - 1
FETCH_BYTES, PARTITION_BYTES = 16 * 1024 * 1024, 2 * 1024 * 1024
BACKOFF_SECONDS = 0.05
OFFSETS_SECONDS = 30.0
MOVED = (NotLeaderForPartitionError, LeaderNotAvailableError, UnknownTopicOrPartitionError)


async def start_client(settings: Settings, client_id: str) -> AIOKafkaClient:
    """Connections and metadata, without a consumer or producer around them. Raises `Unavailable` if no broker answers."""
    client = AIOKafkaClient(
        bootstrap_servers=settings.brokers,
        client_id=client_id,
        metadata_max_age_ms=60_000,
        request_timeout_ms=30_000,
        retry_backoff_ms=50,
    )
    try:
        await asyncio.wait_for(client.bootstrap(), 20)
    except (KafkaError, OSError, TimeoutError) as error:
        await client.close()
        raise Unavailable(f"no broker answers at {settings.brokers}: {error!r}") from error
    return client


class _Fetch(Request[FetchRequest_v11]):
    """What changed in a session since its last fetch."""

    API_KEY = 1

    def __init__(
        self, session: "_Session", wait: tuple[int, int], changed: Places, forgotten: list[TopicPartition]
    ) -> None:
        self._session, self._wait, self._changed, self._forgotten = session, wait, changed, forgotten

    def build(self, request_struct_class: type[FetchRequest_v11]) -> FetchRequest_v11:
        topics: defaultdict[str, list[Any]] = defaultdict(list)
        for tp, offset in self._changed.items():
            topics[tp.topic].append((tp.partition, -1, offset, -1, PARTITION_BYTES))
        forgotten: defaultdict[str, list[int]] = defaultdict(list)
        for tp in self._forgotten:
            forgotten[tp.topic].append(tp.partition)
        return request_struct_class(
            -1, *self._wait, FETCH_BYTES, READ_COMMITTED, self._session.id, self._session.epoch,
            list(topics.items()), list(forgotten.items()), "",
        )  # fmt: skip


class _Session:
    """What a broker knows of our places. Epoch 0 asks for a new session: after an error both sides begin afresh."""

    def __init__(self) -> None:
        self.id = self.epoch = 0
        self.known: Places = {}

    def request(self, wanted: Places, wait: tuple[int, int]) -> _Fetch:
        """`wait`: milliseconds at most, bytes at least."""
        if self.epoch == 0:
            self.known = {}
        changed = {tp: offset for tp, offset in wanted.items() if self.known.get(tp) != offset}
        forgotten = [tp for tp in self.known if tp not in wanted]
        self.known = wanted
        return _Fetch(self, wait, changed, forgotten)

    def answered(self, response: Any) -> bool:
        """False if the broker does not know the session any more."""
        self.id = response.session_id
        known: bool = response.error_code == 0
        self.epoch = 0 if not known or self.id == 0 else 1 if self.epoch == LAST_EPOCH else self.epoch + 1
        return known


class Reader:
    """Reads from where its user says; never by itself from anywhere else. One task polls at a time.

    Connection errors and moved leaders are waited out inside `poll`, which then returns nothing.
    """

    def __init__(self, client: AIOKafkaClient, name: str, min_bytes: int) -> None:
        self._client, self._name, self._min_bytes = client, name, min_bytes
        self._places: Places = {}
        self._ready: deque[tuple[TopicPartition, Any]] = deque()
        self._sessions: dict[int, _Session] = {}
        self._fetches: dict[int, asyncio.Task[None]] = {}
        self._by_leader: dict[int, list[TopicPartition]] | None = None
        self._marks: dict[TopicPartition, int] = {}
        self._away = self._stale = False

    @classmethod
    async def start(cls, settings: Settings, client_id: str, *, min_bytes: int = 1) -> "Reader":
        """A broker answers a fetch once it has `min_bytes`, or when the wait is over. Raises `Unavailable`."""
        return cls(await start_client(settings, client_id), client_id, min_bytes)

    async def stop(self) -> None:
        fetches = list(self._fetches.values())
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)
        await self._client.close()

    # --- places -----------------------------------------------------------------------------------------------------

    def assign(self, places: Mapping[TopicPartition, int]) -> None:
        """Reads these partitions, each from its offset on, and no others; what was fetched and not handed out is dropped."""
        self._places = dict(places)
        self._ready.clear()
        self._by_leader = None
        if places:
            self._client.set_topics({tp.topic for tp in places})

    def position(self, tp: TopicPartition) -> int:
        """The offset that is handed out next."""
        return self._places[tp]

    def highwater(self, tp: TopicPartition) -> int | None:
        """Where the partition ended at its last fetch."""
        return self._marks.get(tp)

    async def begin_offsets(self, tps: Iterable[TopicPartition]) -> Places:
        """Where the partitions begin now. Raises `Unavailable` if the brokers don't tell in time."""
        return await self._offsets(dict.fromkeys(tps, EARLIEST))

    async def end_offsets(self, tps: Iterable[TopicPartition]) -> Places:
        """Where the partitions end now."""
        return await self._offsets(dict.fromkeys(tps, LATEST))

    async def offsets_at(self, tps: Iterable[TopicPartition], timestamp_ms: int) -> Places:
        """The first offsets at that time or later; -1 where there is none."""
        return await self._offsets(dict.fromkeys(tps, timestamp_ms))

    async def _offsets(self, times: Places) -> Places:
        try:
            async with asyncio.timeout(OFFSETS_SECONDS):
                while True:
                    found = await self._ask_offsets(times)
                    if len(found) == len(times):
                        return found
                    await self._refresh()
        except TimeoutError as error:
            raise Unavailable(f"the broker does not tell the offsets of {len(times)} partitions") from error

    async def _ask_offsets(self, times: Places) -> Places:
        """On a connection of its own, since a fetch may wait on the other one."""
        found: Places = {}
        for topic in {tp.topic for tp in times}:
            await self._client.add_topic(topic)
        for node, tps in self._group_by_leader(times).items():
            topics: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
            for tp in tps:
                topics[tp.topic].append((tp.partition, times[tp]))
            request = OffsetRequest(-1, READ_COMMITTED, list(topics.items()))
            try:
                response = await self._client.send(node, request, group=ConnectionGroup.COORDINATION)
            except KafkaError as error:
                log.warning("offsets_not_told", reader=self._name, error=repr(error))
                continue
            for topic, partitions in response.topics:
                for partition, code, _, offset in partitions:
                    if code == 0:
                        found[TopicPartition(topic, partition)] = offset
        return found

    def _group_by_leader(self, tps: Iterable[TopicPartition]) -> dict[int, list[TopicPartition]]:
        grouped: defaultdict[int, list[TopicPartition]] = defaultdict(list)
        for tp in tps:
            leader = self._client.cluster.leader_for_partition(tp)
            if leader is not None and leader != -1:
                grouped[leader].append(tp)
        return grouped

    async def _refresh(self) -> None:
        """Learns anew who leads what, after a moment."""
        self._by_leader, self._stale = None, False
        await asyncio.sleep(BACKOFF_SECONDS)
        await self._client.force_metadata_update()

    # --- reading ----------------------------------------------------------------------------------------------------

    async def poll(self, max_records: int = 500, wait_ms: int = 200) -> dict[TopicPartition, list[Record]]:
        """The next records, in order within each partition; empty if none came in that time.

        Raises `OffsetOutOfRangeError` ({partition: offset}) for a place that does not exist. May be cancelled.
        """
        if not self._ready:
            await self._fetch(wait_ms)
        return self._take(max_records)

    def _take(self, max_records: int) -> dict[TopicPartition, list[Record]]:
        taken: dict[TopicPartition, list[Record]] = {}
        while self._ready and max_records > 0:
            tp, unpacked = self._ready[0]
            records: list[Record] = []
            try:
                for record in unpacked:
                    records.append(record)
                    if len(records) == max_records:
                        break
                else:
                    self._ready.popleft()
            finally:
                self._places[tp] = unpacked.next_fetch_offset
            max_records -= len(records)
            if records:
                taken.setdefault(tp, []).extend(records)
        return taken

    async def _fetch(self, wait_ms: int) -> None:
        if self._stale:
            await self._refresh()
        if self._by_leader is None:
            self._by_leader = self._group_by_leader(self._places)
            self._stale = sum(map(len, self._by_leader.values())) < len(self._places)
        if len(self._by_leader) == 1 and not self._fetches:
            [(node, tps)] = self._by_leader.items()
            await self._fetch_from(node, tps, wait_ms)
        else:
            await self._fetch_from_all(self._by_leader, wait_ms)

    async def _fetch_from_all(self, by_leader: dict[int, list[TopicPartition]], wait_ms: int) -> None:
        """Returns as soon as one has answered; the others go on."""
        for node, tps in by_leader.items():
            if node not in self._fetches:
                self._fetches[node] = asyncio.create_task(self._fetch_from(node, tps, wait_ms))
        if not self._fetches:
            await asyncio.sleep(BACKOFF_SECONDS)
            return
        await asyncio.wait(self._fetches.values(), return_when=asyncio.FIRST_COMPLETED)
        for node, task in list(self._fetches.items()):
            if task.done():
                del self._fetches[node]
                task.result()

    async def _fetch_from(self, node: int, tps: list[TopicPartition], wait_ms: int) -> None:
        session = self._sessions.setdefault(node, _Session())
        wanted = {tp: self._places[tp] for tp in tps if tp in self._places}
        answered = False
        try:
            response = await self._client.send(node, session.request(wanted, (wait_ms, self._min_bytes)))
            answered = session.answered(response)
            self._away = False
        except KafkaError as error:
            if not self._away:
                log.warning("fetch_failed", reader=self._name, node=node, error=repr(error))
            self._away = self._stale = True
            return
        finally:
            if not answered:
                session.epoch = 0
        if response.error_code == 0:
            for topic, partitions in response.topics:
                self._receive(wanted, topic, partitions)

    def _receive(self, asked: Places, topic: str, partitions: Iterable[Any]) -> None:
        for partition, code, mark, _, _, aborted, _, raw in partitions:
            tp = TopicPartition(topic, partition)
            offset = asked.get(tp)
            if offset is None or self._places.get(tp) != offset:
                continue  # assigned anew in the meantime
            error = for_code(code)
            if code == 0:
                self._marks[tp] = mark
                if raw:
                    records = KeptRecords(raw)
                    unpacked = TolerantPartitionRecords(tp, records, aborted, offset, None, None, False, READ_COMMITTED)
                    self._ready.append((tp, unpacked))
            elif error is OffsetOutOfRangeError:
                raise OffsetOutOfRangeError({tp: offset})
            elif error in MOVED or error.retriable:
                self._stale = True
            else:
                raise error(f"{topic} partition {partition} at offset {offset}")
