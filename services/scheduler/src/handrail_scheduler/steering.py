"""What people and programs ask of a running execution. An impossible wish changes nothing."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from handrail_contracts.control import ExecutionControlled
from handrail_contracts.envelope import ErrorInfo
from handrail_contracts.execution_events import (
    ExecutionCancelled,
    ExecutionPaused,
    ExecutionResumed,
    SignalReceived,
    StepSteered,
    VersionChanged,
)
from handrail_graph import CHOOSING, EDITABLE, Graph, StepType, unplaced, upstream

from handrail_scheduler.advance import advance, enter, within
from handrail_scheduler.decide import answer
from handrail_scheduler.decision import ALIVE, MOVING, Decision
from handrail_scheduler.ending import end, fail, give_up, terminate
from handrail_scheduler.state import UNDER_WAY, Execution, Status, StepStatus
from handrail_scheduler.suggestions import gate_of, owed
from handrail_scheduler.tasks import annotate, answer_of, may_answer

SIGNALS_KEPT = 1000
"""Signals that nobody waits for yet; more are refused, so that nobody fills the state with them."""
Edit = Callable[[Decision, str, Any, Any], None]


def controlled(decision: Decision, message: ExecutionControlled, edit: Edit) -> None:
    """Once: a wish that comes again with the same id changes nothing. For `migrate` there is a function of its own."""
    if message.event_id not in decision.state.requests:
        _ACTIONS[message.action](decision, message, edit)


def _cancel(decision: Decision, message: ExecutionControlled, edit: Edit) -> None:
    end(decision, ExecutionCancelled, by=message.user_id, reason=message.reason)


def _terminate(decision: Decision, message: ExecutionControlled, edit: Edit) -> None:
    if decision.state.status in (*ALIVE, Status.COMPENSATING):
        terminate(decision, message.user_id, message.reason)


def _pause(decision: Decision, message: ExecutionControlled, edit: Edit) -> None:
    if decision.state.status in MOVING:
        decision.say(ExecutionPaused, by=message.user_id, reason=message.reason)


def _resume(decision: Decision, message: ExecutionControlled, edit: Edit) -> None:
    if decision.state.status is Status.PAUSED:
        decision.say(ExecutionResumed, by=message.user_id, reason=message.reason)
        _go_on(decision)


def _go_on(decision: Decision) -> None:
    """After a pause: retries that came due, and all that the steps settled in the meantime lead to."""
    steps = decision.state.steps
    due = [
        step_id
        for step_id, step in steps.items()
        if step.status is StepStatus.RETRYING and step.wake_at is not None and step.wake_at <= decision.now
    ]
    for step_id in (*due, *owed(decision.state)):
        if decision.state.status in MOVING:
            decision.begin(step_id)
    advance(decision, tuple(steps))


def _signal(decision: Decision, message: ExecutionControlled, edit: Edit) -> None:
    """For the first step that waits for it; else it is kept."""
    state = decision.state
    if state.status not in ALIVE or len(state.signals) >= SIGNALS_KEPT:
        return
    decision.say(
        SignalReceived, signal=message.signal, data=message.data, by=message.user_id, request_id=message.event_id
    )
    for step_id, step in state.steps.items():
        if step.status is StepStatus.RUNNING and step.waits_for == "signal" and step.input == message.signal:
            decision.complete(step_id, next(data for name, data in state.signals if name == message.signal))
            advance(decision, (step_id,))
            return


def _steer(decision: Decision, message: ExecutionControlled, step_ids: tuple[str, ...] = ()) -> None:
    decision.say(
        StepSteered,
        action=message.action,
        step_id=message.step_id,
        step_ids=step_ids,
        request_id=message.event_id,
        by=message.user_id,
        reason=message.reason,
        data=message.data if message.action == "retry" else None,
        agent=message.agent,
        assignee=message.assignee,
    )


def _retry(decision: Decision, message: ExecutionControlled, edit: Edit) -> None:
    """Another attempt now, of a step that waits for its next one or for a person."""
    step = decision.state.steps.get(message.step_id)
    if decision.state.status not in MOVING or step is None or step.status not in (
        StepStatus.RETRYING, StepStatus.BLOCKED,
    ):  # fmt: skip
        return
    _steer(decision, message)
    decision.begin(message.step_id)
    advance(decision, (message.step_id,))


def _skip(decision: Decision, message: ExecutionControlled, edit: Edit) -> None:
    """The step counts as done, with the output that the person gives."""
    step = decision.state.steps.get(message.step_id)
    if decision.state.status not in ALIVE or step is None or step.status not in UNDER_WAY:
        return
    if decision.graph.nodes[message.step_id].type in CHOOSING:
        return
    give_up(decision, within(decision.state, message.step_id))
    _steer(decision, message)
    decision.complete(message.step_id, message.data)
    advance(decision, (message.step_id,))


def _complete(decision: Decision, message: ExecutionControlled, edit: Edit) -> None:
    """Of the agent itself, its answer; else a person does it in the agent's place, and what that still answers is ignored."""
    if not message.agent:
        _skip(decision, message, edit)
    elif may_answer(decision, message):
        _steer(decision, message)
        answer(decision, answer_of(decision, message, status="completed", output=message.data))


def _fail(decision: Decision, message: ExecutionControlled, edit: Edit) -> None:
    """Of the agent itself, a failed attempt, after which there may be another; of a person, the end of the step."""
    why = message.reason or "no reason was given"
    if message.agent:
        if may_answer(decision, message):
            _steer(decision, message)
            error = ErrorInfo(code="AGENT_ERROR", message=why, retryable=True)
            answer(decision, answer_of(decision, message, status="failed", error=error))
        return
    step = decision.state.steps.get(message.step_id)
    if decision.state.status not in ALIVE or step is None or step.status not in UNDER_WAY:
        return
    give_up(decision, within(decision.state, message.step_id))
    _steer(decision, message)
    error = ErrorInfo(code="FAILED_BY_PERSON", message=f"{message.user_id or 'somebody'} says that it failed: {why}")
    fail(decision, message.step_id, error, waits=False)
    advance(decision, (message.step_id,))


def _reassign(decision: Decision, message: ExecutionControlled, edit: Edit) -> None:
    """To another agent, or to a person. One that is under way begins again there, with the input that it had."""
    state, step = decision.state, decision.state.steps.get(message.step_id)
    if step is None:
        if state.status in ALIVE and _is_agents(decision, message.step_id):
            _steer(decision, message)
        return
    if state.status not in MOVING or step.status not in UNDER_WAY or not _is_agents(decision, message.step_id):
        return
    before = step.input
    give_up(decision, [message.step_id])
    _steer(decision, message)
    if before is None:
        decision.begin(message.step_id)
    else:
        edit(decision, message.step_id, None, before)
    advance(decision, (message.step_id,))


def _is_agents(decision: Decision, step_id: str) -> bool:
    known = step_id in decision.state.steps or step_id in decision.graph.order
    return known and decision.graph.nodes[step_id].type is StepType.AGENT_EXECUTION


def _annotate(decision: Decision, message: ExecutionControlled, edit: Edit) -> None:
    annotate(decision, message)


def _edit(decision: Decision, message: ExecutionControlled, edit: Edit) -> None:
    """The step begins again with another input; what its earlier attempt still answers is ignored."""
    step = decision.state.steps.get(message.step_id)
    if decision.state.status not in MOVING or step is None or step.status not in UNDER_WAY:
        return
    if decision.graph.nodes[message.step_id].type not in EDITABLE:
        return
    before = step.input
    give_up(decision, [message.step_id])
    _steer(decision, message)
    edit(decision, message.step_id, before, message.data)
    advance(decision, (message.step_id,))


def _rewind(decision: Decision, message: ExecutionControlled, edit: Edit) -> None:
    """The step begins again, and all that came after it is as if it had never begun; what it did is not undone."""
    state, step = decision.state, decision.state.steps.get(message.step_id)
    if state.status not in MOVING or step is None or step.status is StepStatus.SKIPPED or "]" in message.step_id:
        return
    gone = tuple(_from(decision.graph, state, message.step_id))
    give_up(decision, list(gone))
    _steer(decision, message, gone)
    decision.begin(message.step_id)
    enter(decision)
    advance(decision, tuple(state.steps))


def _from(graph: Graph, state: Execution, step_id: str) -> list[str]:
    """The step and all that it leads to, as far as it has begun or was settled; of loops their turns, too.

    What a join behind the step has made needless is needed again, unless it lies before the step.
    """
    found, queue, before = {step_id: None}, [step_id], upstream(graph, step_id)
    while queue:
        node = graph.nodes[queue.pop()]
        released = node.id != step_id and node.id in state.steps
        needless = [rest for rest in node.rest if _was_needless(state, rest)] if released else []
        for other in (*node.targets, *needless):
            if other not in found and other not in before:
                found[other] = None
                queue.append(other)
    return [other for other in state.steps if other.partition("[")[0] in found]


def _was_needless(state: Execution, step_id: str) -> bool:
    step = state.steps.get(step_id)
    return step is not None and step.status in (StepStatus.CANCELLED, StepStatus.SKIPPED)


def migrate(decision: Decision, message: ExecutionControlled, new: Graph) -> None:
    """Goes on with another version, if each step that has begun has its place there."""
    state = decision.state
    if state.status not in MOVING or message.event_id in state.requests or message.version == state.version:
        return
    begun = {step_id: decision.graph.nodes[step_id].type for step_id in state.steps}
    if any(unplaced(begun, new)) or any(_asked_otherwise(decision, new)):
        return
    decision.say(
        VersionChanged,
        workflow_version=message.version,
        request_id=message.event_id,
        by=message.user_id,
        reason=message.reason,
    )
    decision.graph = new
    enter(decision)
    advance(decision, tuple(state.steps))


def _asked_otherwise(decision: Decision, new: Graph) -> Iterator[str]:
    """Steps whose suggestion people were asked about under other rules: what they approve is what they were told."""
    for step_id, own in decision.state.suggestions.items():
        if own["phase"] != "withdrawn" and gate_of(new.nodes[step_id]) != gate_of(decision.graph.nodes[step_id]):
            yield step_id


_ACTIONS: Mapping[str, Callable[[Decision, ExecutionControlled, Edit], None]] = {
    "cancel": _cancel,
    "terminate": _terminate,
    "pause": _pause,
    "resume": _resume,
    "signal": _signal,
    "retry": _retry,
    "skip": _skip,
    "edit": _edit,
    "rewind": _rewind,
    "complete": _complete,
    "fail": _fail,
    "reassign": _reassign,
    "annotate": _annotate,
}
