"""What will wake an execution: every open one has a wake source or a named blocker at every moment."""

from collections.abc import Iterator
from dataclasses import dataclass

from handrail_graph import turn_of

from handrail_scheduler.state import Execution, Status, Step, StepStatus

_SOURCES = {
    "agent": "the answer of its agent",
    "approval": "the decision on its gate",
    "workflow": "the end of its sub-workflow",
    "signal": "a signal",
    "suggestion": "the decision on its suggestion",
    "budget": "its budgets",
    "person": "the word of the person who has it",
    "raise": "somebody who raises its budget",
}


@dataclass(frozen=True, slots=True)
class Wake:
    """`at` is when a timer will wake the step (seconds since the epoch); `blocked` if only a person can."""

    step_id: str
    source: str
    at: float | None = None
    blocked: bool = False


def wakes(state: Execution) -> Iterator[Wake]:
    """One for each step that waits for something outside the execution."""
    if state.status is Status.PAUSED:
        yield Wake("", "somebody who resumes it", blocked=True)
    if state.status is Status.QUEUED:
        yield Wake("", "a place in its queue")
    for step_id, step in state.steps.items():
        wake = _wake(step_id, step)
        if wake is not None:
            yield wake


def _wake(step_id: str, step: Step) -> Wake | None:
    if step.status is StepStatus.BLOCKED:
        return Wake(step_id, "somebody who retries or skips the failed step", blocked=True)
    if step.status is StepStatus.RETRYING and step.wake_at is not None:
        return Wake(step_id, "its next attempt", step.wake_at)
    if step.status is not StepStatus.RUNNING:
        return None
    if step.waits_for == "timer" and step.wake_at is not None:
        return Wake(step_id, "its timer", step.wake_at)
    source = _SOURCES.get(step.waits_for or "")
    return None if source is None else Wake(step_id, source, step.deadline)


def stuck(state: Execution) -> str | None:
    """Why nothing will ever wake the execution, or one of its steps; None if all is well."""
    if state.status in (Status.NEW, Status.ENDED):
        return None
    found = {wake.step_id for wake in wakes(state)}
    if not found:
        return "it is open, and nothing will wake it"
    if state.status is Status.PAUSED:
        return None
    for step_id, step in state.steps.items():
        waits = step.status is StepStatus.RUNNING or step.status is StepStatus.RETRYING
        if waits and step_id not in found and not _has_open_turn(state, step_id):
            return f"step {step_id} is {step.status}, and nothing will wake it"
    return None


def _has_open_turn(state: Execution, loop_id: str) -> bool:
    """Whether a step of one of the loop's turns is under way, which will wake the loop."""
    return loop_id in state.turns and any(
        step.status in (StepStatus.RUNNING, StepStatus.RETRYING, StepStatus.BLOCKED) and _is_inside(step_id, loop_id)
        for step_id, step in state.steps.items()
    )


def _is_inside(step_id: str, loop_id: str) -> bool:
    place = turn_of(step_id)
    return place is not None and (place[0] == loop_id or _is_inside(place[0], loop_id))
