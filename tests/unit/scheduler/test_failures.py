"""What a failure means: policies of steps and branches, what is undone, what a join gives up."""

from typing import Any

import pytest
from handrail_contracts.envelope import ErrorInfo
from unit.stories import Workflow, agent

BROKEN = ErrorInfo(code="AGENT_ERROR", message="it broke")


def parallel(*branches: str, **parameters: Any) -> dict[str, Any]:
    return {"step_id": "split", "step_type": "parallel", "parameters": parameters, "next_steps": list(branches)}


def last(story: Workflow) -> str:
    return str(story.events[-1]["type"])


def test_a_failure_that_may_be_passed_on_is_the_output_of_the_step() -> None:
    story = Workflow(
        agent("a", "b", on_error="continue"), agent("b", parameters={"input": "{{previous_output.error.message}}"})
    )
    story.answer("a", error=BROKEN)
    assert story.requests()[-1].input == "it broke"
    story.answer("b", "fine")
    assert last(story) == "execution.completed"


def test_a_failure_that_is_caught_begins_the_error_steps_and_not_the_next_ones() -> None:
    story = Workflow(agent("a", "b", error_steps=["sorry"]), agent("b", "end"), agent("sorry", "end"), agent("end"))
    story.answer("a", error=BROKEN)
    assert story.begun() == ["a", "sorry"]
    assert story.requests()[-1].input == {"error": {"code": "AGENT_ERROR", "message": "it broke"}}
    story.answer("sorry", "told them")
    assert story.begun()[-1] == "end"


def test_without_a_failure_the_error_steps_are_skipped() -> None:
    story = Workflow(agent("a", "b", error_steps=["sorry"]), agent("b", "end"), agent("sorry", "end"), agent("end"))
    story.answer("a")
    story.answer("b")
    story.answer("end")
    assert "sorry" not in story.begun()
    assert last(story) == "execution.completed"


def test_a_failure_may_wait_for_a_person_who_retries_or_skips() -> None:
    story = Workflow(agent("a", "b", on_error="wait"), agent("b"))
    assert story.answer("a", error=BROKEN) == ["step.failed", "execution.status_changed"]
    assert story.control("retry", step_id="a")[:2] == ["step.steered", "step.started"]
    story.answer("a", error=BROKEN)
    assert "step.completed" in story.control("skip", step_id="a", data="by hand")
    assert story.requests()[-1].input == "by hand"
    story.answer("b", "done")
    assert last(story) == "execution.completed"


def test_fail_fast_ends_the_execution_with_the_first_branch() -> None:
    story = Workflow(parallel("a", "b"), agent("a", "join"), agent("b", "join"), agent("join"))
    assert story.answer("a", error=BROKEN)[-1] == "execution.failed"


def test_wait_all_fails_once_the_other_branches_are_done() -> None:
    story = Workflow(
        parallel("a", "b", error_policy="wait_all"),
        agent("a", "join"),
        agent("b", "c"),
        agent("c", "join"),
        agent("join"),
    )
    story.answer("a", error=BROKEN)
    story.answer("b")
    assert story.begun()[-1] == "c"
    assert story.answer("c")[-1] == "execution.failed"
    assert "join" not in story.begun()
    assert story.events[-1]["step_id"] == "a"


def test_ignore_ends_the_branch_alone() -> None:
    story = Workflow(
        parallel("a", "b", error_policy="ignore"),
        agent("a", "c"),
        agent("c", "join"),
        agent("b", "join"),
        agent("join"),
    )
    story.answer("a", error=BROKEN)
    story.answer("b", "from b")
    assert story.begun()[-1] == "join"
    assert story.requests()[-1].input == "from b"
    story.answer("join", "done")
    assert last(story) == "execution.completed"


def test_where_every_branch_is_ignored_the_join_is_skipped() -> None:
    story = Workflow(parallel("a", "b", error_policy="ignore"), agent("a", "join"), agent("b", "join"), agent("join"))
    story.answer("a", error=BROKEN)
    assert story.answer("b", error=BROKEN)[-1] == "execution.completed"
    assert "join" not in story.begun()


def test_a_failure_in_a_turn_is_the_failure_of_its_loop() -> None:
    loop = {
        "step_id": "each", "step_type": "loop", "next_steps": ["after"], "on_error": "continue",
        "parameters": {"over": [1, 2, 3], "max_parallel": 3, "steps": [agent("work")]},
    }  # fmt: skip
    story = Workflow(loop, agent("after"))
    story.answer("each[0].work", 1)
    story.answer("each[1].work", error=BROKEN)
    assert story.begun()[-1] == "after"
    assert story.answer("each[2].work", 3) == []
    story.answer("after")
    assert last(story) == "execution.completed"


def test_a_join_that_is_satisfied_gives_up_the_rest() -> None:
    story = Workflow(
        parallel("a", "b"),
        agent("a", "join"),
        agent("b", "c"),
        agent("c", "join"),
        agent("join", join="any", cancel_rest=True),
    )
    assert story.answer("a", 1) == ["step.completed", "steps.cancelled", "steps.skipped", "step.started"]
    assert story.answer("b") == []
    assert story.answer("join", "done")[-1] == "execution.completed"


def booking(name: str, *following: str, **fields: Any) -> list[dict[str, Any]]:
    return [agent(name, *following, compensate_with=f"undo-{name}", **fields), agent(f"undo-{name}")]


def test_what_was_done_is_undone_in_reverse_order_with_what_it_gave() -> None:
    story = Workflow(*booking("flight", "hotel"), *booking("hotel", "pay"), agent("pay"))
    story.answer("flight", "F1")
    story.answer("hotel", "H1")
    assert story.answer("pay", error=BROKEN) == ["step.failed", "compensation.started", "step.started"]
    assert (story.requests()[-1].step_id, story.requests()[-1].input) == ("undo-hotel", "H1")
    story.answer("undo-hotel")
    assert (story.requests()[-1].step_id, story.requests()[-1].input) == ("undo-flight", "F1")
    assert story.answer("undo-flight") == ["step.completed", "execution.failed"]
    assert story.events[-1]["error"]["message"] == "it broke"


def test_a_cancelled_execution_is_undone_and_a_terminated_one_is_not() -> None:
    story = Workflow(*booking("flight", "pay"), agent("pay"))
    story.answer("flight", "F1")
    assert story.cancel() == ["steps.cancelled", "compensation.started", "step.started"]
    assert story.cancel() == []
    assert story.control("terminate") == ["steps.cancelled", "execution.cancelled"]
    other = Workflow(*booking("flight", "pay"), agent("pay"))
    other.answer("flight", "F1")
    assert other.control("terminate")[-1] == "execution.cancelled"
    assert other.begun() == ["flight", "pay"]


def test_an_undoing_that_fails_is_retried_and_then_told() -> None:
    undo = agent("undo", retry={"max_attempts": 2, "backoff_seconds": 1})
    story = Workflow(agent("a", "b", compensate_with="undo"), undo, agent("b"))
    story.answer("a")
    story.answer("b", error=BROKEN)
    story.answer("undo", error=BROKEN.model_copy(update={"retryable": True}))
    story.wait(2)
    assert story.answer("undo", error=BROKEN) == ["step.failed", "execution.failed"]
    assert story.events[-1]["error"]["message"] == "it broke; not undone, because these steps failed: undo"


def test_steps_that_did_not_complete_are_not_undone() -> None:
    story = Workflow(*booking("flight", "hotel"), *booking("hotel"))
    assert story.answer("flight", error=BROKEN)[-1] == "execution.failed"
    assert "undo-flight" not in story.begun()


def test_each_turn_of_a_loop_is_undone() -> None:
    body = booking("seat")
    loop = {
        "step_id": "each",
        "step_type": "loop",
        "next_steps": ["pay"],
        "parameters": {"over": ["x", "y"], "steps": body},
    }
    story = Workflow(loop, agent("pay"))
    for turn in (0, 1):
        story.answer(f"each[{turn}].seat", f"seat {turn}")
    story.answer("pay", error=BROKEN)
    assert (story.requests()[-1].step_id, story.requests()[-1].input) == ("each[1].undo-seat", "seat 1")
    story.answer("each[1].undo-seat")
    story.answer("each[0].undo-seat")
    assert last(story) == "execution.failed"


@pytest.mark.parametrize("policy", ["fail_fast", "wait_all", "ignore"])
def test_a_time_out_of_the_workflow_undoes_too(policy: str) -> None:
    story = Workflow(parallel("a", "b", error_policy=policy), *booking("a"), agent("b"), timeout_seconds=10)
    story.answer("a")
    assert story.wait(11) == ["steps.cancelled", "compensation.started", "step.started"]
    assert story.answer("undo-a")[-1] == "execution.timed_out"


def looping(**fields: Any) -> dict[str, Any]:
    parameters = {"over": [1, 2], "max_parallel": 2, "steps": [agent("work")]}
    return {"step_id": "each", "step_type": "loop", "parameters": parameters, **fields}


def test_a_loop_is_tried_again_as_a_whole_with_runs_of_its_own() -> None:
    story = Workflow(looping(retry={"max_attempts": 2, "backoff_seconds": 1}))
    story.answer("each[0].work", 1)
    assert "step.retry_scheduled" in story.answer("each[1].work", error=BROKEN)
    story.wait(2)
    first, again = [request.run_id for request in story.requests() if request.step_id == "each[0].work"]
    assert first != again
    for turn in (0, 1):
        story.answer(f"each[{turn}].work", turn)
    assert story.events[-1]["result"] == [0, 1]


def test_a_loop_has_its_time() -> None:
    story = Workflow(looping(timeout_seconds=10, on_error="continue", next_steps=["after"]), agent("after"))
    story.answer("each[0].work", 1)
    assert story.wait(11)[:3] == ["steps.cancelled", "step.failed", "step.started"]
    assert story.begun()[-1] == "after"
    assert story.answer("each[1].work", 2) == []


def test_a_loop_that_fails_takes_its_turns_with_it() -> None:
    story = Workflow(looping(timeout_seconds=10))
    assert story.wait(11) == ["steps.cancelled", "step.failed", "execution.failed"]
