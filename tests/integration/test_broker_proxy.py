"""The fault proxy in front of a real broker, with real clients."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiokafka
import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from handrail.embedded.broker import EmbeddedBroker
from support.broker_proxy import BrokerProxy, CutConnection, Hold, Silence
from support.checks_log import Send, check_log
from support.history import History, load_history
from support.kafka_wire import Api
from support.logs import LogRecord, read_log

pytestmark = pytest.mark.integration

SHORT = 0.5
new_producer: Any = aiokafka.AIOKafkaProducer  # the client is untyped
new_consumer: Any = aiokafka.AIOKafkaConsumer
new_admin: Any = AIOKafkaAdminClient
new_topic: Any = NewTopic


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The broker that `HANDRAIL_BROKERS` names, else an embedded one for this module."""
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
    name = f"proxied-{uuid4().hex[:8]}"
    admin = new_admin(bootstrap_servers=brokers)
    await admin.start()
    try:
        await admin.create_topics([new_topic(name, 2, 1)])
    finally:
        await admin.close()
    async with aiokafka.AIOKafkaConsumer(bootstrap_servers=brokers) as consumer:
        # answered only once the broker leads both partitions: a new topic refuses its very first writes
        await consumer.end_offsets([aiokafka.TopicPartition(name, partition) for partition in (0, 1)])
    return name


@pytest_asyncio.fixture
async def proxy(brokers: str) -> AsyncIterator[BrokerProxy]:
    async with BrokerProxy(brokers) as proxy:
        yield proxy


@asynccontextmanager
async def producer_of(proxy: BrokerProxy, **settings: Any) -> AsyncIterator[Any]:
    """Idempotent unless told otherwise; whatever faults remain are healed before it stops."""
    settings = {
        "enable_idempotence": True,
        "acks": "all",
        "retry_backoff_ms": 20,
        "metadata_max_age_ms": 500,
    } | settings
    producer = new_producer(bootstrap_servers=proxy.address, **settings)
    await producer.start()
    try:
        yield producer
    finally:
        proxy.heal()
        await producer.stop()


@asynccontextmanager
async def consumer_of(proxy: BrokerProxy, topic: str, **settings: Any) -> AsyncIterator[Any]:
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False} | settings
    consumer = new_consumer(topic, bootstrap_servers=proxy.address, **settings)
    await consumer.start()
    try:
        yield consumer
    finally:
        proxy.heal()
        await consumer.stop()


def values(log: list[LogRecord]) -> list[bytes | None]:
    return [record.value for record in log]


async def test_clients_that_bootstrap_through_the_proxy_stay_on_it(proxy: BrokerProxy, topic: str) -> None:
    async with producer_of(proxy) as producer, consumer_of(proxy, topic, group_id=topic) as consumer:
        await producer.send_and_wait(topic, b"hello", partition=0)
        record = await asyncio.wait_for(consumer.getone(), 30)
        await consumer.commit({aiokafka.TopicPartition(topic, 0): record.offset + 1})
        for client in (producer.client, consumer._client):
            addresses = {(broker.host, broker.port) for broker in client.cluster.brokers()}
            assert addresses == {("127.0.0.1", proxy.port)}
    assert record.value == b"hello"
    seen = {Api.PRODUCE, Api.FETCH, Api.FIND_COORDINATOR, Api.JOIN_GROUP, Api.SYNC_GROUP, Api.OFFSET_COMMIT}
    assert seen <= proxy.requests.keys()
    assert seen <= proxy.responses.keys()


async def test_an_admin_client_works_through_the_proxy(proxy: BrokerProxy, topic: str) -> None:
    admin = new_admin(bootstrap_servers=proxy.address)
    await admin.start()
    try:
        assert topic in await admin.list_topics()
        described = await admin.describe_cluster()
        assert [(b["host"], b["port"]) for b in described["brokers"]] == [("127.0.0.1", proxy.port)]
    finally:
        await admin.close()


async def test_the_write_happened_and_its_answer_was_lost(proxy: BrokerProxy, topic: str, brokers: str) -> None:
    async with producer_of(proxy) as producer:
        lost = proxy.rule(Api.PRODUCE, "response", Silence(), where=lambda f: f.writes_to(topic, 1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(producer.send_and_wait(topic, b"written", partition=1), SHORT)
        await lost.hit()
        assert values(await read_log(brokers, topic)) == [b"written"]


async def test_a_lost_request_was_never_written(proxy: BrokerProxy, topic: str, brokers: str) -> None:
    async with producer_of(proxy) as producer:
        cut = proxy.rule(Api.PRODUCE, "request", CutConnection(), times=None)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(producer.send_and_wait(topic, b"in limbo", partition=0), SHORT)
        assert cut.hits
        assert await read_log(brokers, topic) == []
        proxy.remove(cut)
        await producer.flush()  # a send that timed out is not withdrawn: it is unknown, not failed
        assert values(await read_log(brokers, topic)) == [b"in limbo"]


async def test_a_fault_meets_its_topic_and_no_other_client(proxy: BrokerProxy, topic: str) -> None:
    async with producer_of(proxy, client_id="victim") as victim, producer_of(proxy, client_id="other") as other:
        rule = proxy.rule(
            Api.PRODUCE, "request", Hold(), where=lambda f: f.client_id == "victim" and f.writes_to(topic)
        )
        held = asyncio.create_task(victim.send_and_wait(topic, b"held", partition=0))
        await rule.hit()
        await asyncio.wait_for(other.send_and_wait(topic, b"passes", partition=0), 30)
        assert not held.done()
        rule.release()
        assert (await asyncio.wait_for(held, 30)).offset == 1


async def test_a_held_fetch_blinds_one_reader_of_one_topic(proxy: BrokerProxy, topic: str) -> None:
    async with consumer_of(proxy, topic, fetch_max_wait_ms=100) as reader, producer_of(proxy) as producer:
        rule = proxy.rule(Api.FETCH, "response", Hold(), where=lambda f: f.mentions(topic), times=None)
        await rule.hit()
        await producer.send_and_wait(topic, b"unseen", partition=0)
        assert await reader.getmany(timeout_ms=int(SHORT * 1000)) == {}
        rule.release()
        assert (await asyncio.wait_for(reader.getone(), 30)).value == b"unseen"


async def test_silence_and_refusal_end_in_the_same_record_once(proxy: BrokerProxy, topic: str, brokers: str) -> None:
    async with producer_of(proxy) as producer:
        for fault, heal in ((pause, resume), (refuse, accept)):
            await fault(proxy)
            sending = asyncio.create_task(producer.send_and_wait(topic, b"late", partition=0))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(sending), SHORT)
            await heal(proxy)
            await asyncio.wait_for(sending, 30)
    assert values(await read_log(brokers, topic)) == [b"late", b"late"]


async def pause(proxy: BrokerProxy) -> None:
    proxy.pause()


async def resume(proxy: BrokerProxy) -> None:
    proxy.resume()


async def refuse(proxy: BrokerProxy) -> None:
    await proxy.refuse()


async def accept(proxy: BrokerProxy) -> None:
    await proxy.accept()


async def sends_under_cuts(
    proxy: BrokerProxy, topic: str, history: Path, count: int = 30, **settings: Any
) -> list[Send]:
    """Sends one by one, every fifth Produce answer cut off, and recorded as any client of a test would."""
    seen = iter(range(10 * count))
    proxy.rule(Api.PRODUCE, "response", CutConnection(), where=lambda f: next(seen) % 5 == 0, times=None)
    with History(history) as recorder:
        async with producer_of(proxy, **settings) as producer:
            for number in range(count):
                async with recorder.call("send", id=f"m{number}") as call:
                    sent = producer.send_and_wait(topic, b"x", key=b"m%d" % number, partition=0)
                    call.ok(offset=(await asyncio.wait_for(sent, 30)).offset)
    operations = load_history(history).of("send")
    return [Send("p", o.fields["id"], topic, 0, o.outcome, o.result.get("offset")) for o in operations]


async def test_an_idempotent_producer_survives_lost_answers(
    proxy: BrokerProxy, topic: str, brokers: str, tmp_path: Path
) -> None:
    sends = await sends_under_cuts(proxy, topic, tmp_path / "history.jsonl")
    log = await read_log(brokers, topic)
    assert [send.outcome for send in sends] == ["ok"] * 30
    assert list(check_log(log, sends)) == []
    assert len(log) == 30


async def test_the_checker_catches_a_producer_that_is_not_idempotent(
    proxy: BrokerProxy, topic: str, brokers: str, tmp_path: Path
) -> None:
    sends = await sends_under_cuts(proxy, topic, tmp_path / "history.jsonl", enable_idempotence=False)
    violations = list(check_log(await read_log(brokers, topic), sends))
    assert "duplicate_write" in {violation.rule for violation in violations}
