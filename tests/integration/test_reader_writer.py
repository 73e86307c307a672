"""Our reader and writer on a real broker, with faults between: nothing lost, nothing twice, order kept."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiokafka
import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import OffsetOutOfRangeError
from handrail.embedded.broker import EmbeddedBroker
from handrail_runtime.errors import Fenced
from handrail_runtime.positions import Positions
from handrail_runtime.reader import Reader
from handrail_runtime.settings import Settings
from handrail_runtime.writer import Parcel, Writer, deliver
from support.broker_proxy import BrokerProxy, CutConnection, Hold
from support.kafka_wire import Api
from support.logs import read_log

pytestmark = pytest.mark.integration
new_producer: Any = aiokafka.AIOKafkaProducer
new_admin: Any = AIOKafkaAdminClient
new_topic: Any = NewTopic


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if given := os.environ.get("HANDRAIL_BROKERS"):
        yield given
        return
    broker = EmbeddedBroker(tmp_path_factory.mktemp("kafka"), heap_mb=256)
    broker.start()
    try:
        broker.wait_ready()
        yield broker.bootstrap
    finally:
        broker.stop()


@pytest_asyncio.fixture
async def topic(brokers: str) -> str:
    name = f"straight-{uuid4().hex[:8]}"
    admin = new_admin(bootstrap_servers=brokers)
    await admin.start()
    try:
        await admin.create_topics([new_topic(name, 2, 1)])
    finally:
        await admin.close()
    async with aiokafka.AIOKafkaConsumer(bootstrap_servers=brokers) as consumer:
        await consumer.end_offsets([TopicPartition(name, partition) for partition in (0, 1)])
    return name


@pytest_asyncio.fixture
async def proxy(brokers: str) -> AsyncIterator[BrokerProxy]:
    async with BrokerProxy(brokers) as proxy:
        yield proxy


@asynccontextmanager
async def writer_of(brokers: str) -> AsyncIterator[Writer]:
    writer = await Writer.start(Settings(brokers=brokers), "test-writer")
    try:
        yield writer
    finally:
        await writer.stop()


@asynccontextmanager
async def reader_of(brokers: str, topic: str) -> AsyncIterator[Reader]:
    """At the beginning of both partitions."""
    reader = await Reader.start(Settings(brokers=brokers), "test-reader")
    try:
        reader.assign(await reader.begin_offsets(places(topic)))
        yield reader
    finally:
        await reader.stop()


def places(topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, 0), TopicPartition(topic, 1)]


def numbered(topic: str, numbers: range, partition: int = 0) -> list[Parcel]:
    return [Parcel(topic, "k", b"%d" % n, [("n", b"%d" % n)], partition) for n in numbers]


async def read(reader: Reader, count: int, **limits: Any) -> dict[int, list[int]]:
    """`count` records, as numbers by partition, in the order in which they came."""
    found: dict[int, list[int]] = {0: [], 1: []}
    async with asyncio.timeout(30):
        while sum(map(len, found.values())) < count:
            for tp, records in (await reader.poll(**limits)).items():
                found[tp.partition] += [int(record.value or b"") for record in records]
    return found


async def test_a_write_ends_with_the_offset_of_its_first_record(brokers: str, topic: str) -> None:
    async with writer_of(brokers) as writer:
        together = [writer.write(numbered(topic, range(at, at + 3), 1)) for at in range(0, 9, 3)]
        assert await asyncio.gather(*together) == [0, 3, 6]
        assert await deliver(writer, numbered(topic, range(9, 10), 1), 30) == 9


async def test_lost_answers_cost_nothing_and_nothing_is_twice(proxy: BrokerProxy, brokers: str, topic: str) -> None:
    seen = iter(range(10_000))
    cut = proxy.rule(Api.PRODUCE, "response", CutConnection(), where=lambda f: next(seen) % 3 == 0, times=None)
    async with writer_of(proxy.address) as writer:
        writes = []
        for number in range(60):
            writes.append(writer.write(numbered(topic, range(number, number + 1), number % 2)))
            await asyncio.sleep(0.005)
        await asyncio.wait_for(asyncio.gather(*writes), 60)
    assert len(cut.hits) > 3
    log = await read_log(brokers, topic)
    for partition in (0, 1):
        assert [record.value for record in log if record.partition == partition] == [
            b"%d" % n for n in range(partition, 60, 2)
        ]


async def test_batches_are_cut_to_size_and_stay_in_order(brokers: str, topic: str) -> None:
    body = b"x" * 200_000
    async with writer_of(brokers) as writer, reader_of(brokers, topic) as reader:
        await deliver(writer, [Parcel(topic, str(n), body, [], 0) for n in range(12)], 30)
        keys: list[bytes] = []
        while len(keys) < 12:
            keys += [record.key or b"" for records in (await reader.poll()).values() for record in records]
    assert keys == [b"%d" % n for n in range(12)]


async def test_what_the_broker_refuses_ends_the_writer(brokers: str, topic: str) -> None:
    async with writer_of(brokers) as writer:
        with pytest.raises(Fenced, match="MessageSizeTooLarge"):
            await deliver(writer, [Parcel(topic, "k", b"x" * 3_000_000, [], 0)], 30)
        with pytest.raises(Fenced, match="MessageSizeTooLarge"):
            await deliver(writer, numbered(topic, range(1)), 30)
    assert await read_log(brokers, topic) == []


async def test_a_stopped_writer_writes_nothing_later(proxy: BrokerProxy, brokers: str, topic: str) -> None:
    async with writer_of(proxy.address) as writer:
        await deliver(writer, numbered(topic, range(1)), 30)
        held = proxy.rule(Api.PRODUCE, "request", Hold())
        first = writer.write(numbered(topic, range(1, 2)))
        await held.hit()
        second = writer.write(numbered(topic, range(2, 3)))
        await writer.stop()
        for future in (first, second):
            with pytest.raises(Fenced, match="stopped"):
                await future
        held.release()
    await asyncio.sleep(0.3)
    assert b"2" not in [record.value for record in await read_log(brokers, topic)]


async def test_reading_goes_on_over_cut_connections_without_gap_or_copy(
    proxy: BrokerProxy, brokers: str, topic: str
) -> None:
    seen = iter(range(10_000))
    cut = proxy.rule(Api.FETCH, "response", CutConnection(), where=lambda f: next(seen) % 3 == 0, times=None)
    async with writer_of(brokers) as writer, reader_of(proxy.address, topic) as reader:
        for partition in (0, 1):
            await deliver(writer, numbered(topic, range(50), partition), 30)
        found = await read(reader, 100, max_records=7)
    assert cut.hits
    assert found == {0: list(range(50)), 1: list(range(50))}


async def test_a_cancelled_poll_loses_nothing(brokers: str, topic: str) -> None:
    async with writer_of(brokers) as writer, reader_of(brokers, topic) as reader:
        for number in range(20):
            poll = asyncio.create_task(reader.poll(wait_ms=2_000))
            await asyncio.sleep(0.002 * (number % 3))
            write = writer.write(numbered(topic, range(number, number + 1)))
            await asyncio.sleep(0.001 * (number % 4))
            poll.cancel()
            await asyncio.gather(poll, return_exceptions=True)
            await write
            if not poll.cancelled():  # it was quicker; what it returned is read again from where it stood
                reader.assign(dict.fromkeys(places(topic), 0))
        reader.assign(dict.fromkeys(places(topic), 0))
        assert (await read(reader, 20))[0] == list(range(20))


async def test_assigning_anew_while_a_poll_waits_reads_the_new_places_only(brokers: str, topic: str) -> None:
    async with writer_of(brokers) as writer, reader_of(brokers, topic) as reader:
        for partition in (0, 1):
            await deliver(writer, numbered(topic, range(10), partition), 30)
        assert await read(reader, 20) == {0: list(range(10)), 1: list(range(10))}
        poll = asyncio.create_task(reader.poll(wait_ms=300))
        await asyncio.sleep(0.05)
        reader.assign({TopicPartition(topic, 1): 4})
        await writer.write(numbered(topic, range(10, 11), 0))
        assert await poll == {}
        assert await read(reader, 6) == {0: [], 1: list(range(4, 10))}
        assert reader.position(TopicPartition(topic, 1)) == 10 == reader.highwater(TopicPartition(topic, 1))


async def test_a_place_that_does_not_exist_is_an_error_and_never_another_place(brokers: str, topic: str) -> None:
    async with reader_of(brokers, topic) as reader:
        reader.assign({TopicPartition(topic, 0): 7})
        with pytest.raises(OffsetOutOfRangeError) as raised:
            await read(reader, 1)
    assert raised.value.args[0] == {TopicPartition(topic, 0): 7}


async def test_withdrawn_transactions_of_foreign_clients_are_not_read(brokers: str, topic: str) -> None:
    async with new_producer(bootstrap_servers=brokers, transactional_id=f"foreign-{topic}") as producer:
        for value, commit in ((b"1", True), (b"2", False), (b"3", True)):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, value, partition=0)
            await (producer.commit_transaction() if commit else producer.abort_transaction())
    async with reader_of(brokers, topic) as reader:
        assert (await read(reader, 2))[0] == [1, 3]


async def test_offsets_by_time_and_positions_of_a_group(brokers: str, topic: str) -> None:
    first, second = places(topic)
    async with writer_of(brokers) as writer, reader_of(brokers, topic) as reader:
        await deliver(writer, numbered(topic, range(3)), 30)
        assert await reader.end_offsets([first, second]) == {first: 3, second: 0}
        assert await reader.offsets_at([first, second], 0) == {first: 0, second: -1}
    positions = await Positions.start(Settings(brokers=brokers), f"group-{topic}")
    try:
        assert await positions.committed([first, second]) == {}
        await positions.commit({first: 2})
        assert await positions.committed([first, second]) == {first: 2}
    finally:
        await positions.stop()
