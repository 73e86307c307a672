"""Loops: which turns begin, and what they give."""

from typing import Any

from handrail_contracts.envelope import ErrorInfo
from handrail_graph import ExpressionError, LoopParameters, instance, turn_of

from handrail_scheduler.decision import MOVING, Decision
from handrail_scheduler.ending import fail
from handrail_scheduler.state import Execution, StepStatus


def turn_over(decision: Decision, step_id: str) -> tuple[str, ...]:
    """If that was the last step of a loop's turn: what begins in the next one, or the loop itself if it is done."""
    place = turn_of(step_id)
    return () if place is None or not runs(decision.state, place[0]) else next_turns(decision, place[0])


def runs(state: Execution, loop_id: str) -> bool:
    """A loop in a turn that is done is forgotten with the turn."""
    loop = state.steps.get(loop_id)
    return loop is not None and loop.status is StepStatus.RUNNING


def next_turns(decision: Decision, loop_id: str) -> tuple[str, ...]:
    """Begins as many turns as the loop may have open, or completes it; gives the steps that this settled or began."""
    parameters, state = decision.graph.nodes[loop_id].parameters, decision.state
    assert isinstance(parameters, LoopParameters)
    turns = state.turns[loop_id]
    if parameters.until is not None:
        if turns.begun > turns.done or (turns.done and _holds(decision, loop_id, parameters, turns.done)):
            return () if runs(state, loop_id) else (loop_id,)
        if turns.done >= parameters.max_turns:
            message = f"it did not come to an end within {parameters.max_turns} turns"
            fail(decision, loop_id, ErrorInfo(code="LOOP_LIMIT", message=message))
            return (loop_id,)
        wanted = turns.begun + 1
    else:
        count = len(state.steps[loop_id].input)
        if turns.done == count:
            decision.complete(loop_id, [turns.outputs[str(turn)] for turn in range(count)])
            return (loop_id,)
        wanted = min(count, turns.done + parameters.max_parallel)
    return _begin_turns(decision, loop_id, parameters, turns.begun, wanted)


def _begin_turns(
    decision: Decision, loop_id: str, parameters: LoopParameters, begun: int, wanted: int
) -> tuple[str, ...]:
    started: list[str] = []
    for turn in range(begun, wanted):
        for name in parameters.body.entry:
            if decision.state.status in MOVING and runs(decision.state, loop_id):
                started.append(instance(loop_id, turn, name))
                decision.begin(started[-1])
    return tuple(started) if runs(decision.state, loop_id) else (*started, loop_id)


def _holds(decision: Decision, loop_id: str, parameters: LoopParameters, done: int) -> bool:
    """Completes the loop if so; an expression that can't be evaluated fails it."""
    assert parameters.until is not None
    last = turn_output(decision, loop_id, done - 1)
    try:
        held = decision.evaluate(decision, loop_id, parameters.until, {"last": last, "index": done - 1})
    except ExpressionError as error:
        fail(decision, loop_id, ErrorInfo(code="VALIDATION_ERROR", message=f"step {loop_id}: {error}"))
        return True
    if held:
        decision.complete(loop_id, last)
    return held


def turn_output(decision: Decision, loop_id: str, turn: int) -> Any:
    """The output of a turn that is done; of a loop with a condition, of the latest."""
    return decision.state.turns[loop_id].outputs[str(turn)]
