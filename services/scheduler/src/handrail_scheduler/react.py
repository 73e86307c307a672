"""What the scheduler says to others when something has happened. Equal input gives equal messages, ids included."""

from collections.abc import Iterable, Iterator
from typing import Any

from handrail_contracts import topics
from handrail_contracts.approvals import ApprovalRequested, ApprovalWithdrawn
from handrail_contracts.envelope import ErrorInfo, utc
from handrail_contracts.execution_events import (
    AnyExecutionEvent,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionRejected,
    ExecutionTimedOut,
    StepsCancelled,
    StepStarted,
)
from handrail_contracts.ids import derive
from handrail_contracts.journal import Record
from handrail_contracts.steps import StepRequested
from handrail_contracts.workflows import LifecycleMetadata, WorkflowCompleted
from handrail_graph import AgentParameters, Graph, Node, StepType
from handrail_runtime.machine.core import Kind, Outgoing

from handrail_scheduler.identifiers import request_id, run_id
from handrail_scheduler.state import Execution, Step, StepStatus

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
        case StepStarted(waits_for="agent" | "approval"):
            assert graph is not None
            return (_request(graph.nodes[event.step_id], state, state.steps[event.step_id], partition),)
        case StepsCancelled():
            assert graph is not None
            return [_withdrawal(state, step_id, record) for step_id in event.step_ids if _is_gate(graph, step_id)]
        case (
            ExecutionCompleted() | ExecutionFailed() | ExecutionRejected() | ExecutionCancelled() | ExecutionTimedOut()
        ):
            return (_ended(graph, state, event, record),)
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
    run = run_id(state.execution_id, node.id)
    parameters = node.parameters
    message = StepRequested(
        event_id=request_id(run, step.attempt),
        occurred_at=utc(step.started_at),
        execution_id=state.execution_id,
        workflow_id=state.workflow_id,
        user_id=state.user_id,
        organization_id=state.organization_id,
        project_id=state.project_id,
        partition=partition,
        step_id=node.id,
        run_id=run,
        attempt=step.attempt,
        kind="api_call" if node.type is StepType.API_CALL else "agent",
        agent=parameters.agent if isinstance(parameters, AgentParameters) else "api_call",
        input=step.input,
        context=state.context,
        session_id=state.session_id,
        timeout_seconds=node.timeout_seconds,
        max_iterations=parameters.max_iterations if isinstance(parameters, AgentParameters) else None,
    )
    return Outgoing(Kind.REQUEST, topics.STEP_REQUESTED, run, message)


def _approval(node: Node, state: Execution, step: Step) -> Outgoing:
    run = run_id(state.execution_id, node.id)
    message = ApprovalRequested(
        event_id=request_id(run, step.attempt),
        occurred_at=utc(step.started_at),
        execution_id=state.execution_id,
        workflow_id=state.workflow_id,
        user_id=state.user_id,
        organization_id=state.organization_id,
        project_id=state.project_id,
        approval_id=run,
        step_id=node.id,
        approvers=tuple(step.input["approvers"]),
        message=step.input["message"],
        show=step.input.get("show"),
        deadline=None if step.deadline is None else utc(step.deadline),
    )
    return Outgoing(Kind.REQUEST, topics.APPROVAL_REQUESTED, state.execution_id, message)


def _is_gate(graph: Graph, step_id: str) -> bool:
    return graph.nodes[step_id].type is StepType.HUMAN_APPROVAL


def _withdrawal(state: Execution, step_id: str, record: Record) -> Outgoing:
    run = run_id(state.execution_id, step_id)
    message = ApprovalWithdrawn(
        event_id=derive(run, "withdrawn"),
        occurred_at=record.at,
        execution_id=state.execution_id,
        workflow_id=state.workflow_id,
        user_id=state.user_id,
        organization_id=state.organization_id,
        project_id=state.project_id,
        approval_id=run,
        reason="the execution ended",
    )
    return Outgoing(Kind.NOTICE, topics.APPROVAL_REQUESTED, state.execution_id, message)


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
        user_id=source.user_id,
        organization_id=source.organization_id,
        project_id=source.project_id,
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
            named[parameters.agent] = None
    return tuple(named)
