"""Branches, joins, signals, pauses: what the scheduler decides, example by example."""

from typing import Any

import pytest
from handrail_contracts.envelope import ErrorInfo
from unit.stories import Workflow, agent

BUSY = ErrorInfo(code="AGENT_UNAVAILABLE", message="busy", retryable=True)


def switch(*cases: tuple[str, str], otherwise: str = "", mode: str = "first") -> dict[str, Any]:
    return {
        "step_id": "choose",
        "step_type": "switch",
        "parameters": {"cases": [{"condition": when, "next_steps": [then]} for when, then in cases], "mode": mode},
        "else_steps": [otherwise] if otherwise else [],
    }


def signal(step_id: str, *following: str, **options: Any) -> dict[str, Any]:
    parameters = {"name": "paid", **options}
    return {"step_id": step_id, "step_type": "signal", "parameters": parameters, "next_steps": list(following)}


@pytest.mark.parametrize(("n", "begun"), [(1, "low"), (5, "middle"), (9, "high")])
def test_a_switch_takes_the_first_case_that_holds_or_else(n: int, begun: str) -> None:
    steps = [agent("high"), agent("middle"), agent("low")]
    story = Workflow(
        switch(("input.n > 7", "high"), ("input.n > 3", "middle"), otherwise="low"), *steps, input={"n": n}
    )
    assert story.begun() == ["choose", begun]
    assert story.answer(begun)[-1] == "execution.completed"


def test_a_switch_may_take_every_case_that_holds() -> None:
    steps = [agent("a", "join"), agent("b", "join"), agent("c", "join"), agent("join")]
    story = Workflow(
        switch(("input.n > 1", "a"), ("input.n > 3", "b"), ("input.n > 7", "c"), mode="all"), *steps, input={"n": 5}
    )
    assert story.begun() == ["choose", "a", "b"]
    story.answer("a")
    assert story.answer("b") == ["step.completed", "step.started"]
    assert story.begun()[-1] == "join"


def test_where_no_case_holds_and_nothing_is_else_the_workflow_is_done() -> None:
    story = Workflow(switch(("input.n > 7", "a")), agent("a"), input={"n": 1})
    assert [event["type"] for event in story.events][-2:] == ["steps.skipped", "execution.completed"]


@pytest.mark.parametrize(("join", "needed"), [("any", 1), (2, 2), ("all", 3)])
def test_a_join_begins_once_with_as_many_branches_as_it_asks_for(join: object, needed: int) -> None:
    branches = ["a", "b", "c"]
    parallel = {"step_id": "split", "step_type": "parallel", "next_steps": branches}
    story = Workflow(parallel, *(agent(branch, "join") for branch in branches), agent("join", join=join))
    for number, branch in enumerate(branches, 1):
        story.answer(branch, number)
        assert ("join" in story.begun()) == (number >= needed)
    assert story.begun().count("join") == 1
    assert story.answer("join", "done")[-1] == "execution.completed"


def test_a_join_that_can_not_get_as_many_begins_with_those_that_came() -> None:
    condition = {
        "step_id": "c", "step_type": "condition", "parameters": {"condition": "input.n > 5"},
        "next_steps": ["a"], "else_steps": ["join"],
    }  # fmt: skip
    story = Workflow(condition, agent("a", "join"), agent("join", join=2), input={"n": 1})
    assert story.begun() == ["c", "join"]


def test_a_step_waits_for_its_signal_and_gets_its_data() -> None:
    story = Workflow(signal("wait", "a"), agent("a", parameters={"input": "{{previous_output.amount}}"}))
    assert story.control("signal", signal="other") == ["signal.received"]
    assert story.control("signal", signal="paid", data={"amount": 5})[:2] == ["signal.received", "step.completed"]
    assert story.requests()[-1].input == 5


def test_a_signal_that_comes_early_is_kept_and_each_is_for_one_step() -> None:
    story = Workflow(agent("a", "first"), signal("first", "second"), signal("second"))
    assert story.control("signal", signal="paid", data=1) == ["signal.received"]
    story.answer("a")
    assert story.begun() == ["a", "first", "second"]
    assert story.control("signal", signal="paid", data=2)[-1] == "execution.completed"


@pytest.mark.parametrize(("on_timeout", "last"), [("fail", "execution.failed"), ("continue", "step.started")])
def test_a_signal_that_does_not_come_in_time(on_timeout: str, last: str) -> None:
    story = Workflow(signal("wait", "a", timeout_seconds=60, on_timeout=on_timeout), agent("a"))
    assert story.wait(59) == []
    assert last in story.wait(1)


def test_while_it_is_paused_nothing_begins_and_a_resume_goes_on_where_it_stood() -> None:
    story = Workflow(agent("a", "b"), agent("b"))
    assert story.control("pause", reason="look first") == ["execution.paused"]
    assert story.control("pause") == []
    assert story.answer("a", 1) == ["step.completed"]
    assert story.control("resume")[:2] == ["execution.resumed", "step.started"]
    assert story.control("resume") == []
    assert story.answer("b", 2)[-1] == "execution.completed"


def test_a_retry_that_comes_due_in_a_pause_waits_for_its_end() -> None:
    story = Workflow(agent("a", retry={"max_attempts": 2, "backoff_seconds": 1}))
    story.answer("a", error=BUSY)
    story.control("pause")
    assert story.wait(60) == []
    assert "step.started" in story.control("resume")
    assert story.requests()[-1].attempt == 2


def test_one_that_is_paused_can_be_cancelled_and_ends_by_its_time_limit() -> None:
    story = Workflow(agent("a"))
    story.control("pause")
    assert story.cancel()[-1] == "execution.cancelled"
    limited = Workflow(agent("a"), timeout_seconds=10)
    limited.control("pause")
    assert limited.wait(10)[-1] == "execution.timed_out"


def test_a_last_step_that_ends_in_a_pause_ends_the_execution_after_it() -> None:
    story = Workflow(agent("a"))
    story.control("pause")
    assert story.answer("a", "x") == ["step.completed"]
    assert story.control("resume") == ["execution.resumed", "execution.completed"]
