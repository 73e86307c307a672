"""How events change an execution. Nothing else does.

A released branch is never edited: recorded journals fold to the same state in every later release.
"""

from datetime import datetime
from typing import assert_never

from handrail_contracts.envelope import utc
from handrail_contracts.execution_events import (
    ActionExecuted,
    AnyExecutionEvent,
    BudgetAwaited,
    BudgetGranted,
    CompensationStarted,
    ExecutionAdmitted,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionPaused,
    ExecutionRejected,
    ExecutionResumed,
    ExecutionStarted,
    ExecutionTimedOut,
    ModelsCalled,
    SignalReceived,
    StatusChanged,
    StepAdvanced,
    StepAnnotated,
    StepCompleted,
    StepFailed,
    StepOverdue,
    StepRetryScheduled,
    StepsCancelled,
    StepsRestored,
    StepsSkipped,
    StepStarted,
    StepSteered,
    SuggestionApproved,
    SuggestionMade,
    SuggestionRefused,
    SuggestionSentBack,
    TasksPlanned,
    VersionChanged,
)
from handrail_contracts.journal import Record
from handrail_graph import Graph, LoopParameters, Node, ParallelParameters, StepType, instance, turn_of

from handrail_scheduler import allowances, suggesting, tasks
from handrail_scheduler.state import IDLE, SETTLED, Execution, Outcome, Status, Step, StepStatus, Turns

__all__ = ["evolve", "seconds", "utc"]

REQUESTS_KEPT = 100


def seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def evolve(graph: Graph | None, state: Execution, event: AnyExecutionEvent, record: Record) -> None:
    """Folds one event into the state, in place. `graph` is that of the pinned version."""
    state.n = event.n
    if state.returned:
        state.returned = []
    if state.allowances:
        allowances.before(state, event, record)
    match event:
        case ExecutionStarted():
            _started(state, event, record)
        case StepStarted():
            _step_started(state, event, record)
        case StepCompleted():
            assert graph is not None
            _step_completed(graph, state, event)
        case StepRetryScheduled():
            _note_chosen(state, event.agent)
            state.stop_work(event.step_id, StepStatus.RETRYING)
            state.steps[event.step_id].wake_at = seconds(event.retry_at)
            state.working += 1
        case StepFailed():
            _step_failed(graph, state, event)
        case StepsSkipped():
            _skipped(graph, state, event)
        case StepsCancelled():
            for step_id in event.step_ids:
                state.stop_work(step_id, StepStatus.CANCELLED)
                state.turns.pop(step_id, None)
                state.conversations.pop(step_id, None)
                if step_id in state.suggestions:
                    suggesting.withdraw(state, step_id)
        case ModelsCalled():
            pass
        case StepAdvanced():
            suggesting.advanced(state.conversations.setdefault(event.step_id, []), event)
        case StatusChanged():
            state.status = Status(event.status)
        case ExecutionPaused():
            state.status = Status.PAUSED
        case ExecutionResumed():
            state.status = Status.RUNNING
        case BudgetGranted():
            allowances.granted(state, event, record)
        case BudgetAwaited():
            allowances.awaits(state, event)
        case SuggestionMade():
            suggesting.suggested(state, event)
        case SuggestionSentBack():
            suggesting.sent_back(state, event)
        case SuggestionApproved():
            suggesting.approved(state, event)
        case SuggestionRefused():
            suggesting.refused(state, event)
        case ActionExecuted():
            pass
        case SignalReceived():
            state.signals.append((event.signal, event.data))
            _note_request(state, event.request_id)
        case ExecutionAdmitted():
            del state.queues[0]
            _ask_next(state)
        case TasksPlanned():
            tasks.planned(state, event)
        case StepAnnotated():
            tasks.annotated(state, event)
            _note_request(state, event.request_id)
        case StepOverdue():
            del state.due[event.step_id]
        case StepsRestored():
            assert graph is not None
            _restored(graph, state, event)
        case StepSteered():
            assert graph is not None
            _steered(graph, state, event)
        case VersionChanged():
            _note_request(state, event.request_id)
            state.version = event.workflow_version
        case CompensationStarted():
            error = None if event.error is None else event.error.model_dump()
            state.outcome = Outcome(event.outcome, list(event.step_ids), event.step_id, error, event.by, event.reason)
            state.status, state.deadline = Status.COMPENSATING, None
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
    state.parent = None if event.parent is None else event.parent.model_dump()
    state.stubs = event.stubs
    if event.admissions:
        state.queues = [admission.model_dump() for admission in event.admissions]
        _ask_next(state)


def _ask_next(state: Execution) -> None:
    if state.queues:
        state.status = Status.QUEUED
        state.places[state.queues[0]["queue_id"]] = state.queues[0]["while_working"]
    else:
        state.status = Status.RUNNING


def _note_request(state: Execution, request_id: str) -> None:
    if request_id:
        state.requests.append(request_id)
        del state.requests[:-REQUESTS_KEPT]


def _note_chosen(state: Execution, agent: str | None) -> None:
    if agent is not None and agent not in state.chosen:
        state.chosen.append(agent)


def _step_started(state: Execution, event: StepStarted, record: Record) -> None:
    known = state.steps.get(event.step_id)
    if known is not None:
        state.stop_work(event.step_id, known.status)
        if event.waits_for == "loop":
            _forget_turns(state, event.step_id)
    if state.suggestions.get(event.step_id, {}).get("phase") == "withdrawn":
        del state.suggestions[event.step_id]
    state.steps[event.step_id] = Step(
        status=StepStatus.RUNNING,
        attempt=event.attempt,
        waits_for=event.waits_for,
        started_at=record.at.timestamp(),
        input=event.input,
        deadline=seconds(event.deadline),
        wake_at=seconds(event.wake_at),
    )
    if event.budgets:
        allowances.asks(state, event)
    if event.waits_for == "loop":
        state.turns[event.step_id] = Turns()
    _note_begun(state, event.step_id)
    if event.waits_for in IDLE:
        state.idle += 1
    else:
        state.working += 1


def _step_completed(graph: Graph, state: Execution, event: StepCompleted) -> None:
    _note_chosen(state, event.agent)
    step = state.steps[event.step_id]
    if step.waits_for == "signal":
        _take_signal(state, step.input)
    state.turns.pop(event.step_id, None)
    state.conversations.pop(event.step_id, None)
    if state.suggestions:
        suggesting.done_suggesting(state, event.step_id)
    state.stop_work(event.step_id, StepStatus.COMPLETED).output = event.output
    node = graph.nodes[event.step_id]
    _resolve_settled(graph, state, node, step)
    if node.compensation is not None:
        state.undoable.append(event.step_id)
    _note_settled(graph, state, event.step_id)


def _resolve_settled(graph: Graph, state: Execution, node: Node, step: Step) -> None:
    """What the end of a step means for the edges that leave it."""
    if step.status is StepStatus.SKIPPED:
        _resolve(graph, state, node.targets, taken=False)
        return
    then = "continue" if step.status is StepStatus.COMPLETED else state.failures.get(node.id)
    if then == "continue":
        _resolve_next(graph, state, node, step)
        _resolve(graph, state, node.catch, taken=False)
    elif then in ("catch", "branch"):
        _resolve(graph, state, node.targets[: len(node.targets) - len(node.catch)], taken=False)
        _resolve(graph, state, node.catch, taken=then == "catch")


def _resolve_next(graph: Graph, state: Execution, node: Node, step: Step) -> None:
    """A condition or switch that failed and goes on takes the else branch."""
    done = step.status is StepStatus.COMPLETED
    if node.type is StepType.CONDITION:
        holds = done and step.output["result"]
        _resolve(graph, state, node.next if holds else node.otherwise, taken=True)
        _resolve(graph, state, node.otherwise if holds else node.next, taken=False)
        return
    _resolve(graph, state, node.next, taken=True)
    if node.type is StepType.SWITCH:
        chosen = step.output["taken"] if done else ()
        for index, targets in enumerate(node.cases):
            _resolve(graph, state, targets, taken=index in chosen)
        _resolve(graph, state, node.otherwise, taken=not chosen)


def _step_failed(graph: Graph | None, state: Execution, event: StepFailed) -> None:
    assert graph is not None
    _note_chosen(state, event.agent)
    status = StepStatus.BLOCKED if event.then == "wait" else StepStatus.FAILED
    state.turns.pop(event.step_id, None)
    step = state.stop_work(event.step_id, status)
    state.failures[event.step_id] = event.then
    own = state.suggestions.get(event.step_id)
    if own is not None and (status is StepStatus.FAILED or own["phase"] in ("waits", "revises")):
        suggesting.withdraw(state, event.step_id)
    if status is StepStatus.BLOCKED:
        state.idle += 1
        return
    state.conversations.pop(event.step_id, None)
    node = graph.nodes[event.step_id]
    error = event.error.model_dump()
    if event.then in ("continue", "catch"):
        step.output = {"error": {"code": event.error.code, "message": event.error.message}}
    elif event.then == "branch" and node.branch is not None:
        parameters = graph.nodes[node.branch].parameters
        if isinstance(parameters, ParallelParameters) and parameters.error_policy == "wait_all":
            state.failing.setdefault(node.branch, (event.step_id, error))
    if event.then != "end":
        _resolve_settled(graph, state, node, step)
        _note_settled(graph, state, event.step_id)


def _restored(graph: Graph, state: Execution, event: StepsRestored) -> None:
    for step_id, output in event.outputs.items():
        state.steps[step_id] = Step(status=StepStatus.COMPLETED, output=output)
        if graph.nodes[step_id].compensation is not None:
            state.undoable.append(step_id)
    for step_id in event.skipped:
        state.steps[step_id] = Step(status=StepStatus.SKIPPED)
    count_edges(graph, state)


def _steered(graph: Graph, state: Execution, event: StepSteered) -> None:
    _note_request(state, event.request_id)
    if event.action == "retry":
        suggesting.settle_calls(state.conversations.get(event.step_id), event)
    if event.action == "reassign":
        tasks.reassigned(state, event)
    if event.action != "rewind":
        return
    for step_id in event.step_ids:
        attempt = state.steps.pop(step_id).attempt
        if attempt and turn_of(step_id) is None:
            state.attempts[step_id] = attempt
        state.forgiven.pop(step_id, None)
        state.turns.pop(step_id, None)
        state.conversations.pop(step_id, None)
        state.suggestions.pop(step_id, None)
        state.failing.pop(step_id, None)
        state.failures.pop(step_id, None)
    gone = set(event.step_ids)
    state.failing = {parallel: said for parallel, said in state.failing.items() if said[0] not in gone}
    state.undoable = [step_id for step_id in state.undoable if step_id not in gone]
    count_edges(graph, state)


def count_edges(graph: Graph, state: Execution) -> None:
    """Counts the edges anew, after steps have come from elsewhere or are as if they had never begun."""
    state.unresolved, state.reached, state.taken = {}, set(), {}
    for step_id, step in state.steps.items():
        if step.status in SETTLED:
            _resolve_settled(graph, state, graph.nodes[step_id], step)


def _note_begun(state: Execution, step_id: str) -> None:
    place = turn_of(step_id)
    if place is not None and (turns := state.turns.get(place[0])) is not None:
        turns.begun = max(turns.begun, place[1] + 1)


def _note_settled(graph: Graph, state: Execution, step_id: str) -> None:
    """A turn is done when each step of its body is."""
    place = turn_of(step_id)
    if place is not None and place[0] in state.turns and _is_turn_done(graph, state, *place):
        _turn_done(graph, state, *place)


def _is_turn_done(graph: Graph, state: Execution, loop_id: str, turn: int) -> bool:
    parameters = graph.nodes[loop_id].parameters
    assert isinstance(parameters, LoopParameters)
    for name in parameters.body.order:
        step = state.steps.get(instance(loop_id, turn, name))
        if step is None or step.status not in SETTLED:
            return False
    return True


def _turn_done(graph: Graph, state: Execution, loop_id: str, turn: int) -> None:
    """What the turn gave is the output of its last step; of several last steps that ran, their outputs by id."""
    parameters = graph.nodes[loop_id].parameters
    assert isinstance(parameters, LoopParameters)
    body, turns = parameters.body, state.turns[loop_id]
    last = {name: state.steps[instance(loop_id, turn, name)] for name in body.sinks}
    outputs = {
        name: step.output for name, step in last.items() if step.status in (StepStatus.COMPLETED, StepStatus.FAILED)
    }
    if parameters.until is not None:
        turns.outputs.clear()
    turns.outputs[str(turn)] = next(iter(outputs.values())) if len(outputs) == 1 else outputs or None
    turns.done += 1
    if not any(body.nodes[name].compensation for name in body.order):
        _forget_turn(body, state, f"{loop_id}[{turn}].")


def _forget_turns(state: Execution, loop_id: str) -> None:
    """The loop begins again: its turns are as if they had never been."""
    inside = f"{loop_id}["
    for step_id in [step_id for step_id in {*state.steps, *state.unresolved} if step_id.startswith(inside)]:
        _forget(state, step_id)
    state.undoable = [step_id for step_id in state.undoable if not step_id.startswith(inside)]


def _forget(state: Execution, step_id: str) -> None:
    state.steps.pop(step_id, None)
    state.turns.pop(step_id, None)
    state.forgiven.pop(step_id, None)
    state.failures.pop(step_id, None)
    state.assigned.pop(step_id, None)
    state.due.pop(step_id, None)
    state.unresolved.pop(step_id, None)
    state.taken.pop(step_id, None)
    state.reached.discard(step_id)


def _forget_turn(body: Graph, state: Execution, prefix: str) -> None:
    for name in body.order:
        _forget(state, prefix + name)


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
            _resolve_settled(graph, state, graph.nodes[step_id], state.steps[step_id])
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
