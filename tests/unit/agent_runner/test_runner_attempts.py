"""Whatever happens in an agent becomes an answer with a code."""

import orjson
import pytest
from handrail_agent_runner.agents.base import Progress
from handrail_agent_runner.attempt import Outcome, answer_of, carry_out
from handrail_agent_runner.registry import Registry
from unit.agent_runner.builders import SETTINGS, World, command, function, registered, request


@pytest.mark.parametrize(
    ("name", "code", "retryable", "says"),
    [
        ("broken", "AGENT_ERROR", True, "step write: LookupError: no such customer"),
        ("leaves", "AGENT_ERROR", True, "SystemExit: enough"),
        ("not_json", "AGENT_ERROR", False, "not JSON"),
        ("large", "RESULT_TOO_LARGE", False, "larger than 10000 bytes"),
        ("cancels", "AGENT_ERROR", True, "CancelledError"),
        ("own_timeout", "AGENT_ERROR", True, "TimeoutError: the database is slow"),
        ("leaves_later", "AGENT_ERROR", True, "SystemExit: enough"),
        ("leaves_in_thread", "AGENT_ERROR", True, "SystemExit('enough')"),
        ("mute", "AGENT_ERROR", True, "Mute: it can't say why"),
        ("surrogate", "AGENT_ERROR", True, "file \\udcff"),
    ],
)
async def test_a_failing_agent_is_answered_for(name: str, code: str, retryable: bool, says: str) -> None:
    world = World.new(function(name, name))
    world.take(command(request(agent=name)))
    await world.finished()
    [body] = world.answers.bodies()
    assert (body["status"], body["error"]["code"], body["error"]["retryable"]) == ("failed", code, retryable)
    assert says in body["error"]["message"]
    assert "output" not in body
    world.answers.arrive()
    assert world.watermark.position == 1


async def test_the_time_limit_of_a_request_holds_for_functions_that_wait_and_for_those_that_block() -> None:
    world = World.new(function("waits", "waits"), function("hangs", "hangs"))
    world.take(
        command(request("r1", "waits", timeout_seconds=0.05, input={"seconds": 60}), 0),
        command(request("r2", "hangs", timeout_seconds=0.05), 1),
    )
    await world.finished()
    bodies = world.answers.bodies()
    assert [body["error"]["code"] for body in bodies] == ["TIMEOUT", "TIMEOUT"]
    assert "longer than 0.05 s" in bodies[0]["error"]["message"]


async def test_an_unknown_agent_is_named_after_its_registration_had_a_moment_to_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("handrail_agent_runner.registrations.LATE_SECONDS", 0.05)
    outcome = await carry_out(Registry(SETTINGS), request(agent="nobody"), Progress(lambda kind, data: None))
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.retryable) == ("UNKNOWN_AGENT", False)
    assert "PUT /api/v1/agents/nobody" in outcome.error.message


async def test_a_registration_that_comes_late_is_waited_for() -> None:
    world = World.new()
    world.take(command(request(agent="late")))
    world.registry.add(registered("late", "scripted", output={"said": "{{input.x}}"}))
    await world.finished()
    [body] = world.answers.bodies()
    assert body["output"] == {"said": 1}


async def test_an_attempt_that_is_cut_off_may_be_run_again() -> None:
    world = World.new(function("waits", "waits"))
    first = request("r1", "waits", input={"seconds": 60})
    world.take(command(first, 0))
    [task] = world.runner._running
    task.cancel()
    await world.finished()
    assert world.watermark.position == 0
    world.take(command(request("r1", "waits"), 1))
    await world.finished()
    assert len(world.answers.bodies()) == 1


def test_a_large_error_is_not_larger_than_the_limit_allows() -> None:
    parcel = answer_of(request(), Outcome(0.5, output="y" * 14_000), 10_000)
    body = orjson.loads(parcel.value)
    assert body["error"]["code"] == "RESULT_TOO_LARGE"
    assert body["duration_ms"] == 500
