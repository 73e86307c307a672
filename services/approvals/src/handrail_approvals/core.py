"""The rules of approval gates: who may decide, what counts, what happens when nobody does."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, assert_never

from handrail_contracts import topics
from handrail_contracts.approval_events import (
    AnyApprovalEvent,
    ApprovalClosed,
    ApprovalCommented,
    ApprovalOpened,
    ApprovalRecord,
    ApprovalRefused,
)
from handrail_contracts.approvals import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalSubmitted,
    ApprovalWithdrawn,
    CommentAdded,
)
from handrail_contracts.envelope import ExecutionMessage
from handrail_contracts.ids import derive
from handrail_contracts.journal import Record
from handrail_runtime.machine.core import Instead, Kind, Outgoing, Refused, Timer, TimerDue, Wiring

from handrail_approvals.state import Gate, Gates

Emit = Callable[[AnyApprovalEvent], None]
REFUSALS_KEPT = 100
"""Refused submissions are history too, but nobody may fill the journal with them."""

WIRING = Wiring(
    service="approvals",
    journal=topics.APPROVAL_EVENTS,
    snapshots=topics.APPROVAL_SNAPSHOTS,
    inputs=(topics.APPROVAL_REQUESTED, topics.APPROVAL_SUBMITTED, topics.COMMENT_ADDED),
    fenced_inputs=frozenset({topics.APPROVAL_REQUESTED}),
    commands=(),
    record=ApprovalRecord,
    fold_version=1,
)


class ApprovalsCore:
    """Pure. The first decision that is journaled is the one that counts."""

    wiring = WIRING

    def new(self, execution_id: str) -> Gates:
        return Gates(execution_id)

    def decide(self, state: Gates, message: Any, now: float, emit: Emit, ended: Callable[[str], bool]) -> None:
        match message:
            case ApprovalRequested():
                if message.approval_id not in state.gates and not ended(message.approval_id):
                    emit(_opened(message))
            case ApprovalWithdrawn():
                if message.approval_id in state.gates:
                    emit(ApprovalClosed(approval_id=message.approval_id, decision="withdrawn"))
            case ApprovalSubmitted():
                _submitted(state, message, emit, ended)
            case CommentAdded():
                _commented(state, message, emit, ended)
            case TimerDue():
                if message.token in state.gates:
                    emit(ApprovalClosed(approval_id=message.token, decision="expired"))

    def decide_instead(self, state: Gates, message: Any, why: Instead, now: float, emit: Emit) -> None:
        raise Refused(why.value.upper(), "the gate's text and data do not fit into one record (1 MB)")

    def evolve(self, state: Gates, event: AnyApprovalEvent, record: Record) -> None:
        match event:
            case ApprovalOpened():
                state.workflow_id = record.workflow_id
                state.gates[event.approval_id] = Gate(
                    step_id=event.step_id,
                    user_id=event.user_id,
                    organization_id=event.organization_id,
                    project_id=event.project_id,
                    approvers=event.approvers,
                    deadline=None if event.deadline is None else event.deadline.timestamp(),
                )
            case ApprovalClosed():
                state.last_closed = state.gates.pop(event.approval_id)
            case ApprovalRefused():
                if (gate := state.gates.get(event.approval_id)) is not None:
                    gate.refused += 1
            case ApprovalCommented():
                pass
            case _:
                assert_never(event)

    def react(
        self, state: Gates, event: AnyApprovalEvent, record: Record, partition: int, *, requests: bool = True
    ) -> Iterable[Outgoing]:
        if isinstance(event, ApprovalClosed) and event.decision != "withdrawn":
            return (_decided(state, event, record.at),)
        return ()

    def outstanding(self, state: Gates, partition: int) -> Iterable[Outgoing]:
        return ()

    def timers(self, event: AnyApprovalEvent) -> Iterable[Timer]:
        if isinstance(event, ApprovalOpened) and event.deadline is not None:
            return (Timer(event.deadline.timestamp(), event.approval_id),)
        return ()

    def live_timers(self, state: Gates) -> Iterable[Timer]:
        return [Timer(gate.deadline, gate_id) for gate_id, gate in state.gates.items() if gate.deadline is not None]

    def workflow_id(self, state: Gates) -> str:
        return state.workflow_id

    def ending(self, event: AnyApprovalEvent, execution_id: str) -> str | None:
        return event.approval_id if isinstance(event, ApprovalClosed) else None

    def is_finished(self, state: Gates) -> bool:
        return not state.gates

    def is_parked(self, state: Gates) -> bool:
        return True

    def busy_for(self, state: Gates) -> tuple[str, str] | None:
        return None

    def pack(self, state: Gates) -> bytes:
        return state.pack()

    def unpack(self, data: bytes) -> Gates:
        return Gates.unpack(data)


def _opened(message: ApprovalRequested) -> ApprovalOpened:
    return ApprovalOpened(
        approval_id=message.approval_id,
        step_id=message.step_id,
        user_id=message.user_id,
        organization_id=message.organization_id,
        project_id=message.project_id,
        approvers=message.approvers,
        message=message.message,
        show=message.show,
        deadline=message.deadline,
    )


def _gate(state: Gates, message: ApprovalSubmitted | CommentAdded, ended: Callable[[str], bool]) -> Gate | None:
    gate = state.gates.get(message.approval_id)
    if gate is None and not ended(message.approval_id):
        raise Refused("UNKNOWN_APPROVAL", f"no approval {message.approval_id} is known here")
    if gate is not None and not _same_tenant(gate, message):
        raise Refused("FORBIDDEN", "the approval belongs to another tenant")
    return gate


def _same_tenant(gate: Gate, message: ExecutionMessage) -> bool:
    return (gate.organization_id, gate.project_id) == (message.organization_id, message.project_id)


def _submitted(state: Gates, message: ApprovalSubmitted, emit: Emit, ended: Callable[[str], bool]) -> None:
    gate = _gate(state, message, ended)
    if gate is None:
        return
    if gate.approvers and message.user_id not in gate.approvers:
        if gate.refused < REFUSALS_KEPT:
            emit(
                ApprovalRefused(
                    approval_id=message.approval_id,
                    submission_id=message.event_id,
                    by=message.user_id,
                    reason=f"{message.user_id or 'somebody without a name'} is not among the approvers",
                )
            )
        return
    emit(
        ApprovalClosed(
            approval_id=message.approval_id,
            decision=message.decision,
            submission_id=message.event_id,
            by=message.user_id,
            comment=message.comment,
        )
    )


def _commented(state: Gates, message: CommentAdded, emit: Emit, ended: Callable[[str], bool]) -> None:
    if _gate(state, message, ended) is None:
        return
    emit(
        ApprovalCommented(
            approval_id=message.approval_id,
            comment_id=message.event_id,
            author=message.user_id,
            text=message.text,
        )
    )


def _decided(state: Gates, event: ApprovalClosed, at: datetime) -> Outgoing:
    gate = state.last_closed
    assert gate is not None, "evolve has just closed it"
    message = ApprovalDecided(
        event_id=derive(event.approval_id, "decided"),
        occurred_at=at,
        execution_id=state.execution_id,
        workflow_id=state.workflow_id,
        user_id=gate.user_id,
        organization_id=gate.organization_id,
        project_id=gate.project_id,
        approval_id=event.approval_id,
        step_id=gate.step_id,
        decision=event.decision,  # a withdrawn gate is not announced
        decided_by=event.by,
        comment=event.comment,
    )
    return Outgoing(Kind.FACT, topics.APPROVAL_DECIDED, state.execution_id, message)
