"""How events change an execution. Nothing else does.

A released branch is never edited: recorded journals fold to the same state in every later release.
"""

from datetime import datetime
from typing import assert_never

from handrail_contracts.envelope import utc
from handrail_contracts.execution_events import (
    AnyExecutionEvent,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionPaused,
    ExecutionRejected,
    ExecutionResumed,
    ExecutionStarted,
    ExecutionTimedOut,
    SignalReceived,
    StatusChanged,
    StepCompleted,
    StepFailed,
    StepRetryScheduled,
    StepsCancelled,
    StepsSkipped,
    StepStarted,
)
from handrail_contracts.journal import Record
from handrail_graph import Graph, LoopParameters, StepType, instance, turn_of

from handrail_scheduler.state import Execution, Status, Step, StepStatus

__all__ = ["evolve", "seconds", "utc"]

IDLE = ("approval", "timer", "signal", "loop")


def seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def evolve(graph: Graph | None, state: Execution, event: AnyExecutionEvent, record: Record) -> None:
    """Folds one event into the state, in place. `graph` is that of the pinned version."""
    state.n = event.n
    match event:
        case ExecutionStarted():
            _started(state, event, record)
        case StepStarted():
            _step_started(state, event, record)
        case StepCompleted():
            assert graph is not None
            _step_completed(graph, state, event)
        case StepRetryScheduled():
            _stop_work(state, event.step_id, StepStatus.RETRYING)
            state.steps[event.step_id].wake_at = seconds(event.retry_at)
            state.working += 1
        case StepFailed():
            _stop_work(state, event.step_id, StepStatus.FAILED)
        case StepsSkipped():
            _skipped(graph, state, event)
        case StepsCancelled():
            for step_id in event.step_ids:
                _stop_work(state, step_id, StepStatus.CANCELLED)
        case StatusChanged():
            state.status = Status(event.status)
        case ExecutionPaused():
            state.status = Status.PAUSED
        case ExecutionResumed():
            state.status = Status.RUNNING
        case SignalReceived():
            state.signals.append((event.signal, event.data))
        case (
            ExecutionCompleted() | ExecutionFailed() | ExecutionCancelled() | ExecutionTimedOut() | ExecutionRejected()
        ):
            state.status = Status.ENDED
        case _:
            assert_never(event)


def _started(state: Execution, event: ExecutionStarted, record: Record) -> None:
    state.workflow_id, state.version = record.workflow_id, event.workflow_version
    state.user_id, state.organization_id, state.project_id = event.user_id, event.organization_id, event.project_id
    state.session_id, state.trigger = event.session_id, event.trigger
    state.input, state.context = event.input, event.context
    state.status, state.started_at = Status.RUNNING, record.at.timestamp()
    state.deadline = seconds(event.deadline)


def _step_started(state: Execution, event: StepStarted, record: Record) -> None:
    known = state.steps.get(event.step_id)
    if known is not None and known.status is StepStatus.RETRYING:
        state.working -= 1
    state.steps[event.step_id] = Step(
        status=StepStatus.RUNNING,
        attempt=event.attempt,
        waits_for=event.waits_for,
        started_at=record.at.timestamp(),
        input=event.input,
        deadline=seconds(event.deadline),
        wake_at=seconds(event.wake_at),
    )
    if event.waits_for == "loop":
        state.turns[event.step_id] = [0, 0]
    _note_begun(state, event.step_id)
    if event.waits_for in IDLE:
        state.idle += 1
    else:
        state.working += 1


def _stop_work(state: Execution, step_id: str, status: StepStatus) -> Step:
    step = state.steps[step_id]
    if step.status is StepStatus.RETRYING or step.waits_for not in IDLE:
        state.working -= 1
    else:
        state.idle -= 1
    step.status, step.input, step.deadline, step.wake_at = status, None, None, None
    return step


def _step_completed(graph: Graph, state: Execution, event: StepCompleted) -> None:
    step = state.steps[event.step_id]
    if step.waits_for == "signal":
        _take_signal(state, step.input)
    state.turns.pop(event.step_id, None)
    _stop_work(state, event.step_id, StepStatus.COMPLETED).output = event.output
    node = graph.nodes[event.step_id]
    if node.type is StepType.CONDITION:
        holds = event.output["result"]
        _resolve(graph, state, node.next if holds else node.otherwise, taken=True)
        _resolve(graph, state, node.otherwise if holds else node.next, taken=False)
    elif node.type is StepType.SWITCH:
        chosen = event.output["taken"]
        for index, targets in enumerate(node.cases):
            _resolve(graph, state, targets, taken=index in chosen)
        _resolve(graph, state, node.otherwise, taken=not chosen)
        _resolve(graph, state, node.next, taken=True)
    else:
        _resolve(graph, state, node.next, taken=True)
    _note_settled(graph, state, event.step_id)


def _note_begun(state: Execution, step_id: str) -> None:
    place = turn_of(step_id)
    if place is not None:
        turns = state.turns[place[0]]
        turns[0] = max(turns[0], place[1] + 1)


def _note_settled(graph: Graph, state: Execution, step_id: str) -> None:
    """A turn is done when each step of its body is."""
    place = turn_of(step_id)
    if place is not None and is_turn_done(graph, state, *place):
        state.turns[place[0]][1] += 1


def is_turn_done(graph: Graph, state: Execution, loop_id: str, turn: int) -> bool:
    parameters = graph.nodes[loop_id].parameters
    assert isinstance(parameters, LoopParameters)
    for name in parameters.body.nodes:
        step = state.steps.get(instance(loop_id, turn, name))
        if step is None or step.status not in (StepStatus.COMPLETED, StepStatus.SKIPPED):
            return False
    return True


def _take_signal(state: Execution, name: str) -> None:
    """The oldest of that name; none if the step went on without one."""
    for index, (signal, _) in enumerate(state.signals):
        if signal == name:
            del state.signals[index]
            return


def _skipped(graph: Graph | None, state: Execution, event: StepsSkipped) -> None:
    for step_id in event.step_ids:
        state.steps[step_id] = Step(status=StepStatus.SKIPPED)
    if event.reason == "branch_not_taken":
        assert graph is not None
        for step_id in event.step_ids:
            _resolve(graph, state, graph.nodes[step_id].targets, taken=False)
            _note_begun(state, step_id)
            _note_settled(graph, state, step_id)


def _resolve(graph: Graph, state: Execution, targets: tuple[str, ...], *, taken: bool) -> None:
    """An edge is taken or dead; a step that all edges have reached leaves `unresolved` at zero."""
    for target in targets:
        state.unresolved[target] = state.unresolved.get(target, graph.incoming[target]) - 1
        if taken:
            state.reached.add(target)
            if graph.nodes[target].join is not None:
                state.taken[target] = state.taken.get(target, 0) + 1
