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


def loop(*body: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    return {
        "step_id": "each",
        "step_type": "loop",
        "parameters": {"steps": list(body), **parameters},
        "next_steps": ["after"],
    }


def test_a_loop_goes_through_its_items_one_by_one() -> None:
    body = agent("work", parameters={"input": {"item": "{{loop.item}}", "index": "{{loop.index}}"}})
    story = Workflow(loop(body, over="{{input.items}}"), agent("after"), input={"items": ["x", "y"]})
    assert story.begun() == ["each", "each[0].work"]
    story.answer("each[0].work", "X")
    assert story.requests()[-1].input == {"item": "y", "index": 1}
    story.answer("each[1].work", "Y")
    assert story.requests()[-1].input == ["X", "Y"]
    assert story.answer("after", "done")[-1] == "execution.completed"


def test_a_loop_has_as_many_turns_open_as_it_may() -> None:
    story = Workflow(loop(agent("work"), over="{{input}}", max_parallel=2), agent("after"), input=[1, 2, 3])
    assert story.begun() == ["each", "each[0].work", "each[1].work"]
    story.answer("each[1].work", "b")
    assert story.begun()[-1] == "each[2].work"
    story.answer("each[2].work", "c")
    story.answer("each[0].work", "a")
    assert story.requests()[-1].input == ["a", "b", "c"]


def test_the_steps_of_a_turn_see_each_other_the_item_and_what_is_outside() -> None:
    steps = [
        agent("first", "second"),
        agent(
            "second", parameters={"input": ["{{previous_output}}", "{{steps.first.output}}", "{{steps.before.output}}"]}
        ),
    ]
    story = Workflow(agent("before", "each"), loop(*steps, over=[1, 2]), agent("after"))
    story.answer("before", "B")
    assert story.requests()[-1].input == 1
    for turn in range(2):
        story.answer(f"each[{turn}].first", f"F{turn}")
        assert story.requests()[-1].input == [f"F{turn}", f"F{turn}", "B"]
        story.answer(f"each[{turn}].second", f"S{turn}")
    assert story.requests()[-1].input == ["S0", "S1"]


def test_a_loop_over_nothing_is_done_at_once_and_its_neighbours_are_not_forgotten() -> None:
    split = {"step_id": "split", "step_type": "parallel", "next_steps": ["each", "beside"]}
    story = Workflow(split, loop(agent("work"), over=[]), agent("after"), agent("beside"))
    assert story.begun() == ["split", "each", "beside", "after"]
    story.answer("after")
    assert story.answer("beside")[-1] == "execution.completed"


def test_a_loop_runs_until_its_condition_holds() -> None:
    body = agent("work", parameters={"input": "{{loop.last ?? 'nothing'}}"})
    story = Workflow(loop(body, until="loop.last.good"), agent("after"))
    for turn, good in enumerate((False, False, True)):
        story.answer(f"each[{turn}].work", {"good": good})
    assert [request.input for request in story.requests()][:2] == ["nothing", {"good": False}]
    assert story.begun()[-1] == "after"
    assert story.requests()[-1].input == {"good": True}


def test_a_loop_that_does_not_end_fails_at_its_limit() -> None:
    story = Workflow(loop(agent("work"), until="false", max_iterations=3), agent("after"))
    for turn in range(3):
        said = story.answer(f"each[{turn}].work")
    assert said[-1] == "execution.failed"
    assert [event["error"]["code"] for event in story.events if event["type"] == "step.failed"] == ["LOOP_LIMIT"]


def test_loops_in_loops() -> None:
    inner = {
        "step_id": "inner",
        "step_type": "loop",
        "parameters": {"over": "{{loop.item}}", "steps": [agent("work")]},
    }
    story = Workflow(loop(inner, over=[["a", "b"], ["c"]]), agent("after"))
    for step in ("each[0].inner[0].work", "each[0].inner[1].work", "each[1].inner[0].work"):
        assert story.begun()[-1] == step
        story.answer(step, story.requests()[-1].input.upper())
    assert story.requests()[-1].input == [["A", "B"], ["C"]]


def test_a_loop_that_is_paused_begins_no_turn_and_goes_on_after_it() -> None:
    story = Workflow(loop(agent("work"), over=[1, 2]), agent("after"))
    story.control("pause")
    assert story.answer("each[0].work") == ["step.completed"]
    assert "step.started" in story.control("resume")
    assert story.begun()[-1] == "each[1].work"


def test_a_failed_turn_fails_the_execution_and_a_branch_not_taken_ends_its_turn() -> None:
    check = {
        "step_id": "check", "step_type": "condition", "parameters": {"condition": "loop.item > 1"}, "next_steps": ["work"],
    }  # fmt: skip
    story = Workflow(loop(check, agent("work"), over=[1, 2]), agent("after"))
    assert story.begun() == ["each", "each[0].check", "each[1].check", "each[1].work"]
    error = ErrorInfo(code="AGENT_ERROR", message="no", retryable=False)
    assert story.answer("each[1].work", error=error)[-1] == "execution.failed"


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


def test_a_loop_in_a_loop_sees_the_turn_around_it() -> None:
    inner = {
        "step_id": "inner", "step_type": "loop",
        "parameters": {
            "until": "loop.index >= loop.outer.item",
            "steps": [agent("w", parameters={"input": "{{loop.outer.item}}.{{loop.index}}"})],
        },
    }  # fmt: skip
    story = Workflow({"step_id": "each", "step_type": "loop", "parameters": {"over": [0, 1], "steps": [inner]}})
    for step in ("each[0].inner[0].w", "each[1].inner[0].w", "each[1].inner[1].w"):
        story.answer(step, step)
    assert [request.input for request in story.requests()] == ["0.0", "1.0", "1.1"]
    assert story.events[-1]["type"] == "execution.completed"
