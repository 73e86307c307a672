"""Writes records: idempotent, acks from all in-sync replicas, in order per partition, at once.

A record waits only while the request before it is under way to the same broker; then all that wait leave in one request.
What a broker can't take for the moment is repeated with its old sequence numbers, so it is never in the log twice. What it
refuses ends the writer: its user makes a new one and finds out from the log what became of the rest.
"""

import asyncio
import struct
import time
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import DuplicateSequenceNumber, KafkaError, NoError, for_code
from aiokafka.protocol.api import Request
from aiokafka.protocol.produce import ProduceRequest_v8
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from handrail_contracts.ids import partition_of
from handrail_contracts.topics import catalogue

from handrail_runtime.errors import Fenced, Unavailable
from handrail_runtime.reader import BACKOFF_SECONDS, start_client
from handrail_runtime.settings import Settings

log = structlog.get_logger()

Headers = list[tuple[str, bytes]]

BATCH_BYTES = 512 * 1024
ACKNOWLEDGE_MS = 30_000
START_TRIES = 40


@dataclass(frozen=True, slots=True)
class Parcel:
    """A record to send. `partition` by the key if absent."""

    topic: str
    key: str
    value: bytes
    headers: Headers
    partition: int | None = None

    def place(self) -> TopicPartition:
        partition = self.partition
        if partition is None:
            partition = partition_of(self.key, catalogue()[self.topic].partitions)
        return TopicPartition(self.topic, partition)


@dataclass(slots=True)
class _Entry:
    """The parcels of one `write` for one partition; `sent` of them are in batches already."""

    parcels: list[Parcel]
    write: "_Write"
    sent: int = 0


@dataclass(slots=True)
class _Write:
    future: asyncio.Future[int]
    open: int
    offset: int = -1


@dataclass(slots=True)
class _Batch:
    tp: TopicPartition
    data: bytes
    count: int
    begun: list[tuple[_Write, int]]
    """Writes whose first parcel for this partition is in here, and at which place."""
    finished: list[_Write]


class _Encoded(ProduceRequest_v8):
    """A request that is bytes already: taking batches through the client's general encoder costs more than making them."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def encode(self) -> bytes:
        return self._body

    def __repr__(self) -> str:
        return f"produce, {len(self._body)} bytes"


class _Produce(Request[ProduceRequest_v8]):
    """Batches, at most one for each partition, with acks from all in-sync replicas."""

    API_KEY = 0

    def __init__(self, batches: Iterable[_Batch]) -> None:
        self._topics: defaultdict[str, list[_Batch]] = defaultdict(list)
        for batch in batches:
            self._topics[batch.tp.topic].append(batch)

    def build(self, request_struct_class: type[ProduceRequest_v8]) -> ProduceRequest_v8:
        parts = [_HEAD.pack(-1, -1, ACKNOWLEDGE_MS, len(self._topics))]
        for topic, batches in self._topics.items():
            name = topic.encode()
            parts += (_SHORT.pack(len(name)), name, _LONG.pack(len(batches)))
            for batch in batches:
                parts += (_PLACE.pack(batch.tp.partition, len(batch.data)), batch.data)
        return _Encoded(b"".join(parts))


_HEAD, _SHORT, _LONG, _PLACE = struct.Struct(">hhii"), struct.Struct(">h"), struct.Struct(">i"), struct.Struct(">ii")
"""Produce v8: no transaction, acks, time-out, topics; a name's length; a count; a partition and its batch's length."""


class Writer:
    """`write` never blocks and never waits; bound what is under way by the futures."""

    def __init__(self, client: AIOKafkaClient, producer_id: int, producer_epoch: int) -> None:
        self._client, self._id, self._epoch = client, producer_id, producer_epoch
        self._waiting: dict[TopicPartition, deque[_Entry]] = {}
        self._again: dict[TopicPartition, _Batch] = {}
        self._sequences: defaultdict[TopicPartition, int] = defaultdict(int)
        self._under_way: set[TopicPartition] = set()
        self._exchanges: dict[int | None, asyncio.Task[None]] = {}
        self._open: set[asyncio.Future[int]] = set()
        self._error: Exception | None = None

    @classmethod
    async def start(cls, settings: Settings, client_id: str) -> "Writer":
        """Raises `Unavailable` if no broker gives an identity for idempotent writes."""
        client = await start_client(settings, client_id)
        for _ in range(START_TRIES):
            try:
                answer = await client.send(client.get_random_node(), InitProducerIdRequest(None, 0))  # type: ignore[arg-type]
            except KafkaError as error:
                log.info("no_producer_id_yet", writer=client_id, error=repr(error))
            else:
                if answer.error_code == 0:
                    return cls(client, answer.producer_id, answer.producer_epoch)
            await asyncio.sleep(BACKOFF_SECONDS)
        await client.close()
        raise Unavailable(f"no broker at {settings.brokers} gives a producer id")

    async def stop(self) -> None:
        """What is not acknowledged by now has an unknown outcome; nothing of it leaves after this."""
        exchanges = list(self._exchanges.values())
        for exchange in exchanges:
            exchange.cancel()
        await asyncio.gather(*exchanges, return_exceptions=True)
        self._fail(Fenced("the writer was stopped"))
        await self._client.close()

    # --- what waits -------------------------------------------------------------------------------------------------

    def write(self, parcels: Iterable[Parcel]) -> asyncio.Future[int]:
        """Ends once all are acknowledged; fails with `Fenced`. The result is the first parcel's offset, for one partition."""
        grouped: dict[TopicPartition, list[Parcel]] = {}
        for parcel in parcels:
            grouped.setdefault(parcel.place(), []).append(parcel)
        write = _Write(asyncio.get_running_loop().create_future(), len(grouped))
        if self._error is not None:
            write.future.set_exception(Fenced(str(self._error)))
            return write.future
        self._open.add(write.future)
        write.future.add_done_callback(self._open.discard)
        for tp, group in grouped.items():
            self._waiting.setdefault(tp, deque()).append(_Entry(group, write))
        for tp in grouped:
            self._begin(tp)
        return write.future

    def _leader(self, tp: TopicPartition) -> int | None:
        leader = self._client.cluster.leader_for_partition(tp)
        return None if leader == -1 else leader

    def _begin(self, tp: TopicPartition) -> None:
        leader = self._leader(tp)
        if leader not in self._exchanges:
            work = self._find_leaders() if leader is None else self._exchange(leader)
            self._exchanges[leader] = asyncio.create_task(work, name=f"write-{leader}")

    def _take(self, node: int) -> list[_Batch]:
        batches = []
        for tp in {*self._again, *self._waiting}:
            if tp not in self._under_way and self._leader(tp) == node:
                batches.append(self._again.pop(tp) if tp in self._again else self._batch(tp))
        return batches

    def _batch(self, tp: TopicPartition) -> _Batch:
        sequence, queue, now = self._sequences[tp], self._waiting[tp], int(time.time() * 1000)
        builder: Any = DefaultRecordBatchBuilder(2, 0, 0, self._id, self._epoch, sequence, BATCH_BYTES)
        count, full = 0, False
        batch = _Batch(tp, b"", 0, [], [])
        while queue and not full:
            entry = queue[0]
            if entry.sent == 0:
                batch.begun.append((entry.write, count))
            for parcel in entry.parcels[entry.sent :]:
                key = parcel.key.encode() or None
                if builder.append(count, now, key, parcel.value, parcel.headers) is None:
                    full = True
                    break
                count, entry.sent = count + 1, entry.sent + 1
            else:
                batch.finished.append(queue.popleft().write)
        if not queue:
            del self._waiting[tp]
        batch.data, batch.count = bytes(builder.build()), count
        self._sequences[tp] = (sequence + count) & 0x7FFFFFFF
        return batch

    # --- exchanges with brokers -------------------------------------------------------------------------------------

    async def _exchange(self, node: int) -> None:
        try:
            while batches := self._take(node):
                await self._deliver(node, batches)
        except Exception as error:
            self._fail(error)
        finally:
            del self._exchanges[node]
        self._begin_the_rest()

    def _begin_the_rest(self) -> None:
        for tp in {*self._again, *self._waiting} - self._under_way:
            self._begin(tp)

    async def _find_leaders(self) -> None:
        try:
            for tp in {*self._again, *self._waiting}:
                await self._client.add_topic(tp.topic)
            await self._refresh()
        finally:
            del self._exchanges[None]
        self._begin_the_rest()

    async def _refresh(self) -> None:
        await asyncio.sleep(BACKOFF_SECONDS)
        await self._client.force_metadata_update()

    async def _deliver(self, node: int, batches: list[_Batch]) -> None:
        open_ = {batch.tp: batch for batch in batches}
        self._under_way |= open_.keys()
        try:
            response = await self._client.send(node, _Produce(batches))
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("write_delayed", node=node, partitions=len(batches), error=repr(error))
        else:
            for topic, partitions in response.topics:
                for partition, code, offset, *_ in partitions:
                    tp = TopicPartition(topic, partition)
                    if self._is_settled(open_[tp], code, offset):
                        del open_[tp]
        finally:
            self._under_way -= {batch.tp for batch in batches}
        if open_:
            self._again.update(open_)
            await self._refresh()

    def _is_settled(self, batch: _Batch, code: int, offset: int) -> bool:
        error = for_code(code)
        if error is NoError or error is DuplicateSequenceNumber:
            self._acknowledged(batch, offset)
            return True
        if error.retriable:
            log.warning("write_delayed", topic=batch.tp.topic, partition=batch.tp.partition, error=error.__name__)
            return False
        raise Fenced(f"{batch.tp.topic} partition {batch.tp.partition} refused {batch.count} records: {error.__name__}")

    @staticmethod
    def _acknowledged(batch: _Batch, offset: int) -> None:
        for write, place in batch.begun:
            if write.offset < 0 <= offset:
                write.offset = offset + place
        for write in batch.finished:
            write.open -= 1
            if write.open == 0 and not write.future.done():
                write.future.set_result(write.offset)

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._waiting.clear()
        self._again.clear()
        for future in list(self._open):
            if not future.done():
                future.set_exception(Fenced(str(error) or repr(error)))
                future.exception()  # whoever waits for it sees it; nobody has to


async def deliver(writer: Writer, parcels: list[Parcel], timeout: float) -> int:
    """Writes and waits. Raises `Fenced` if refused, or unanswered after `timeout` seconds: the outcome is unknown then."""
    try:
        return await asyncio.wait_for(writer.write(parcels), timeout)
    except TimeoutError as error:
        raise Fenced(
            f"{len(parcels)} records were not acknowledged within {timeout} s; their outcome is unknown"
        ) from error
