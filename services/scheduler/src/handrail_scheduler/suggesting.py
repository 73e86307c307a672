"""What events make of conversations and suggestions. Used by `evolve` alone; `suggestions.py` says when they happen."""

from typing import Any

from handrail_contracts.execution_events import (
    StepAdvanced,
    StepSteered,
    SuggestionApproved,
    SuggestionMade,
    SuggestionRefused,
    SuggestionSentBack,
)
from handrail_contracts.steps import ToolResult, Turn

from handrail_scheduler.state import Execution, StepStatus


def done_suggesting(state: Execution, step_id: str) -> None:
    """A call that was sent back, and not wanted any more, waits for nobody."""
    own = state.suggestions.pop(step_id, None)
    if own is not None and own["phase"] == "revises":
        state.suggestions[step_id] = own
        withdraw(state, step_id)


def withdraw(state: Execution, step_id: str) -> None:
    """Nobody waits for it any more; its gate is told."""
    state.suggestions[step_id] |= {"phase": "withdrawn", "part": ()}


def count_anew(state: Execution, step_id: str) -> None:
    """What is tried next has attempts of its own."""
    state.forgiven[step_id] = state.steps[step_id].attempt - state.attempts.get(step_id, 0)


def suggested(state: Execution, event: SuggestionMade) -> None:
    """The step waits for people now."""
    known = state.suggestions.get(event.step_id)
    given = state.steps[event.step_id].input
    original = given if known is None else known["original"]
    again = known is not None and event.revision > 1
    said = event.model_dump(include={"action", "reasoning", "confidence", "suggested_data"})
    state.suggestions[event.step_id] = {
        "id": event.suggestion_id, "revision": event.revision, "phase": "waits", "agent": event.agent, "said": said,
        "data": event.suggested_data, "original": original, "comments": known["comments"] if known and again else [],
        "part": () if known is None else known["part"],
        "call_id": event.call_id, "asked": event.agent, "input": given if event.call_id else original,
        "before": {name: known[name] for name in ("revision", "said", "call_id")} if known and again else None,
    }  # fmt: skip
    count_anew(state, event.step_id)
    wait_for_begin(state, event.step_id)
    if not event.call_id:
        state.conversations.pop(event.step_id, None)


def approved(state: Execution, event: SuggestionApproved) -> None:
    """An action gets a run of its own; a call is made by the run that wanted it."""
    own = state.suggestions[event.step_id]
    if own["before"] and own["before"]["revision"] == event.revision:
        own |= own["before"]
    own |= {"data": event.data, "by": event.by, "comment": event.comment}
    count_anew(state, event.step_id)
    turns = state.conversations.get(event.step_id)
    if not own["call_id"]:
        state.conversations.pop(event.step_id, None)
        own |= {"phase": "acts", "asked": event.action, "input": event.data, "part": ("action", own["id"])}
    elif turns:
        own["phase"] = "goes_on"
        if (number := asked_in(turns, own["call_id"])) is not None:
            turns[number] = Turn.model_validate(turns[number]).grant(own["call_id"], event.data).model_dump()
    else:
        own |= {"phase": "goes_on", "input": event.data}
    wait_for_begin(state, event.step_id)


def refused(state: Execution, event: SuggestionRefused) -> None:
    """Of a call: the model hears of it, and goes on."""
    answer_call(state, event.step_id, f"{event.by or 'nobody'} has not allowed this: {event.comment}")
    state.suggestions[event.step_id]["phase"] = "goes_on"
    wait_for_begin(state, event.step_id)


def wait_for_begin(state: Execution, step_id: str) -> None:
    """What the agent still does was overtaken by the decision: nobody waits for it, also while the execution is paused."""
    if state.steps[step_id].waits_for != "suggestion":
        state.stop_work(step_id, StepStatus.RUNNING).waits_for = "suggestion"
        state.idle += 1


def answer_call(state: Execution, step_id: str, error: str) -> None:
    """What a model hears in place of a result, and of what it has heard before."""
    own, turns = state.suggestions[step_id], state.conversations.get(step_id)
    count_anew(state, step_id)
    if turns and (number := asked_in(turns, own["call_id"])) is not None:
        turns[number] = Turn.model_validate(turns[number]).without_result(own["call_id"]).model_dump()
        give(turns, number, ToolResult(call_id=own["call_id"], error=error))


def asked_in(turns: list[dict[str, Any]], call_id: str) -> int | None:
    """The turn that wants the call: a model that was sent back may have said more by now."""
    numbers = reversed(range(len(turns)))
    return next((at for at in numbers if any(call["call_id"] == call_id for call in turns[at]["asked"])), None)


def sent_back(state: Execution, event: SuggestionSentBack) -> None:
    own = state.suggestions[event.step_id]
    own["comments"] = [*own["comments"], {"author": event.by, "text": event.comment}]
    if own["call_id"]:
        own["phase"] = "revises"
        answer_call(state, event.step_id, f"not done yet, {event.by or 'a person'} says: {event.comment}")
        return
    told = {"input": own["original"], "suggestion": own["said"], "comments": own["comments"]}
    own |= {
        "phase": "revises",
        "asked": own["agent"],
        "input": told,
        "part": ("revision", own["id"], event.revision + 1),
    }


def advanced(turns: list[dict[str, Any]], event: StepAdvanced) -> None:
    if event.said is not None:
        turns.append(Turn(holder=event.holder, said=event.said, asked=event.asked).model_dump())
    elif event.result is not None:
        give(turns, event.turn, event.result)
    elif event.begun:
        begun = Turn.model_validate(turns[event.turn]).begin(event.begun, event.holder)
        turns[event.turn] = turns[event.turn] if begun is None else begun.model_dump()


def settle_calls(turns: list[dict[str, Any]] | None, event: StepSteered) -> None:
    """A person lets a conversation go on whose last calls have an outcome that nobody knows."""
    if not turns:
        return
    unknown = f"nobody knows whether this took effect; {event.by or 'a person'} has looked and lets you go on"
    why = f"{unknown}: {event.reason}" if event.reason else unknown
    told = {"error": why} if event.data is None else {"content": event.data}
    for call in Turn.model_validate(turns[-1]).open():
        if not call.repeatable and (call.begun or not call.ask):
            give(turns, -1, ToolResult(call_id=call.call_id, **told))


def give(turns: list[dict[str, Any]], number: int, result: ToolResult) -> None:
    turn = turns[number]
    turns[number] = {**turn, "results": (*turn["results"], result.model_dump())}
