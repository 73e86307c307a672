"""What the runner does with each record of its commands."""

import pytest
from handrail_agent_runner.conversation import Conversation
from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.ids import derive
from handrail_contracts.journal import Stamp
from unit.agent_runner.builders import World, command, fence, function, record, request

STAMP = Stamp("scheduler/3", 7).header()


async def test_an_inline_command_is_answered_to_its_journal_partition_with_an_id_of_its_own() -> None:
    world = World.new()
    world.take(command(request()))
    [([parcel], _)] = world.answers.published
    [body] = world.answers.bodies()
    assert (parcel.topic, parcel.partition, parcel.key) == (topics.AGENT_EXECUTED, 3, "ex-r1")
    assert (body["status"], body["output"], body["organization_id"]) == ("completed", {"x": 1}, "acme")
    assert body["event_id"] == derive("r1-1", "answer")


async def test_nothing_counts_as_finished_before_its_answer_has_arrived() -> None:
    world = World.new(function("waits", "waits"))
    world.take(command(request("r1", "waits"), 0), command(request("r2"), 1))
    await world.finished()
    assert world.watermark.position == 0
    world.answers.arrive()
    assert world.watermark.position == 2


async def test_the_watermark_stands_before_the_oldest_attempt_that_still_runs() -> None:
    world = World.new(function("waits", "waits"))
    world.take(command(request("slow", "waits", input={"seconds": 0.05}), 0), command(request("r2"), 1))
    world.answers.arrive()
    assert world.watermark.position == 0
    await world.finished()
    world.answers.arrive()
    assert world.watermark.position == 2


async def test_a_command_of_a_fenced_epoch_is_not_carried_out() -> None:
    world = World.new()
    world.take(fence(7, 0), command(request("r1"), 1, epoch=7), command(request("r2"), 2, epoch=8))
    assert [body["run_id"] for body in world.answers.bodies()] == ["r2"]
    world.answers.arrive()
    assert world.watermark.position == 3


async def test_a_command_that_nobody_decided_is_not_carried_out() -> None:
    world = World.new()
    world.take(record(encode(request())))
    assert world.answers.published == []
    assert world.watermark.position == 1


async def test_a_duplicate_is_dropped_while_the_first_runs_and_after_its_answer() -> None:
    world = World.new(function("waits", "waits"))
    first = request("r1", "waits")
    world.take(command(first, 0), command(first, 1))
    await world.finished()
    world.answers.arrive()
    world.take(command(first, 2))
    await world.finished()
    assert world.answers.published == []
    assert world.watermark.position == 3


async def test_another_attempt_of_the_same_step_run_is_no_duplicate() -> None:
    world = World.new()
    world.take(command(request(attempt=1), 0), command(request(attempt=2), 1))
    assert [body["attempt"] for body in world.answers.bodies()] == [1, 2]


async def test_a_duplicate_is_finished_only_with_its_original() -> None:
    """The partition went away and came back while the first attempt ran: its offset must wait for the answer."""
    world = World.new()
    world.take(command(request(), 0))
    again = World(world.runner, world.registry, world.answers, world.watermark_at(0))
    again.take(command(request(), 0))
    assert again.watermark.position == 0
    world.answers.arrive()
    assert again.watermark.position == 1


@pytest.mark.parametrize(
    ("value", "headers", "code"),
    [
        (b"{not json", (STAMP,), "MALFORMED_JSON"),
        (b"\xff\xfe", (STAMP,), "MALFORMED_JSON"),
        (b'{"event_type": "step.danced"}', (STAMP,), "UNKNOWN_EVENT_TYPE"),
        (b'{"event_type": "step.requested", "schema_version": 9}', (STAMP,), "UNSUPPORTED_VERSION"),
        (b'{"event_type": "step.requested", "run_id": 5}', (STAMP,), "INVALID_MESSAGE"),
        (encode(request(partition=12)), (STAMP,), "INVALID_MESSAGE"),
        (encode(request()), (("hr-command", b"\xff/3/1"),), "BAD_STAMP"),
        (encode(request()), (("hr-command", None),), "BAD_STAMP"),
        (b"{}", (("hr-fence", b"nonsense"),), "BAD_STAMP"),
    ],
)
async def test_what_is_no_command_is_set_aside_and_the_next_one_is_carried_out(
    value: bytes, headers: tuple[tuple[str, bytes], ...], code: str
) -> None:
    world = World.new()
    world.take(record(value, 0, headers), command(request("next"), 1))
    [letter] = world.answers.bodies(topics.DEAD_LETTERS)
    assert (letter["code"], letter["topic"], letter["offset"]) == (code, topics.STEP_REQUESTED, 0)
    assert [body["run_id"] for body in world.answers.bodies()] == ["next"]
    assert world.watermark.position == 0
    world.answers.arrive()
    assert world.watermark.position == 2


async def test_progress_is_numbered_and_dropped_while_nothing_can_leave() -> None:
    world = World.new()
    tell, conversation = world.runner._progress, Conversation(request())
    tell(request(), conversation, "delta", {"content": "a"})
    world.answers.full = True
    tell(request(), conversation, "delta", {"content": "b"})
    world.answers.full = False
    tell(request(), conversation, "delta", {"content": "c"})
    assert [body["index"] for body in world.answers.bodies(topics.STEP_PROGRESSED)] == [0, 2]
