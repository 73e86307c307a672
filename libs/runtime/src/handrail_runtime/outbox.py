"""Sends messages in batches, in order, and tells when they arrived. Nothing sent is forgotten."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from handrail_contracts.ids import partition_of
from handrail_contracts.topics import catalogue

from handrail_runtime.errors import Fenced

Headers = list[tuple[str, bytes]]
Delivered = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A record to send. `partition` by the key if absent."""

    topic: str
    key: str
    value: bytes
    headers: Headers
    partition: int | None = None


class Outbox:
    """Collects what is ready, sends it per partition as one batch, confirms in the order of `put`.

    A refused or unanswered batch is the end: `failed` gets the reason, nothing more is confirmed, and the owner makes a
    new outbox with a new producer.
    """

    def __init__(self, producer: AIOKafkaProducer, failed: Callable[[Exception], None], timeout: float) -> None:
        self._producer, self._failed, self._timeout = producer, failed, timeout
        self._queue: deque[tuple[list[Parcel], Delivered | None]] = deque()
        self._sent: asyncio.Queue[tuple[list[asyncio.Future[Any]], list[Delivered], int]] = asyncio.Queue()
        self._wake = asyncio.Event()
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks = [
            asyncio.create_task(self._guard(self._send_all()), name="outbox-send"),
            asyncio.create_task(self._guard(self._confirm_all()), name="outbox-confirm"),
        ]

    def put(self, parcels: list[Parcel], delivered: Delivered | None = None) -> None:
        """Queues parcels; `delivered` is called once they and all before them have arrived."""
        self._queue.append((parcels, delivered))
        self._open += 1
        self._idle.clear()
        self._wake.set()

    @property
    def open(self) -> int:
        """How many `put`s are not confirmed yet."""
        return self._open

    async def flush(self) -> None:
        """Returns when everything put so far was confirmed; raises `Fenced` if that takes longer than the time-out."""
        try:
            await asyncio.wait_for(self._idle.wait(), self._timeout)
        except TimeoutError as error:
            raise Fenced(f"messages were not confirmed within {self._timeout} s; their outcome is unknown") from error

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _guard(self, work: Any) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._failed(error)

    async def _send_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._send(self._take())

    def _take(self) -> list[tuple[list[Parcel], Delivered | None]]:
        taken = list(self._queue)
        self._queue.clear()
        return taken

    async def _send(self, entries: list[tuple[list[Parcel], Delivered | None]]) -> None:
        by_partition: dict[tuple[str, int], list[Parcel]] = {}
        for parcels, _ in entries:
            for parcel in parcels:
                by_partition.setdefault((parcel.topic, _partition(parcel)), []).append(parcel)
        futures: list[asyncio.Future[Any]] = []
        for (topic, partition), parcels in by_partition.items():
            futures += await send_batches(self._producer, topic, partition, parcels)
        callbacks = [delivered for _, delivered in entries if delivered is not None]
        self._sent.put_nowait((futures, callbacks, len(entries)))

    async def _confirm_all(self) -> None:
        while True:
            futures, callbacks, count = await self._sent.get()
            if futures:
                await await_all(futures, self._timeout)
            for delivered in callbacks:
                delivered()
            self._open -= count
            if not self._open:
                self._idle.set()


def _partition(parcel: Parcel) -> int:
    if parcel.partition is not None:
        return parcel.partition
    return partition_of(parcel.key, catalogue()[parcel.topic].partitions)


async def send_batches(
    producer: AIOKafkaProducer, topic: str, partition: int, parcels: list[Parcel]
) -> list[asyncio.Future[Any]]:
    """Hands the parcels to the producer as few batches, in order; the futures end when the broker has answered."""
    futures: list[asyncio.Future[Any]] = []
    batch = producer.create_batch()
    for parcel in parcels:
        key = parcel.key.encode() or None
        if batch.append(key=key, value=parcel.value, timestamp=None, headers=parcel.headers) is None:
            futures.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(key=key, value=parcel.value, timestamp=None, headers=parcel.headers)
    futures.append(await producer.send_batch(batch, topic, partition=partition))
    return futures


async def await_all(futures: list[asyncio.Future[Any]], timeout: float) -> None:
    """Raises `Fenced` if any send was refused or is unanswered after `timeout` seconds: its outcome is unknown."""
    done, open_ = await asyncio.wait(futures, timeout=timeout)
    if open_:
        raise Fenced(f"{len(open_)} batches were not answered within {timeout} s; their outcome is unknown")
    for future in done:
        error = future.exception()
        if error is not None:
            raise Fenced(f"the broker refused a batch: {error!r}") from error
