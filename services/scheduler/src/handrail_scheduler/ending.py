"""How steps fail and executions end: error policies, what is given up, what is undone."""

from typing import Any

from handrail_contracts.envelope import ErrorInfo, utc
from handrail_contracts.execution_events import (
    CompensationStarted,
    ExecutionCancelled,
    ExecutionEvent,
    ExecutionFailed,
    ExecutionTimedOut,
    StepFailed,
    StepRetryScheduled,
    StepsCancelled,
    StepsSkipped,
)
from handrail_contracts.ids import fraction
from handrail_graph import turn_of

from handrail_scheduler.decision import ALIVE, Decision
from handrail_scheduler.state import SETTLED, UNDER_WAY, Execution, Status, StepStatus

_OUTCOMES: dict[type[ExecutionEvent], str] = {
    ExecutionFailed: "failed",
    ExecutionCancelled: "cancelled",
    ExecutionTimedOut: "timed_out",
}


def attempt_failed(decision: Decision, step_id: str, error: ErrorInfo) -> None:
    """Another attempt if the error and the step's policy allow one, else the end."""
    if not error.retryable or not _may_try_again(decision, step_id):
        fail(decision, step_id, error)
        return
    give_up(decision, inside(decision.state, step_id))
    node, attempt = decision.graph.nodes[step_id], decision.state.steps[step_id].attempt
    jitter = fraction(decision.state.execution_id, step_id, attempt)
    retry_at = utc(decision.now + node.retry.delay(decision.state.tries(step_id), jitter))
    agent = decision.chosen_for(step_id)
    decision.say(StepRetryScheduled, step_id=step_id, attempt=attempt, agent=agent, error=error, retry_at=retry_at)


def _may_try_again(decision: Decision, step_id: str) -> bool:
    return decision.state.tries(step_id) < decision.graph.nodes[step_id].retry.max_attempts


def inside(state: Execution, loop_id: str) -> list[str]:
    """The steps of a loop's turns; nothing for a step that is none."""
    if loop_id not in state.turns:
        return []
    prefix = f"{loop_id}["
    return [step_id for step_id in state.steps if step_id.startswith(prefix)]


def fail(decision: Decision, step_id: str, error: ErrorInfo, *, waits: bool = True) -> None:
    """The step failed for good; its policy, or that of the loop or the parallel step around it, says what that means.

    Unless it `waits`, a policy that would leave it to a person ends the execution: a person has just spoken.
    """
    if decision.state.status is Status.COMPENSATING:
        _say_failed(decision, step_id, error, "branch")
        return
    then = "wait" if error.code == "OUTCOME_UNKNOWN" else _then(decision, step_id)
    if then == "wait" and not waits:
        then = "end"
    place = turn_of(step_id)
    if then == "end" and place is not None and _goes_on_around(decision, place[0]):
        _say_failed(decision, step_id, error, "branch")
        attempt_failed(decision, place[0], error.model_copy(update={"retryable": True}))
        return
    give_up(decision, inside(decision.state, step_id))
    _say_failed(decision, step_id, error, then)
    if then == "end":
        end(decision, ExecutionFailed, step_id=step_id, error=error)


def _say_failed(decision: Decision, step_id: str, error: ErrorInfo, then: str) -> None:
    attempt = decision.state.steps[step_id].attempt
    agent = decision.chosen_for(step_id)
    decision.say(StepFailed, step_id=step_id, attempt=attempt, agent=agent, error=error, then=then)


def _then(decision: Decision, step_id: str) -> str:
    node = decision.graph.nodes[step_id]
    if node.catch:
        return "catch"
    if node.on_error != "fail":
        return node.on_error
    return "end" if node.branch is None else "branch"


def _goes_on_around(decision: Decision, loop_id: str) -> bool:
    """Whether the loop, or one around it, is tried again or says that its failure is not the end."""
    if _may_try_again(decision, loop_id) or _then(decision, loop_id) != "end":
        return True
    place = turn_of(loop_id)
    return place is not None and _goes_on_around(decision, place[0])


def give_up(decision: Decision, step_ids: list[str]) -> None:
    """Cancels those of the steps that are under way."""
    steps = decision.state.steps
    under_way = tuple(step_id for step_id in step_ids if step_id in steps and steps[step_id].status in UNDER_WAY)
    if under_way:
        decision.say(StepsCancelled, step_ids=under_way)


def end(decision: Decision, event: type[ExecutionEvent], **fields: Any) -> None:
    """Ends the execution early: what is under way is cancelled, the rest is skipped, and what was done is undone."""
    state = decision.state
    if state.status not in ALIVE:
        return
    give_up(decision, list(state.steps))
    rest = tuple(step_id for step_id in decision.graph.order if step_id not in state.steps)
    if rest:
        decision.say(StepsSkipped, step_ids=rest, reason="execution_ended")
    if not state.undoable:
        decision.say(event, **fields)
        return
    nodes = decision.graph.nodes
    undo = tuple(str(nodes[step_id].compensation) for step_id in reversed(state.undoable))
    decision.say(CompensationStarted, outcome=_OUTCOMES[event], step_ids=undo, **fields)
    compensate(decision)


def terminate(decision: Decision, by: str, reason: str) -> None:
    """Ends the execution at once; nothing is undone."""
    give_up(decision, list(decision.state.steps))
    rest = tuple(step_id for step_id in decision.graph.order if step_id not in decision.state.steps)
    if rest:
        decision.say(StepsSkipped, step_ids=rest, reason="execution_ended")
    decision.say(ExecutionCancelled, by=by, reason=reason)


def compensate(decision: Decision) -> None:
    """Begins the next step that undoes something once the one before is settled; after the last, the execution ends."""
    state = decision.state
    assert state.outcome is not None
    for step_id in state.outcome.undo:
        if step_id not in state.steps:
            decision.begin(step_id)
        if state.steps[step_id].status not in SETTLED:
            return
    _say_outcome(decision, state)


def _say_outcome(decision: Decision, state: Execution) -> None:
    outcome = state.outcome
    assert outcome is not None
    left = [step_id for step_id in outcome.undo if state.steps[step_id].status is not StepStatus.COMPLETED]
    what_is_left = f"; not undone, because these steps failed: {', '.join(left)}" if left else ""
    if outcome.kind == "cancelled":
        decision.say(ExecutionCancelled, by=outcome.by, reason=outcome.reason + what_is_left)
        return
    error = ErrorInfo.model_validate(outcome.error)
    error = error.model_copy(update={"message": error.message + what_is_left})
    if outcome.kind == "failed":
        decision.say(ExecutionFailed, step_id=outcome.step_id, error=error)
    else:
        decision.say(ExecutionTimedOut, error=error)
