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
    Suggested,
    SuggestionRevised,
)
from handrail_contracts.approvals import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalSubmitted,
    ApprovalWithdrawn,
    CommentAdded,
    SuggestionCreated,
    SuggestionRevisionRequested,
)
from handrail_contracts.envelope import ExecutionMessage, tenant_of
from handrail_contracts.ids import derive
from handrail_contracts.journal import Record
from handrail_runtime.machine.core import Instead, Kind, Outgoing, Refused, Timer, TimerDue, Wiring

from handrail_approvals.state import Gate, Gates

Emit = Callable[[AnyApprovalEvent], None]
REFUSALS_KEPT = 100
"""Refused submissions are history too, but nobody may fill the journal with them."""
UNHEARD_KEPT = 20
"""Comments of the time in which the agent revises: the latest go to it together, in one record."""

WIRING = Wiring(
    service="approvals",
    journal=topics.APPROVAL_EVENTS,
    snapshots=topics.APPROVAL_SNAPSHOTS,
    inputs=(topics.APPROVAL_REQUESTED, topics.SUGGESTION_CREATED, topics.APPROVAL_SUBMITTED, topics.COMMENT_ADDED),
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
            case SuggestionCreated():
                if not ended(message.suggestion_id):
                    _suggested(state, message, emit)
            case ApprovalWithdrawn():
                # a suggestion comes by another topic: its withdrawal may be here first
                if message.approval_id in state.gates or not ended(message.approval_id):
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
                    agent="" if event.suggestion is None else event.suggestion.agent,
                    revision=0 if event.suggestion is None else event.suggestion.revision,
                    revisable=event.suggestion is None or event.suggestion.revisable,
                )
            case SuggestionRevised():
                revised = state.gates[event.approval_id]
                revised.revision, revised.revising = event.suggestion.revision, False
                revised.revisable = event.suggestion.revisable
            case ApprovalClosed():
                state.last_closed = state.gates.pop(event.approval_id, None)
            case ApprovalRefused():
                if (gate := state.gates.get(event.approval_id)) is not None:
                    gate.refused += 1
            case ApprovalCommented():
                _heard(state.gates.get(event.approval_id), event)
            case _:
                assert_never(event)

    def react(
        self, state: Gates, event: AnyApprovalEvent, record: Record, partition: int, *, requests: bool = True
    ) -> Iterable[Outgoing]:
        if isinstance(event, ApprovalClosed) and event.decision != "withdrawn":
            return (_decided(state, event, record.at),)
        if isinstance(event, ApprovalCommented) and event.revises is not None:
            return (_sent_back(state, event, record.at),)
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


def _suggested(state: Gates, message: SuggestionCreated, emit: Emit) -> None:
    gate = state.gates.get(message.suggestion_id)
    if gate is None:
        emit(_opened_for(message))
        _approve_by_policy(message, emit)
    elif message.revision == gate.revision + 1:
        emit(SuggestionRevised(approval_id=message.suggestion_id, suggestion=_shown(message)))
        if message.comment:
            emit(_agent_commented(message))
        if gate.unheard and message.revisable:
            emit(_commented_again(message, gate))


def _shown(message: SuggestionCreated) -> Suggested:
    return Suggested.model_validate(message.model_dump(include=set(Suggested.model_fields)))


def _opened_for(message: SuggestionCreated) -> ApprovalOpened:
    return ApprovalOpened(
        approval_id=message.suggestion_id,
        step_id=message.step_id,
        **tenant_of(message),
        approvers=message.approvers,
        message=message.message or f"{message.agent} suggests: {message.action}",
        show=message.suggested_data,
        deadline=message.deadline,
        suggestion=_shown(message),
    )


def _approve_by_policy(message: SuggestionCreated, emit: Emit) -> None:
    least = message.auto_approve_above
    if least is not None and message.confidence >= least:
        why = f"{message.action} needs nobody from a confidence of {least:g} on; this has {message.confidence:g}"
        emit(
            ApprovalClosed(approval_id=message.suggestion_id, decision="approved", by="policy", comment=why, revision=1)
        )


def _agent_commented(message: SuggestionCreated) -> ApprovalCommented:
    return ApprovalCommented(
        approval_id=message.suggestion_id,
        comment_id=derive(message.event_id, "comment"),
        author=message.agent,
        text=message.comment,
        author_type="agent",
    )


def _commented_again(message: SuggestionCreated, gate: Gate) -> ApprovalCommented:
    """What people said while the agent worked on this revision sends it back at once."""
    return ApprovalCommented(
        approval_id=message.suggestion_id,
        comment_id=derive(message.event_id, "unheard"),
        author="",
        text="\n".join(gate.unheard),
        revises=message.revision,
    )


def _heard(gate: Gate | None, event: ApprovalCommented) -> None:
    if gate is None:
        return
    if event.revises is not None:
        gate.revising, gate.unheard = True, []
    elif gate.revising and event.author_type == "human":
        gate.unheard = [*gate.unheard, event.text][-UNHEARD_KEPT:]


def _gate(state: Gates, gate_id: str, message: ExecutionMessage, ended: Callable[[str], bool]) -> Gate | None:
    gate = state.gates.get(gate_id)
    if gate is None and not ended(gate_id):
        raise Refused("UNKNOWN_APPROVAL", f"no approval {gate_id} is known here")
    if gate is not None and not _same_tenant(gate, message):
        raise Refused("FORBIDDEN", "the approval belongs to another tenant")
    return gate


def _same_tenant(gate: Gate, message: ExecutionMessage) -> bool:
    return (gate.organization_id, gate.project_id) == (message.organization_id, message.project_id)


def _submitted(state: Gates, message: ApprovalSubmitted, emit: Emit, ended: Callable[[str], bool]) -> None:
    gate = _gate(state, message.approval_id, message, ended)
    if gate is None:
        return
    why = _why_not(gate, message)
    if why is not None:
        if gate.refused < REFUSALS_KEPT:
            refused = {"submission_id": message.event_id, "by": message.user_id, "reason": why}
            emit(ApprovalRefused(approval_id=message.approval_id, **refused))
        return
    emit(
        ApprovalClosed(
            approval_id=message.approval_id,
            decision=message.decision,
            submission_id=message.event_id,
            by=message.user_id,
            comment=message.comment,
            revision=gate.revision or None,
            data=message.data if gate.revision else None,
        )
    )


def _why_not(gate: Gate, message: ApprovalSubmitted) -> str | None:
    if not gate.may_decide(message.user_id):
        return f"{message.user_id or 'somebody without a name'} is not among the approvers"
    if gate.revision and message.revision is not None and message.revision != gate.revision:
        return f"the suggestion has revision {gate.revision} by now, and this was about revision {message.revision}"
    return None


def _commented(state: Gates, message: CommentAdded, emit: Emit, ended: Callable[[str], bool]) -> None:
    """From one who may decide, on a suggestion: back to its agent with it."""
    gate_id = message.approval_id or message.suggestion_id
    gate = _gate(state, gate_id, message, ended)
    if gate is None:
        return
    heard = message.revise and message.author_type == "human" and gate.may_decide(message.user_id)
    revises = gate.revision > 0 and gate.revisable and heard and not gate.revising
    emit(
        ApprovalCommented(
            approval_id=gate_id,
            comment_id=message.event_id,
            author=message.user_id,
            text=message.text,
            author_type=message.author_type,
            revises=gate.revision if revises else None,
        )
    )


def _sent_back(state: Gates, event: ApprovalCommented, at: datetime) -> Outgoing:
    gate = state.gates[event.approval_id]
    message = SuggestionRevisionRequested(
        event_id=derive(event.comment_id, "revision"),
        occurred_at=at,
        execution_id=state.execution_id,
        workflow_id=state.workflow_id,
        user_id=event.author,
        organization_id=gate.organization_id,
        project_id=gate.project_id,
        suggestion_id=event.approval_id,
        step_id=gate.step_id,
        agent=gate.agent,
        revision=gate.revision,
        comment=event.text,
    )
    return Outgoing(Kind.FACT, topics.SUGGESTION_REVISION_REQUESTED, state.execution_id, message)


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
        data=event.data,
        revision=event.revision,
    )
    return Outgoing(Kind.FACT, topics.APPROVAL_DECIDED, state.execution_id, message)
