"""Steering a running execution: retry, skip, edit, rewind, migrate; going on from a recorded one; sub-workflows."""

from typing import Any

from handrail_contracts import topics
from handrail_contracts.approvals import ApprovalDecided, ApprovalRequested, ApprovalWithdrawn
from handrail_contracts.control import ExecutionControlled
from handrail_contracts.envelope import ErrorInfo, utc
from handrail_contracts.workflows import ChildEnded, Origin, WorkflowStarted
from unit.stories import EXECUTION, Workflow, agent

BUSY = ErrorInfo(code="AGENT_UNAVAILABLE", message="busy", retryable=True)


def gate(step_id: str, *following: str) -> dict[str, Any]:
    return {
        "step_id": step_id, "step_type": "human_approval", "parameters": {"message": "ok?"}, "next_steps": list(following),
    }  # fmt: skip


def test_a_retry_does_not_wait_for_the_back_off() -> None:
    story = Workflow(agent("a", retry={"max_attempts": 2, "backoff_seconds": 600}))
    story.answer("a", error=BUSY)
    assert story.control("retry", step_id="a") == ["step.steered", "step.started"]
    assert story.answer("a", 1)[-1] == "execution.completed"


def test_a_retry_of_a_step_that_runs_or_of_none_changes_nothing() -> None:
    story = Workflow(agent("a"))
    assert story.control("retry", step_id="a") == []
    assert story.control("retry", step_id="nobody") == []


def test_a_skipped_step_gives_what_the_person_says_and_its_answer_is_late() -> None:
    story = Workflow(agent("a", "b"), agent("b"))
    assert story.control("skip", step_id="a", data={"x": 1}, user_id="ann") == [
        "steps.cancelled", "step.steered", "step.completed", "step.started",
    ]  # fmt: skip
    assert story.requests()[-1].input == {"x": 1}
    assert story.answer("a", "late") == []


def test_a_skipped_gate_is_withdrawn() -> None:
    story = Workflow(gate("review", "b"), agent("b"))
    story.control("skip", step_id="review")
    assert [type(m).__name__ for m in story.said if isinstance(m, ApprovalWithdrawn)] == ["ApprovalWithdrawn"]


def test_a_wish_counts_once() -> None:
    story = Workflow(agent("a", "b"), agent("b"))
    story.answer("a")
    wish = ExecutionControlled(
        event_id="once",
        occurred_at=utc(story.now),
        execution_id=EXECUTION,
        workflow_id="w",
        action="rewind",
        step_id="a",
    )
    assert "step.steered" in story.put(topics.EXECUTION_CONTROLLED, wish)
    assert story.put(topics.EXECUTION_CONTROLLED, wish) == []


def test_an_edited_step_begins_again_and_ignores_the_earlier_attempt() -> None:
    story = Workflow(agent("a"))
    story.control("edit", step_id="a", data="better")
    assert (story.requests()[-1].input, story.requests()[-1].attempt) == ("better", 2)
    assert story.answer("a", "old", attempt=1) == []
    assert story.answer("a", "new")[-1] == "execution.completed"


def test_an_edited_gate_is_another_gate() -> None:
    story = Workflow(gate("review"))
    story.control("edit", step_id="review", data={"message": "please?"})
    old, new = [m for m in story.said if isinstance(m, ApprovalRequested)]
    assert (old.message, new.message) == ("ok?", "please?")
    assert old.approval_id != new.approval_id
    for approval_id, ended in ((old.approval_id, False), (new.approval_id, True)):
        decided = ApprovalDecided(
            event_id=approval_id, occurred_at=utc(story.now), execution_id=EXECUTION, workflow_id="w",
            approval_id=approval_id, step_id="review", decision="approved",
        )  # fmt: skip
        assert ("execution.completed" in story.put(topics.APPROVAL_DECIDED, decided)) is ended


def test_an_edited_delay_waits_as_long_as_it_is_told() -> None:
    delay = {"step_id": "d", "step_type": "delay", "parameters": {"seconds": 3600}, "next_steps": ["a"]}
    story = Workflow(delay, agent("a"), input="kept")
    story.control("edit", step_id="d", data=5)
    assert story.wait(6)[0] == "step.completed"
    assert story.requests()[-1].input == "kept"


def test_a_rewind_begins_again_with_another_run_and_keeps_what_came_before() -> None:
    story = Workflow(agent("a", "b"), agent("b", "c"), agent("c"))
    story.answer("a", "A")
    story.answer("b", "B")
    assert story.control("rewind", step_id="b") == ["steps.cancelled", "step.steered", "step.started"]
    first, again = [request for request in story.requests() if request.step_id == "b"]
    assert (again.input, again.attempt) == ("A", 2)
    assert first.run_id != again.run_id
    story.answer("b", "B2")
    assert story.requests()[-1].input == "B2"
    assert story.answer("c")[-1] == "execution.completed"


def test_a_rewind_behind_a_join_counts_the_edges_anew() -> None:
    split = {"step_id": "split", "step_type": "parallel", "next_steps": ["a", "b"]}
    story = Workflow(split, agent("a", "join"), agent("b", "join"), agent("join", "end"), agent("end"))
    story.answer("a", "A")
    story.answer("b", "B")
    story.answer("join")
    story.control("rewind", step_id="a")
    assert story.begun()[-1] == "a"
    story.answer("a", "A2")
    assert story.begun()[-1] == "join"
    assert story.requests()[-1].input == {"a": "A2", "b": "B"}


def test_a_rewind_leaves_what_lies_before_the_step() -> None:
    check = {"step_id": "check", "step_type": "condition", "parameters": {"condition": "input.n > 1"}}
    join = agent("join", "end", join=1, cancel_rest=True)
    steps = ({**check, "next_steps": ["b"], "else_steps": ["c"]}, agent("b", "c", "join"), agent("c", "join"), join)
    story = Workflow(*steps, agent("end"), input={"n": 0})
    story.answer("c")
    assert story.begun()[-1] == "join"
    story.control("rewind", step_id="c")
    [rewound] = [event for event in story.events if event["type"] == "step.steered"]
    assert set(rewound["step_ids"]) == {"c", "join"}, "the branch that was not taken stays so"


def test_a_rewound_loop_runs_all_its_turns_again() -> None:
    loop = {
        "step_id": "each",
        "step_type": "loop",
        "parameters": {"over": [1, 2], "steps": [agent("w")]},
        "next_steps": ["z"],
    }
    story = Workflow(loop, agent("z"))
    story.answer("each[0].w", 1)
    story.control("rewind", step_id="each")
    for turn in (0, 1):
        story.answer(f"each[{turn}].w", turn)
    assert story.requests()[-1].input == [0, 1]
    story.answer("z")
    assert story.events[-1]["type"] == "execution.completed"


def test_a_timer_of_before_the_rewind_wakes_nobody() -> None:
    story = Workflow(agent("a", "b", timeout_seconds=10), agent("b"))
    story.answer("a")
    story.wait(5)
    story.control("rewind", step_id="a")
    assert story.wait(6) == []
    assert "step.failed" in story.wait(5)


def sub(step_id: str, *following: str, **fields: Any) -> dict[str, Any]:
    parameters = {"workflow_id": "child", "input": {"n": 1}}
    return {
        "step_id": step_id,
        "step_type": "sub_workflow",
        "parameters": parameters,
        "next_steps": list(following),
        **fields,
    }


def children(story: Workflow) -> list[WorkflowStarted]:
    return [message for message in story.said if isinstance(message, WorkflowStarted)]


def child_ended(story: Workflow, status: Any, **fields: Any) -> list[str]:
    child = children(story)[-1]
    assert child.parent is not None
    message = ChildEnded(
        event_id=f"{child.execution_id} ended", occurred_at=utc(story.now), workflow_id="child", status=status,
        child_id=child.execution_id, **child.parent.model_dump(exclude={"depth"}), **fields,
    )  # fmt: skip
    return story.put(topics.CHILD_ENDED, message)


def test_a_sub_workflow_is_an_execution_whose_result_is_the_output() -> None:
    story = Workflow(sub("call", "b"), agent("b"))
    [child] = children(story)
    assert (child.workflow_id, child.input, child.parent and child.parent.step_id) == ("child", {"n": 1}, "call")
    assert child_ended(story, "completed", result={"ok": True})[0] == "step.completed"
    assert story.requests()[-1].input == {"ok": True}


def test_a_failed_child_fails_its_step_and_a_retry_is_another_child() -> None:
    story = Workflow(sub("call", retry={"max_attempts": 2, "backoff_seconds": 1}))
    error = ErrorInfo(code="AGENT_ERROR", message="no")
    assert child_ended(story, "failed", error=error) == ["step.retry_scheduled", "execution.status_changed"]
    story.wait(2)
    first, second = children(story)
    assert first.execution_id != second.execution_id
    assert child_ended(story, "failed", error=error)[-1] == "execution.failed"
    assert "workflow child" in story.events[-1]["error"]["message"]


def test_a_child_is_cancelled_with_its_parent_and_with_its_time_out() -> None:
    for act in ("cancel", "timeout"):
        story = Workflow(sub("call", timeout_seconds=10))
        story.cancel() if act == "cancel" else story.wait(11)
        [wish] = [message for message in story.said if isinstance(message, ExecutionControlled)]
        assert (wish.execution_id, wish.action) == (children(story)[0].execution_id, "cancel")


def test_an_execution_that_has_a_parent_tells_it_how_it_ended() -> None:
    story = Workflow(agent("a"), parent={"execution_id": "p", "step_id": "call", "run_id": "r", "attempt": 2})
    story.answer("a", "result")
    [told] = [message for message in story.said if isinstance(message, ChildEnded)]
    assert (told.execution_id, told.child_id, told.attempt, told.result) == ("p", EXECUTION, 2, "result")


def test_an_execution_goes_on_from_a_recorded_one() -> None:
    origin = Origin(execution_id="old", outputs={"a": "A"}, stubs={"c": "stubbed"})
    story = Workflow(agent("a", "b"), agent("b", "c"), agent("c", "d"), agent("d"), origin=origin)
    assert story.begun() == ["b"]
    assert story.requests()[-1].input == "A"
    story.answer("b", "B")
    assert story.requests()[-1].step_id == "d"
    assert story.requests()[-1].input == "stubbed"


def test_it_begins_where_the_recorded_steps_lead() -> None:
    condition = {
        "step_id": "c", "step_type": "condition", "parameters": {"condition": "input.n > 1"},
        "next_steps": ["x"], "else_steps": ["y"],
    }  # fmt: skip
    origin = Origin(execution_id="old", outputs={"c": {"result": False}})
    story = Workflow(condition, agent("x"), agent("y"), input={"n": 5}, origin=origin)
    assert story.begun() == ["y"]
    bad = Origin(execution_id="old", outputs={"c": "what?"})
    assert Workflow(condition, agent("x"), agent("y"), origin=bad).events[0]["type"] == "execution.rejected"


def test_an_execution_migrates_if_its_place_is_there() -> None:
    story = Workflow(agent("a", "b"), agent("b"))
    story.answer("a", "A")
    story.define(agent("a", "b"), agent("b", "extra"), agent("extra"))
    story.define(agent("other"))
    assert story.control("migrate", version=3) == []
    assert story.control("migrate", version=2) == ["execution.version_changed"]
    story.answer("b", "B")
    assert story.requests()[-1].step_id == "extra"
    assert story.answer("extra")[-1] == "execution.completed"
