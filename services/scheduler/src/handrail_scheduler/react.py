"""What the scheduler says to others when something has happened. Equal input gives equal messages, ids included."""

from collections.abc import Iterable, Iterator
from typing import Any

from handrail_contracts import topics
from handrail_contracts.admission import Admission, AdmissionReleased, AdmissionRequested
from handrail_contracts.approvals import ApprovalRequested, ApprovalWithdrawn, SuggestionCreated
from handrail_contracts.envelope import ErrorInfo, tenant_of, utc
from handrail_contracts.execution_events import (
    AnyExecutionEvent,
    BudgetGranted,
    ExecutionAdmitted,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionRejected,
    ExecutionStarted,
    ExecutionTimedOut,
    StatusChanged,
    StepCompleted,
    StepFailed,
    StepOverdue,
    StepRetryScheduled,
    StepsCancelled,
    StepStarted,
    SuggestionMade,
)
from handrail_contracts.ids import derive
from handrail_contracts.journal import Record
from handrail_contracts.steps import Action, StepRequested, Turn
from handrail_contracts.workflows import ChildEnded, LifecycleMetadata, Parent, WorkflowCompleted, WorkflowStarted
from handrail_graph import AgentParameters, Graph, Node, StepType, SubWorkflowParameters, ToolParameters
from handrail_runtime.machine.core import Kind, Outgoing

from handrail_scheduler import allowances, tasks
from handrail_scheduler.cancelling import cancellation
from handrail_scheduler.identifiers import gate_id, request_id
from handrail_scheduler.state import Execution, Step, StepStatus
from handrail_scheduler.suggestions import gate_of, schema_of

_EVENT_TYPES: dict[type[Any], str] = {
    ExecutionCompleted: "workflow.completed",
    ExecutionFailed: "workflow.failed",
    ExecutionRejected: "workflow.failed",
    ExecutionCancelled: "workflow.cancelled",
    ExecutionTimedOut: "workflow.timeout",
}


def react(
    graph: Graph | None, state: Execution, event: AnyExecutionEvent, record: Record, partition: int
) -> Iterable[Outgoing]:
    match event:
        case StepCompleted():
            return _unsuggested(state, (event.step_id,), record) if state.suggestions else ()
        case SuggestionMade():
            assert graph is not None
            return (_suggestion(graph.nodes[event.step_id], state, event, record),)
        case StepStarted(waits_for="agent" | "approval"):
            assert graph is not None
            return (_request(graph.nodes[event.step_id], state, state.steps[event.step_id], partition),)
        case StepStarted(waits_for="budget"):
            return (allowances.asked(state, event.step_id, record),)
        case BudgetGranted():
            assert graph is not None
            if state.steps[event.step_id].waits_for == "budget":
                return (allowances.asked(state, event.step_id, record),)
            return (_request(graph.nodes[event.step_id], state, state.steps[event.step_id], partition),)
        case StepStarted(waits_for="workflow"):
            assert graph is not None
            return (_child(graph.nodes[event.step_id], state, event),)
        case StepsCancelled():
            assert graph is not None
            return [*_withdrawals(graph, state, event.step_ids, record), *_unsuggested(state, event.step_ids, record)]
        case StepFailed(error=error) | StepRetryScheduled(error=error) if error.code == "TIMEOUT":
            assert graph is not None
            gone = _withdrawals(graph, state, (event.step_id,), record)
            return [*gone, *_unsuggested(state, (event.step_id,), record)]
        case StepOverdue():
            assert graph is not None
            return (tasks.told(graph, state, event, record),)
        case StepFailed() if state.suggestions:
            return list(_unsuggested(state, (event.step_id,), record))
        case (
            ExecutionCompleted() | ExecutionFailed() | ExecutionRejected() | ExecutionCancelled() | ExecutionTimedOut()
        ):
            ended = _ended(graph, state, event, record)
            parent = (
                event.parent.model_dump() if isinstance(event, ExecutionRejected) and event.parent else state.parent
            )
            told = [ended] if parent is None else [ended, _told_parent(parent, ended.message)]
            return [*told, *(_released(state, queue_id, record) for queue_id in state.places)]
        case ExecutionStarted() | ExecutionAdmitted() if state.queues:
            return (_asked_for_admission(state, Admission.model_validate(state.queues[0]), record),)
        case StatusChanged(status="waiting") if state.places:
            return [
                _released(state, queue_id, record) for queue_id, while_working in state.places.items() if while_working
            ]
        case _:
            return ()


def outstanding(graph: Graph, state: Execution, partition: int) -> Iterator[Outgoing]:
    """The requests of steps that are under way, as `react` made them."""
    for step_id, step in state.steps.items():
        if step.status is StepStatus.RUNNING and step.waits_for in ("agent", "approval"):
            yield _request(graph.nodes[step_id], state, step, partition)


def _request(node: Node, state: Execution, step: Step, partition: int) -> Outgoing:
    if step.waits_for == "approval":
        return _approval(node, state, step)
    run = state.run_id(node.id)
    parameters = node.parameters
    message = StepRequested(
        event_id=request_id(run, step.attempt),
        occurred_at=utc(step.started_at),
        execution_id=state.execution_id,
        workflow_id=state.workflow_id,
        **tenant_of(state),
        partition=partition,
        step_id=node.id,
        run_id=run,
        attempt=step.attempt,
        **_what(node, state),
        input=step.input,
        context=state.context,
        session_id=state.session_id,
        timeout_seconds=node.timeout_seconds,
        max_iterations=parameters.max_iterations if isinstance(parameters, AgentParameters) else None,
        allowance=allowances.allowance_of(state, node.id),
        turns=tuple(Turn.model_validate(turn) for turn in state.conversations.get(node.id, ())),
    )
    return Outgoing(Kind.REQUEST, topics.STEP_REQUESTED, run, message)


def _what(node: Node, state: Execution) -> dict[str, Any]:
    """What is asked of whom."""
    rules = node.parameters.suggestion if isinstance(node.parameters, AgentParameters) else None
    if rules is None:
        asked = {"kind": _KINDS[node.type], "agent": _agent(node, state), **_chosen_by(node, state)}
        return asked | _leave(node, state) if node.type is StepType.TOOL_CALL else asked
    own = state.suggestions.get(node.id)
    if own is None or own["phase"] != "acts":
        asked = {"kind": "agent", "agent": _agent(node, state), **_chosen_by(node, state)}
        return asked | {"answer_schema": schema_of(rules)}
    action = rules.actions[own["asked"]]
    return {
        "kind": "action",
        "agent": own["asked"],
        "action": Action(type=action.type, url=action.url, tool=action.tool),
    }


def _chosen_by(node: Node, state: Execution) -> dict[str, Any]:
    """Nothing for a step that names its agent, or that somebody was given by name."""
    if not isinstance(node.parameters, AgentParameters) or node.id in state.assigned:
        return {}
    return {"capabilities": node.parameters.capabilities, "choice": node.parameters.choice}


def _leave(node: Node, state: Execution) -> dict[str, Any]:
    """Whether the tool has to ask first, and was allowed."""
    assert isinstance(node.parameters, ToolParameters)
    own = state.suggestions.get(node.id)
    granted = own is not None and own["phase"] == "goes_on"
    return {"ask_first": node.parameters.ask_first is not None, "granted": granted}


_KINDS = {StepType.AGENT_EXECUTION: "agent", StepType.API_CALL: "api_call", StepType.TOOL_CALL: "tool"}


def _agent(node: Node, state: Execution) -> str:
    """Who is asked: an agent (nobody yet, if it is chosen by capabilities), a tool, or the runner itself."""
    match node.parameters:
        case AgentParameters(agent=name) | ToolParameters(tool=name):
            return tasks.agent_of(state, node) if state.assigned else name
        case _:
            return "api_call"


def _approval(node: Node, state: Execution, step: Step) -> Outgoing:
    run = state.run_id(node.id)
    message = ApprovalRequested(
        event_id=request_id(run, step.attempt),
        occurred_at=utc(step.started_at),
        execution_id=state.execution_id,
        workflow_id=state.workflow_id,
        **tenant_of(state),
        approval_id=gate_id(run, step.attempt),
        step_id=node.id,
        approvers=tuple(step.input["approvers"]),
        message=step.input["message"],
        show=step.input.get("show"),
        deadline=None if step.deadline is None else utc(step.deadline),
        rules=step.input.get("rules"),
    )
    return Outgoing(Kind.REQUEST, topics.APPROVAL_REQUESTED, state.execution_id, message)


def _withdrawals(graph: Graph, state: Execution, step_ids: tuple[str, ...], record: Record) -> Iterator[Outgoing]:
    """Gates that nobody waits for any more, and children that run for nobody."""
    for step_id in step_ids:
        match graph.nodes[step_id].type:
            case StepType.HUMAN_APPROVAL:
                gate = gate_id(state.run_id(step_id), state.steps[step_id].attempt)
                yield _withdrawal(state, gate, record)
            case StepType.SUB_WORKFLOW:
                yield _cancellation(graph.nodes[step_id], state, record)


def _unsuggested(state: Execution, step_ids: tuple[str, ...], record: Record) -> Iterator[Outgoing]:
    """Suggestions whose step waits for them no more."""
    for step_id in step_ids:
        own = state.suggestions.get(step_id)
        if own is not None and own["phase"] == "withdrawn":
            yield _withdrawal(state, own["id"], record)


def _withdrawal(state: Execution, gate: str, record: Record) -> Outgoing:
    message = ApprovalWithdrawn(
        event_id=derive(gate, "withdrawn"),
        occurred_at=record.at,
        execution_id=state.execution_id,
        workflow_id=state.workflow_id,
        **tenant_of(state),
        approval_id=gate,
        reason="the execution waits for it no more",
    )
    return Outgoing(Kind.NOTICE, topics.APPROVAL_REQUESTED, state.execution_id, message)


def _suggestion(node: Node, state: Execution, event: SuggestionMade, record: Record) -> Outgoing:
    """Once it is certain: who hears of it reads no fences."""
    rules = gate_of(node)
    told = event.model_dump(exclude={"n", "type", "attempt", "call_id"})
    message = SuggestionCreated(
        event_id=derive(event.suggestion_id, "revision", event.revision),
        occurred_at=record.at,
        execution_id=state.execution_id,
        workflow_id=state.workflow_id,
        **tenant_of(state),
        **told,
        task_id=state.run_id(node.id),
        approvers=rules.approvers,
        message=rules.message,
        revisable=node.type is StepType.AGENT_EXECUTION and event.revision <= rules.max_revisions,
        rules=rules.rules,
    )
    return Outgoing(Kind.FACT, topics.SUGGESTION_CREATED, state.execution_id, message)


def _child(node: Node, state: Execution, event: StepStarted) -> Outgoing:
    """A fact, not a command: who starts executions reads no fences, so it is said once it is certain."""
    assert isinstance(node.parameters, SubWorkflowParameters)
    run, step = state.run_id(node.id), state.steps[node.id]
    child = request_id(run, event.attempt)
    depth = 1 if state.parent is None else state.parent["depth"] + 1
    message = WorkflowStarted(
        event_id=derive(child, topics.WORKFLOW_STARTED),
        occurred_at=utc(step.started_at),
        execution_id=child,
        workflow_id=node.parameters.workflow_id,
        workflow_version=node.parameters.version,
        **tenant_of(state),
        input=event.input,
        context=state.context,
        trigger={"type": "workflow", "execution_id": state.execution_id, "step_id": node.id},
        session_id=state.session_id,
        parent=Parent(execution_id=state.execution_id, step_id=node.id, run_id=run, attempt=event.attempt, depth=depth),
    )
    return Outgoing(Kind.FACT, topics.WORKFLOW_STARTED, child, message)


def _cancellation(node: Node, state: Execution, record: Record) -> Outgoing:
    assert isinstance(node.parameters, SubWorkflowParameters)
    child = request_id(state.run_id(node.id), state.steps[node.id].attempt)
    return cancellation(
        state,
        child,
        node.parameters.workflow_id,
        record,
        event_id=derive(child, "cancelled by parent"),
        reason=f"execution {state.execution_id} waits for it no more",
        parent_id=state.execution_id,
    )


def _asked_for_admission(state: Execution, admission: Admission, record: Record) -> Outgoing:
    message = AdmissionRequested(
        event_id=derive(state.execution_id, "admission requested", admission.queue_id),
        occurred_at=record.at,
        execution_id=admission.queue_id,
        workflow_id=state.workflow_id,
        **tenant_of(state),
        requester_id=state.execution_id,
        admission=admission,
    )
    return Outgoing(Kind.FACT, topics.ADMISSION, admission.queue_id, message)


def _released(state: Execution, queue_id: str, record: Record) -> Outgoing:
    message = AdmissionReleased(
        event_id=derive(state.execution_id, "admission released", queue_id),
        occurred_at=record.at,
        execution_id=queue_id,
        workflow_id=state.workflow_id,
        **tenant_of(state),
        requester_id=state.execution_id,
    )
    return Outgoing(Kind.FACT, topics.ADMISSION, queue_id, message)


def _told_parent(parent: dict[str, Any], ended: Any) -> Outgoing:
    message = ChildEnded(
        event_id=derive(ended.event_id, "parent"),
        occurred_at=ended.occurred_at,
        execution_id=parent["execution_id"],
        workflow_id=ended.workflow_id,
        **tenant_of(ended),
        child_id=ended.execution_id,
        step_id=parent["step_id"],
        run_id=parent["run_id"],
        attempt=parent["attempt"],
        status=ended.event_type.removeprefix("workflow."),
        result=ended.result,
        error=ended.error,
    )
    return Outgoing(Kind.FACT, topics.CHILD_ENDED, message.execution_id, message)


def _ended(graph: Graph | None, state: Execution, event: Any, record: Record) -> Outgoing:
    began = state.started_at or record.at.timestamp()
    source = event if isinstance(event, ExecutionRejected) else state
    message = WorkflowCompleted(
        event_id=derive(state.execution_id, "ended"),
        event_type=_EVENT_TYPES[type(event)],
        occurred_at=record.at,
        timestamp=record.at,
        execution_id=state.execution_id,
        workflow_id=record.workflow_id,
        workflow_version=state.version,
        **tenant_of(source),
        metadata=LifecycleMetadata(
            task_count=len(state.steps),
            duration_seconds=round(record.at.timestamp() - began, 6),
            agents_used=_agents_used(graph, state),
        ),
        result=getattr(event, "result", None),
        error=_error(event),
    )
    return Outgoing(Kind.FACT, topics.WORKFLOW_COMPLETED, state.execution_id, message)


def _error(event: Any) -> ErrorInfo | None:
    if isinstance(event, ExecutionCancelled):
        return ErrorInfo(code="CANCELLED", message=event.reason or "the execution was cancelled")
    error: ErrorInfo | None = getattr(event, "error", None)
    return error


def _agents_used(graph: Graph | None, state: Execution) -> tuple[str, ...]:
    if graph is None:
        return ()
    named: dict[str, None] = {}
    for step_id, step in state.steps.items():
        parameters = graph.nodes[step_id].parameters
        if step.status is not StepStatus.SKIPPED and isinstance(parameters, AgentParameters):
            agent = tasks.agent_of(state, graph.nodes[step_id]) if state.assigned else parameters.agent
            named |= {agent: None} if agent else {}
    return tuple(named | dict.fromkeys(state.chosen))
