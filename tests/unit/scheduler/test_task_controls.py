"""Steps as people's tasks: announced, due, completed or failed by hand, handed over, spoken for by agents that nobody calls."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from handrail_contracts.approvals import ApprovalWithdrawn, SuggestionCreated
from handrail_contracts.envelope import ErrorInfo, utc
from handrail_contracts.triggers import EventReceived
from unit.stories import BEGAN, EXECUTION, Workflow, agent

CREATED = "2026-02-09T19:16:00Z"
ITSELF = {"agent": "a", "user_id": "bot"}
"""The agent of the step answers for itself."""


def types(story: Workflow) -> list[str]:
    return [event["type"] for event in story.events]


def test_tasks_are_announced_before_they_begin() -> None:
    tasks = [
        {"id": "one", "agent_id": "a", "depends_on": [], "priority": "high", "metadata": {"ticket": 7}},
        {"id": "two", "agent_id": "b", "name": "Two", "depends_on": "one", "due_in_seconds": 60, "created_at": CREATED},
    ]  # fmt: skip
    story = Workflow(tasks=tasks)
    assert types(story) == ["execution.started", "tasks.planned", "step.started"]
    one, two = story.events[1]["tasks"]
    assert (one["step_id"], one["priority"], one["metadata"], "due_date" in one) == (
        "one",
        "high",
        {"ticket": 7},
        False,
    )
    assert (two["name"], two["agent"], two["depends_on"]) == ("Two", "b", ["one"])
    assert datetime.fromisoformat(two["due_date"]) == utc(BEGAN + 60)
    assert two["brought"] == {"created_at": CREATED}


def test_a_workflow_without_terms_says_nothing_of_tasks() -> None:
    assert types(Workflow(agent("a"))) == ["execution.started", "step.started"]


def test_a_due_date_that_passes_is_told_once_and_on_the_bus() -> None:
    story = Workflow(agent("a", due_in_seconds=60, priority="low"))
    assert story.wait(59) == []
    assert story.wait(2) == ["step.overdue"]
    assert story.wait(1000) == []
    [told] = [message for message in story.said if isinstance(message, EventReceived)]
    assert (told.type, told.source, told.data["step_id"], told.data["agent_id"]) == (
        "task.overdue",
        "handrail",
        "a",
        "a",
    )
    assert story.answer("a")[-1] == "execution.completed"


def test_what_is_done_in_time_is_never_overdue() -> None:
    story = Workflow(agent("a", "b", due_in_seconds=60), agent("b"))
    story.answer("a")
    assert story.wait(100) == []


def test_a_task_that_has_not_begun_is_overdue_all_the_same() -> None:
    story = Workflow(agent("a", "b"), agent("b", due_in_seconds=60))
    assert story.wait(61) == ["step.overdue"]


def test_a_due_date_that_is_moved_counts_from_its_new_place() -> None:
    story = Workflow(agent("a", due_in_seconds=60))
    assert story.control("annotate", step_id="a", changes={"due_date": utc(BEGAN + 600)}) == ["step.annotated"]
    assert story.wait(61) == []
    assert story.wait(540) == ["step.overdue"]
    story.control("annotate", step_id="a", changes={"due_date": utc(BEGAN + 900)})
    assert story.wait(300) == ["step.overdue"], "a second due date is missed for itself"


def test_a_due_date_outlives_a_snapshot() -> None:
    story = Workflow(agent("a", due_in_seconds=60))
    state = story.machine.states[EXECUTION]
    core = story.machine.core
    state = state if not isinstance(state, bytes) else core.unpack(state)
    assert [timer.token for timer in core.live_timers(core.unpack(core.pack(state)))] == ["due/a"]


def test_a_person_completes_an_agents_task_and_what_the_agent_still_answers_is_late() -> None:
    story = Workflow(agent("a", "b"), agent("b"))
    assert story.control("complete", step_id="a", data={"x": 1}, user_id="ann", reason="by telephone") == [
        "steps.cancelled", "step.steered", "step.completed", "step.started",
    ]  # fmt: skip
    steered = story.events[-3]
    assert (steered["action"], steered["by"], steered["reason"]) == ("complete", "ann", "by telephone")
    assert story.requests()[-1].input == {"x": 1}
    assert story.answer("a", "late") == []


def test_a_task_that_has_not_begun_or_is_done_cant_be_completed() -> None:
    story = Workflow(agent("a", "b"), agent("b"))
    assert story.control("complete", step_id="b") == []
    story.answer("a")
    assert story.control("complete", step_id="a") == []
    assert story.control("complete", step_id="nobody") == []


def test_a_person_fails_a_task_for_good() -> None:
    story = Workflow(agent("a", "b", retry={"max_attempts": 3}), agent("b"))
    assert story.control("fail", step_id="a", user_id="ann", reason="no such customer")[-1] == "execution.failed"
    assert "ann says that it failed: no such customer" in story.events[-1]["error"]["message"]


def test_what_the_failure_means_is_the_definitions_to_say() -> None:
    story = Workflow(agent("a", "b", on_error="continue"), agent("b"))
    assert story.control("fail", step_id="a")[-1] == "step.started"
    story = Workflow(agent("a", "b", error_steps=["c"]), agent("b"), agent("c"))
    story.control("fail", step_id="a")
    assert story.begun()[-1] == "c"


def test_a_failure_that_waits_for_a_person_is_final_when_a_person_says_so() -> None:
    story = Workflow(agent("a", on_error="wait"))
    story.answer("a", error=ErrorInfo(code="AGENT_ERROR", message="no"))
    assert story.control("fail", step_id="a")[-1] == "execution.failed"


def test_an_agent_that_answers_for_itself_is_the_steps_agent_and_its_failures_are_tried_again() -> None:
    story = Workflow(agent("a", "b", retry={"max_attempts": 2, "backoff_seconds": 5}), agent("b"))
    assert story.control("complete", step_id="a", data=1, agent="another") == []
    assert story.control("fail", step_id="a", reason="not now", **ITSELF) == ["step.steered", "step.retry_scheduled"]
    story.wait(6)
    assert story.control("complete", step_id="a", data="done", **ITSELF) == [
        "step.steered",
        "step.completed",
        "step.started",
    ]
    assert story.requests()[-1].input == "done"


def test_a_time_out_counts_for_an_agent_that_nobody_calls() -> None:
    story = Workflow(agent("a", timeout_seconds=30))
    assert "step.failed" in story.wait(31)
    assert story.control("complete", step_id="a", **ITSELF) == []


def test_a_step_that_suggests_waits_for_people_when_its_agent_answers_for_itself() -> None:
    story = Workflow(agent("a", parameters={"suggestion": {"actions": {"send": "email"}}}))
    data = {"action": "send", "confidence": 0.9, "suggested_data": {"to": "x"}}
    assert story.control("complete", step_id="a", data=data, **ITSELF)[:2] == ["step.steered", "suggestion.made"]
    assert [message.agent for message in story.said if isinstance(message, SuggestionCreated)] == ["a"]


def test_a_task_that_waits_for_a_decision_can_be_completed_by_hand() -> None:
    story = Workflow(agent("a", "b", parameters={"suggestion": {"actions": {"send": "email"}}}), agent("b"))
    story.answer("a", {"action": "send", "confidence": 0.9, "suggested_data": {}})
    assert "step.completed" in story.control("complete", step_id="a", data="by hand")
    assert [message for message in story.said if isinstance(message, ApprovalWithdrawn)]


def test_a_task_is_handed_over_and_the_first_agent_is_not_heard_any_more() -> None:
    story = Workflow(agent("a", "b", retry={"max_attempts": 2, "backoff_seconds": 1}), agent("b"), input="the input")
    assert story.control("reassign", step_id="a", agent="other") == ["steps.cancelled", "step.steered", "step.started"]
    first, second = story.requests()
    assert (second.agent, second.attempt, second.input, second.run_id) == ("other", 2, "the input", first.run_id)
    assert story.answer("a", "late", attempt=1) == []
    story.answer("a", error=ErrorInfo(code="AGENT_UNAVAILABLE", message="busy", retryable=True))
    story.wait(2)
    assert story.requests()[-1].agent == "other", "it stays with whom it was given to"
    story.answer("a", "done")
    story.answer("b")
    [ended] = [message for message in story.said if type(message).__name__ == "WorkflowCompleted"]
    assert ended.metadata.agents_used == ("other", "a")


def test_a_task_is_handed_over_before_it_begins() -> None:
    story = Workflow(agent("a", "b"), agent("b"))
    assert story.control("reassign", step_id="b", agent="other") == ["step.steered"]
    story.answer("a")
    assert story.requests()[-1].agent == "other"


def test_a_step_of_capabilities_that_is_handed_over_names_its_agent() -> None:
    step = agent("a")
    step["parameters"] = {"capabilities": ["draft"]}
    story = Workflow(step)
    story.control("reassign", step_id="a", agent="other")
    assert (story.requests()[-1].agent, story.requests()[-1].capabilities) == ("other", ())


def test_a_person_who_has_a_task_is_not_asked_and_says_how_it_ended() -> None:
    story = Workflow(agent("a", "b", timeout_seconds=100), agent("b"))
    asked = len(story.requests())
    story.control("reassign", step_id="a", assignee="ann")
    assert len(story.requests()) == asked
    assert story.events[-2]["waits_for"] == "person"
    assert story.events[-1] == {"type": "execution.status_changed", "n": story.events[-1]["n"], "status": "waiting"}
    assert story.control("complete", step_id="a", data="signed", agent="a") == [], "it is the agent's no more"
    assert "step.completed" in story.control("complete", step_id="a", data="signed", user_id="ann")
    assert story.requests()[-1].input == "signed"


def test_a_person_who_has_a_task_may_be_too_late() -> None:
    story = Workflow(agent("a", timeout_seconds=100))
    story.control("reassign", step_id="a", assignee="ann")
    assert "step.failed" in story.wait(101)


@pytest.mark.parametrize("wish", [{"agent": "other"}, {"assignee": "ann"}])
def test_what_is_done_or_no_agents_is_handed_over_to_nobody(wish: dict[str, Any]) -> None:
    gate = {"step_id": "review", "step_type": "human_approval", "parameters": {"message": "ok?"}, "next_steps": ["b"]}
    story = Workflow(agent("a", "review"), gate, agent("b"))
    story.answer("a")
    for step_id in ("a", "review", "nobody"):
        assert story.control("reassign", step_id=step_id, **wish) == []


def test_what_is_said_of_a_task_changes_nothing_else_and_counts_once() -> None:
    story = Workflow(agent("a"))
    assert story.control("annotate", step_id="a", changes={"progress": 40, "priority": "urgent"}) == ["step.annotated"]
    assert story.events[-1]["changes"] == {"progress": 40, "priority": "urgent"}
    assert story.control("annotate", step_id="nobody", changes={"progress": 40}) == []
    assert story.answer("a")[-1] == "execution.completed"


def test_a_due_date_before_now_is_told_at_the_next_look() -> None:
    story = Workflow(agent("a", due_date=(utc(BEGAN) - timedelta(days=1)).isoformat()))
    assert story.wait(0) == ["step.overdue"]
