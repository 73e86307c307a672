"""What the scheduler decides, example by example; the simulation covers the rest at random."""

from handrail_contracts.envelope import ErrorInfo
from handrail_contracts.workflows import WorkflowCompleted
from unit.stories import Workflow, agent

BUSY = ErrorInfo(code="AGENT_UNAVAILABLE", message="busy", retryable=True)
BROKEN = ErrorInfo(code="AGENT_ERROR", message="no", retryable=False)


def ends(story: Workflow) -> list[tuple[str, object]]:
    return [(m.event_type, m.result) for m in story.said if isinstance(m, WorkflowCompleted)]


def test_steps_follow_each_other_and_pass_their_output_on() -> None:
    story = Workflow(
        agent("a", "b", parameters={"input": "{{input.n}}"}),
        agent("b", parameters={"input": "{{previous_output}}"}),
        input={"n": 7},
    )
    assert story.answer("a", {"x": 1}) == ["step.completed", "step.started"]
    assert [request.input for request in story.requests()] == [7, {"x": 1}]
    assert story.answer("b", "done") == ["step.completed", "execution.completed"]
    assert ends(story) == [("workflow.completed", "done")]


def test_a_join_begins_when_its_last_branch_is_done() -> None:
    story = Workflow(agent("start", "left", "right"), agent("left", "join"), agent("right", "join"), agent("join"))
    story.answer("start")
    assert story.answer("right") == ["step.completed"]
    assert story.answer("left") == ["step.completed", "step.started"]
    assert story.requests()[-1].step_id == "join"


def test_the_branch_that_is_not_taken_is_skipped_to_its_end() -> None:
    condition = {
        "step_id": "c", "step_type": "condition", "parameters": {"condition": "input.n > 5"},
        "next_steps": ["high"], "else_steps": ["low"],
    }  # fmt: skip
    story = Workflow(
        condition, agent("high", "join"), agent("low", "lower"), agent("lower", "join"), agent("join"), input={"n": 9}
    )
    skipped = [event["step_ids"] for event in story.events if event["type"] == "steps.skipped"]
    assert sorted(step for steps in skipped for step in steps) == ["low", "lower"]
    story.answer("high")
    assert story.requests()[-1].step_id == "join"


def test_a_retry_waits_longer_each_time_and_the_last_failure_ends_the_execution() -> None:
    story = Workflow(agent("a", "b", retry={"max_attempts": 3, "backoff_seconds": 10}), agent("b"))
    waits = []
    for _ in range(2):
        assert story.answer("a", error=BUSY) == ["step.retry_scheduled"]
        assert story.wait(0.1) == []
        began = story.now
        while not story.wait(0.5):
            pass
        waits.append(story.now - began)
    assert 8 <= waits[0] <= 12 < 16 <= waits[1] <= 24
    assert story.answer("a", error=BUSY) == ["step.failed", "steps.skipped", "execution.failed"]
    assert [request.attempt for request in story.requests()] == [1, 2, 3]
    assert ends(story) == [("workflow.failed", None)]


def test_what_can_not_get_better_is_not_tried_again() -> None:
    story = Workflow(agent("a", retry={"max_attempts": 5}))
    assert "execution.failed" in story.answer("a", error=BROKEN)


def test_a_step_that_takes_too_long_is_given_up_and_its_answer_is_late() -> None:
    story = Workflow(agent("a", timeout_seconds=30, retry={"max_attempts": 2, "backoff_seconds": 1}))
    assert story.wait(29.9) == []
    assert story.wait(0.2) == ["step.retry_scheduled"]
    assert story.answer("a", "late", attempt=1) == []
    while not story.wait(0.5):
        pass
    assert story.answer("a", "late", attempt=1) == []
    assert story.answer("a", "in time") == ["step.completed", "execution.completed"]


def test_a_workflow_that_takes_too_long_ends_as_timed_out() -> None:
    story = Workflow(agent("a", "b"), agent("b"), timeout_seconds=60)
    assert story.wait(61)[-1] == "execution.timed_out"
    assert [kind for kind, _ in ends(story)] == ["workflow.timeout"]
    assert story.answer("a") == []


def test_an_answer_counts_once() -> None:
    story = Workflow(agent("a", "b"), agent("b"))
    story.answer("a", 1)
    assert story.answer("a", 2) == []
    assert [request.step_id for request in story.requests()] == ["a", "b"]


def test_a_cancel_ends_what_runs_and_a_second_one_changes_nothing() -> None:
    story = Workflow(agent("a", "b"), agent("b"))
    assert story.cancel()[-1] == "execution.cancelled"
    assert story.cancel() == []
    assert story.answer("a") == []
    assert [kind for kind, _ in ends(story)] == ["workflow.cancelled"]


def test_a_delay_is_not_early() -> None:
    delay = {"step_id": "d", "step_type": "delay", "parameters": {"seconds": 10}, "next_steps": ["a"]}
    story = Workflow(delay, agent("a"))
    assert story.wait(9.999) == []
    assert story.wait(0.001)[:2] == ["step.completed", "step.started"]
