"""How events change an execution. Nothing else does.

A released branch is never edited: recorded journals fold to the same state in every later release.
"""

from datetime import datetime
from typing import Any, assert_never

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
    StepCompleted,
    StepFailed,
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
    VersionChanged,
)
from handrail_contracts.journal import Record
from handrail_contracts.steps import ToolResult, Turn
from handrail_graph import Graph, LoopParameters, Node, ParallelParameters, StepType, instance, turn_of

from handrail_scheduler import allowances
from handrail_scheduler.state import SETTLED, Execution, Outcome, Status, Step, StepStatus, Turns

__all__ = ["evolve", "seconds", "utc"]

IDLE = ("approval", "suggestion", "raise", "timer", "signal", "loop", "workflow")
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
            _stop_work(state, event.step_id, StepStatus.RETRYING)
            state.steps[event.step_id].wake_at = seconds(event.retry_at)
            state.working += 1
        case StepFailed():
            _step_failed(graph, state, event)
        case StepsSkipped():
            _skipped(graph, state, event)
        case StepsCancelled():
            for step_id in event.step_ids:
                _stop_work(state, step_id, StepStatus.CANCELLED)
                state.turns.pop(step_id, None)
                state.conversations.pop(step_id, None)
                if step_id in state.suggestions:
                    state.suggestions[step_id] |= {"phase": "withdrawn", "part": ()}
        case ModelsCalled():
            pass
        case StepAdvanced():
            _advanced(state.conversations.setdefault(event.step_id, []), event)
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
            _suggested(state, event)
        case SuggestionSentBack():
            _sent_back(state, event)
        case SuggestionApproved():
            _approved(state, event)
        case SuggestionRefused():
            _answer_call(state, event.step_id, f"{event.by or 'nobody'} has not allowed this: {event.comment}")
            state.suggestions[event.step_id]["phase"] = "goes_on"
            _wait_for_begin(state, event.step_id)
        case ActionExecuted():
            pass
        case SignalReceived():
            state.signals.append((event.signal, event.data))
            _note_request(state, event.request_id)
        case ExecutionAdmitted():
            del state.queues[0]
            _ask_next(state)
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
        _stop_work(state, event.step_id, known.status)
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


def _done_suggesting(state: Execution, step_id: str) -> None:
    """A call that was sent back, and not wanted any more, waits for nobody."""
    own = state.suggestions.pop(step_id, None)
    if own is not None and own["phase"] == "revises":
        state.suggestions[step_id] = {**own, "phase": "withdrawn", "part": ()}


def _count_anew(state: Execution, step_id: str) -> None:
    """What is tried next has attempts of its own."""
    state.forgiven[step_id] = state.steps[step_id].attempt - state.attempts.get(step_id, 0)


def _suggested(state: Execution, event: SuggestionMade) -> None:
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
    _count_anew(state, event.step_id)
    _wait_for_begin(state, event.step_id)
    if not event.call_id:
        state.conversations.pop(event.step_id, None)


def _approved(state: Execution, event: SuggestionApproved) -> None:
    """An action gets a run of its own; a call is made by the run that wanted it."""
    own = state.suggestions[event.step_id]
    if own["before"] and own["before"]["revision"] == event.revision:
        own |= own["before"]
    own |= {"data": event.data, "by": event.by, "comment": event.comment}
    _count_anew(state, event.step_id)
    turns = state.conversations.get(event.step_id)
    if not own["call_id"]:
        state.conversations.pop(event.step_id, None)
        own |= {"phase": "acts", "asked": event.action, "input": event.data, "part": ("action", own["id"])}
    elif turns:
        own["phase"] = "goes_on"
        if (number := _asked_in(turns, own["call_id"])) is not None:
            turns[number] = Turn.model_validate(turns[number]).grant(own["call_id"], event.data).model_dump()
    else:
        own |= {"phase": "goes_on", "input": event.data}
    _wait_for_begin(state, event.step_id)


def _wait_for_begin(state: Execution, step_id: str) -> None:
    """What the agent still does was overtaken by the decision: nobody waits for it, also while the execution is paused."""
    if state.steps[step_id].waits_for != "suggestion":
        _stop_work(state, step_id, StepStatus.RUNNING).waits_for = "suggestion"
        state.idle += 1


def _answer_call(state: Execution, step_id: str, error: str) -> None:
    """What a model hears in place of a result, and of what it has heard before."""
    own, turns = state.suggestions[step_id], state.conversations.get(step_id)
    _count_anew(state, step_id)
    if turns and (number := _asked_in(turns, own["call_id"])) is not None:
        turns[number] = Turn.model_validate(turns[number]).without_result(own["call_id"]).model_dump()
        _give(turns, number, ToolResult(call_id=own["call_id"], error=error))


def _asked_in(turns: list[dict[str, Any]], call_id: str) -> int | None:
    """The turn that wants the call: a model that was sent back may have said more by now."""
    numbers = reversed(range(len(turns)))
    return next((at for at in numbers if any(call["call_id"] == call_id for call in turns[at]["asked"])), None)


def _sent_back(state: Execution, event: SuggestionSentBack) -> None:
    own = state.suggestions[event.step_id]
    own["comments"] = [*own["comments"], {"author": event.by, "text": event.comment}]
    if own["call_id"]:
        own["phase"] = "revises"
        _answer_call(state, event.step_id, f"not done yet, {event.by or 'a person'} says: {event.comment}")
        return
    told = {"input": own["original"], "suggestion": own["said"], "comments": own["comments"]}
    own |= {
        "phase": "revises",
        "asked": own["agent"],
        "input": told,
        "part": ("revision", own["id"], event.revision + 1),
    }


def _stop_work(state: Execution, step_id: str, status: StepStatus) -> Step:
    """Whatever the step waited for, it waits no more."""
    step = state.steps[step_id]
    if step.status is StepStatus.RETRYING or (step.status is StepStatus.RUNNING and step.waits_for not in IDLE):
        state.working -= 1
    elif step.status in (StepStatus.RUNNING, StepStatus.BLOCKED):
        state.idle -= 1
    step.status, step.input, step.deadline, step.wake_at = status, None, None, None
    return step


def _advanced(turns: list[dict[str, Any]], event: StepAdvanced) -> None:
    if event.said is not None:
        turns.append(Turn(holder=event.holder, said=event.said, asked=event.asked).model_dump())
    elif event.result is not None:
        _give(turns, event.turn, event.result)
    elif event.begun:
        begun = Turn.model_validate(turns[event.turn]).begin(event.begun, event.holder)
        turns[event.turn] = turns[event.turn] if begun is None else begun.model_dump()


def _step_completed(graph: Graph, state: Execution, event: StepCompleted) -> None:
    _note_chosen(state, event.agent)
    step = state.steps[event.step_id]
    if step.waits_for == "signal":
        _take_signal(state, step.input)
    state.turns.pop(event.step_id, None)
    state.conversations.pop(event.step_id, None)
    if state.suggestions:
        _done_suggesting(state, event.step_id)
    _stop_work(state, event.step_id, StepStatus.COMPLETED).output = event.output
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
    step = _stop_work(state, event.step_id, status)
    state.failures[event.step_id] = event.then
    own = state.suggestions.get(event.step_id)
    if own is not None and (status is StepStatus.FAILED or own["phase"] in ("waits", "revises")):
        own |= {"phase": "withdrawn", "part": ()}
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
        _settle_calls(state.conversations.get(event.step_id), event)
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
        state.forgiven.pop(step_id, None)
        state.failing.pop(step_id, None)
        state.failures.pop(step_id, None)
    gone = set(event.step_ids)
    state.failing = {parallel: said for parallel, said in state.failing.items() if said[0] not in gone}
    state.undoable = [step_id for step_id in state.undoable if step_id not in gone]
    count_edges(graph, state)


def _settle_calls(turns: list[dict[str, Any]] | None, event: StepSteered) -> None:
    """A person lets a conversation go on whose last calls have an outcome that nobody knows."""
    if not turns:
        return
    unknown = f"nobody knows whether this took effect; {event.by or 'a person'} has looked and lets you go on"
    why = f"{unknown}: {event.reason}" if event.reason else unknown
    told = {"error": why} if event.data is None else {"content": event.data}
    for call in Turn.model_validate(turns[-1]).open():
        if not call.repeatable and (call.begun or not call.ask):
            _give(turns, -1, ToolResult(call_id=call.call_id, **told))


def _give(turns: list[dict[str, Any]], number: int, result: ToolResult) -> None:
    turn = turns[number]
    turns[number] = {**turn, "results": (*turn["results"], result.model_dump())}


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
    state.forgiven.pop(step_id, None)
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
