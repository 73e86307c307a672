"""Conversations with models: what was asked and given is history, and the next attempt goes on from there."""

from typing import Any
from uuid import uuid4

from handrail_contracts import topics
from handrail_contracts.envelope import ErrorInfo, utc
from handrail_contracts.steps import AgentAdvanced, ModelCall, ToolAsked, ToolResult
from unit.stories import EXECUTION, Workflow, agent

BROKEN = ErrorInfo(code="AGENT_ERROR", message="it broke", retryable=True)
UNKNOWN = ErrorInfo(code="OUTCOME_UNKNOWN", message="nobody knows")
RETRY = {"retry": {"max_attempts": 3, "backoff_seconds": 1}}
CALL = ToolAsked(call_id="c1", tool="charge", repeatable=False)


def advance(story: Workflow, turn: int, holder: str = "one", **fields: Any) -> list[str]:
    request = story.requests()[-1]
    message = AgentAdvanced(
        event_id=str(uuid4()), occurred_at=utc(story.now), execution_id=EXECUTION, workflow_id="w", step_id="a",
        run_id=request.run_id, attempt=request.attempt, agent="a", turn=turn, holder=holder, **fields,
    )  # fmt: skip
    return story.put(topics.AGENT_EXECUTED, message)


def ask(story: Workflow, turn: int = 0, holder: str = "one", **fields: Any) -> list[str]:
    return advance(story, turn, holder, said={"text": f"{holder} {turn}"}, asked=(CALL,), **fields)


def give(story: Workflow, turn: int = 0, **fields: Any) -> list[str]:
    return advance(story, turn, result=ToolResult(call_id="c1", content="paid"), **fields)


def test_a_later_attempt_goes_on_from_the_last_result() -> None:
    story = Workflow(agent("a", **RETRY))
    calls = (ModelCall(model="m", seconds=1),)
    assert ask(story, model_calls=calls) == ["step.models_called", "step.advanced"]
    assert ask(story, model_calls=calls) == [], "what a runner repeats has cost nothing more"
    assert give(story) == ["step.advanced"]
    story.answer("a", error=BROKEN)
    story.wait(10)
    [turn] = story.requests()[-1].turns
    assert (turn.said, turn.results[0].content, turn.open()) == ({"text": "one 0"}, "paid", ())
    assert story.requests()[0].turns == ()


def test_of_two_who_go_on_from_one_turn_the_first_counts() -> None:
    story = Workflow(agent("a", **RETRY))
    ask(story)
    assert ask(story, holder="other") == []
    assert ask(story, 1, "other", follows="other") == []
    assert give(story) == ["step.advanced"]
    assert give(story) == [], "it was given before"
    assert ask(story, 1, "other", follows="one") == ["step.advanced"], "it takes over what the first has left"
    assert ask(story, 1, follows="one", model_calls=(ModelCall(model="m", seconds=1),)) == ["step.models_called"]


def test_a_call_that_nobody_has_allowed_yet_has_no_outcome_to_settle() -> None:
    story = Workflow(agent("a", **RETRY))
    wish = ToolAsked(call_id="c2", tool="refund", repeatable=False, ask=True)
    advance(story, 0, said={"text": "both"}, asked=(CALL, wish))
    story.answer("a", error=UNKNOWN)
    story.control("retry", step_id="a", data="paid")
    [turn] = story.requests()[-1].turns
    assert [result.call_id for result in turn.results] == ["c1"]


def test_a_call_with_an_unknown_outcome_waits_for_a_person_who_may_say_what_it_gave() -> None:
    story = Workflow(agent("a", **RETRY))
    ask(story)
    assert story.answer("a", error=UNKNOWN)[0] == "step.failed"
    assert story.events[-2]["then"] == "wait"
    story.control("retry", step_id="a", data={"paid": True})
    [turn] = story.requests()[-1].turns
    assert turn.results == (ToolResult(call_id="c1", content={"paid": True}),)


def test_a_person_who_only_lets_it_go_on_is_what_the_model_hears() -> None:
    story = Workflow(agent("a"))
    ask(story)
    story.answer("a", error=UNKNOWN)
    story.control("retry", step_id="a", user_id="ada", reason="the bank has no such charge")
    [turn] = story.requests()[-1].turns
    told = "nobody knows whether this took effect; ada has looked and lets you go on: the bank has no such charge"
    assert turn.results[0].error == told


def test_a_conversation_ends_with_its_step_and_begins_anew_with_another_input() -> None:
    story = Workflow(agent("a"))
    ask(story)
    story.control("edit", step_id="a", data="something else")
    assert story.requests()[-1].turns == ()
    story.answer("a", "done")
    assert ask(story) == [], "it is over"
