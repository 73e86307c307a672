"""Publishing: an acknowledgement or a 503, and a producer that does not answer is replaced."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from handrail_contracts.ids import partition_of
from handrail_contracts.workflows import WorkflowStarted
from handrail_gateway.connection import Connection
from handrail_gateway.problems import Problem
from handrail_gateway.publisher import Publisher
from handrail_runtime.errors import Unavailable
from unit.gateway.builders import FakeProducer, World, until


def wish(execution_id: str = "e1", **changes: Any) -> WorkflowStarted:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    return WorkflowStarted(event_id="x", occurred_at=when, execution_id=execution_id, workflow_id="w", **changes)


async def test_a_record_goes_to_the_partition_of_its_key_and_gives_its_place() -> None:
    world = World()
    await world.connect()
    place = await world.gateway.publisher.publish("workflow.started", "e1", wish())
    ((topic, partition, key, body),) = world.producer.sent
    assert (topic, partition, key, body["execution_id"]) == ("workflow.started", partition_of("e1", 12), b"e1", "e1")
    assert place == (partition, 0)


async def test_without_a_connection_nothing_is_accepted_and_nothing_is_kept() -> None:
    world = World()
    with pytest.raises(Problem) as refused:
        await world.gateway.publisher.publish("workflow.started", "e1", wish())
    assert (refused.value.status, refused.value.code) == (503, "BROKER_UNAVAILABLE")
    assert refused.value.headers["Retry-After"]
    await world.connect()
    assert world.producer.sent == []


async def test_a_send_without_an_answer_is_unknown_and_its_producer_is_replaced_once() -> None:
    world = World()
    await world.connect()
    world.producer.hangs = True
    sends = (world.gateway.publisher.publish("workflow.started", f"e{i}", wish(f"e{i}")) for i in range(10))
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert {outcome.code for outcome in outcomes if isinstance(outcome, Problem)} == {"OUTCOME_UNKNOWN"}
    assert all("same Idempotency-Key" in str(outcome) for outcome in outcomes)
    await until(lambda: world.gateway.publisher.connection.client is not None and world.producer.discarded)
    await world.gateway.publisher.publish("workflow.started", "e1", wish())
    assert len(world.starts) == 2


async def test_what_is_too_large_is_refused_before_it_is_sent() -> None:
    world = World()
    await world.connect()
    with pytest.raises(Problem) as refused:
        await world.gateway.publisher.publish("workflow.started", "e1", wish(input="x" * 1_000_001))
    assert refused.value.status == 413
    assert world.producer.sent == []


async def test_the_connection_keeps_trying_until_there_is_a_broker() -> None:
    attempts = 0

    async def start() -> FakeProducer:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise Unavailable("not yet")
        return FakeProducer()

    async def discard(producer: FakeProducer) -> None:
        producer.discarded = True

    connection: Connection[Any] = Connection("test", start, discard)
    connection.open()
    await asyncio.wait_for(connection.connected_once.wait(), 10)
    producer = connection.client
    assert attempts == 3
    assert await Publisher(connection).publish("workflow.started", "e1", wish()) == (partition_of("e1", 12), 0)
    await connection.close()
    assert producer is not None and producer.discarded
    assert connection.client is None


async def test_a_client_that_comes_up_after_the_end_is_not_left_open() -> None:
    release = asyncio.Event()
    producer = FakeProducer()

    async def start() -> FakeProducer:
        await release.wait()
        return producer

    async def discard(found: FakeProducer) -> None:
        found.discarded = True

    connection: Connection[Any] = Connection("test", start, discard)
    connection.open()
    await asyncio.sleep(0)
    await connection.close()
    release.set()
    await until(lambda: producer.discarded)
