"""Bad records at every door: nothing stops, each one is among the dead letters with its reason."""

import time
import uuid

import pytest
from chaos.conftest import Platform
from chaos.test_faults import require_promises, require_read_models_equal_replay
from handrail.deadletters import Filter, letters, redrive
from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.envelope import utc
from handrail_contracts.ids import partition_of
from handrail_contracts.steps import AgentExecuted
from handrail_contracts.topics import EXECUTION_PARTITIONS
from handrail_contracts.workflows import WorkflowStarted

pytestmark = pytest.mark.chaos

POISON = {
    "MALFORMED_JSON": b'{"event_type": "workflow.st',
    "UNKNOWN_EVENT_TYPE": b'{"event_type": "workflow.exploded", "schema_version": 1}',
    "UNSUPPORTED_VERSION": b'{"event_type": "workflow.started", "schema_version": 99}',
    "INVALID_MESSAGE": b'{"event_type": "workflow.started", "schema_version": 2, "execution_id": 7}',
}


def started(workflow_id: str, execution_id: str) -> bytes:
    return encode(
        WorkflowStarted(
            event_id=execution_id, occurred_at=utc(time.time()), execution_id=execution_id, workflow_id=workflow_id
        )
    )


async def codes(platform: Platform) -> list[str]:
    return [letter.code async for letter in letters(platform.broker.bootstrap, Filter())]


async def test_bad_records_stop_nothing(platform: Platform) -> None:
    for partition in range(3):
        for value in POISON.values():
            await platform.load.put(topics.WORKFLOW_STARTED, value, partition=partition)
            await platform.load.put(topics.AGENT_EXECUTED, value, partition=partition)
            await platform.load.put(topics.STEP_REQUESTED, value, partition=partition)
    await platform.load.put(topics.WORKFLOW_STARTED, b"[" * 5000 + b"]" * 5000)
    await platform.load.start(60)
    await platform.load.settle()
    assert set(POISON) <= set(await codes(platform))


async def test_headers_that_are_no_text_stop_nothing(platform: Platform) -> None:
    ids = [str(uuid.uuid4()) for _ in range(4)]
    headers = [[("x", b"\xff\xfe")], [("x", None)], [("hr-command", b"\xff")], [("hr-fence", None)]]
    for execution_id, odd in zip(ids, headers, strict=True):
        partition = partition_of(execution_id, EXECUTION_PARTITIONS)
        value = started("chain", execution_id)
        await platform.load.put(
            topics.WORKFLOW_STARTED, value, key=execution_id.encode(), partition=partition, headers=odd
        )
        await platform.load.put(topics.STEP_REQUESTED, value, headers=odd)
        platform.load.started[execution_id] = "chain"
    await platform.load.settle()


async def test_an_answer_for_an_unknown_execution(platform: Platform) -> None:
    execution_id = str(uuid.uuid4())
    answer = AgentExecuted(
        event_id=execution_id,
        occurred_at=utc(time.time()),
        execution_id=execution_id,
        workflow_id="chain",
        step_id="step_1",
        run_id=execution_id,
        attempt=1,
        agent="echo",
        status="completed",
    )
    partition = partition_of(execution_id, EXECUTION_PARTITIONS)
    await platform.load.put(topics.AGENT_EXECUTED, encode(answer), key=execution_id.encode(), partition=partition)
    await platform.load.start(30)
    await platform.load.settle()
    assert "UNKNOWN_EXECUTION" in await codes(platform)
    before = len(await codes(platform))
    assert await redrive(platform.broker.bootstrap, Filter(code="UNKNOWN_EXECUTION")) >= 1
    await platform.load.start(30)
    await platform.load.settle()
    assert len(await codes(platform)) > before


async def test_a_result_of_five_megabytes_fails_its_execution_only(platform: Platform) -> None:
    execution_id = str(uuid.uuid4())
    await platform.load.put(
        topics.WORKFLOW_STARTED,
        started("big", execution_id),
        key=execution_id.encode(),
        partition=partition_of(execution_id, EXECUTION_PARTITIONS),
    )
    platform.load.started[execution_id] = "big"
    await platform.load.start(30)
    await platform.load.settle()
    assert "RESULT_TOO_LARGE" in platform.load.ended[execution_id]


async def test_the_same_start_a_thousand_times_is_one_execution(platform: Platform) -> None:
    execution_id = str(uuid.uuid4())
    for number in range(1000):
        wrong = number % 10 == 0
        partition = partition_of(execution_id, EXECUTION_PARTITIONS)
        await platform.load.put(
            topics.WORKFLOW_STARTED,
            started("chain", execution_id),
            key=execution_id.encode(),
            partition=(partition + 1) % EXECUTION_PARTITIONS if wrong else partition,
        )
    platform.load.started[execution_id] = "chain"
    await platform.load.settle()


async def test_the_promises_hold_after_all_that(platform: Platform) -> None:
    await require_promises(platform, cut_off=False, struck=time.monotonic())
    await require_read_models_equal_replay(platform)
