"""What an input makes of the gates of an execution. A repeated input decides nothing."""

from collections.abc import Callable
from typing import Any

from handrail_contracts.approval_events import (
    AnyApprovalEvent,
    ApprovalClosed,
    ApprovalCommented,
    ApprovalHanded,
    ApprovalNotified,
    ApprovalOpened,
    ApprovalRefused,
    ApprovalReminded,
    ApprovalVoted,
    Suggested,
    SuggestionRevised,
)
from handrail_contracts.approvals import (
    ApprovalDirected,
    ApprovalRequested,
    ApprovalSubmitted,
    ApprovalWithdrawn,
    CommentAdded,
    SuggestionCreated,
)
from handrail_contracts.envelope import ExecutionMessage, tenant_of, utc
from handrail_contracts.gates import GateRules, digest_of
from handrail_contracts.ids import derive
from handrail_contracts.notifications import NotificationDelivered
from handrail_contracts.reviewers import ReviewAssigned
from handrail_runtime.machine.core import Refused, TimerDue

from handrail_approvals.asking import wants
from handrail_approvals.notices import mentions
from handrail_approvals.rights import Refusal, delegated, may_decide, outcome, why_not, why_not_directed
from handrail_approvals.state import ESCALATE, REMIND, Gate, Gates

Emit = Callable[[AnyApprovalEvent], None]
REFUSALS_KEPT = 100
"""Refused submissions are history too, but nobody may fill the journal with them."""


def decide(state: Gates, message: Any, now: float, emit: Emit, ended: Callable[[str], bool]) -> None:
    match message:
        case ApprovalRequested():
            if message.approval_id not in state.gates and not ended(message.approval_id):
                emit(_opened(message, now))
        case SuggestionCreated():
            if not ended(message.suggestion_id):
                _suggested(state, message, now, emit)
        case ApprovalWithdrawn():
            # a suggestion comes by another topic: its withdrawal may be here first
            if message.approval_id in state.gates or not ended(message.approval_id):
                emit(ApprovalClosed(approval_id=message.approval_id, decision="withdrawn"))
        case ApprovalSubmitted():
            _submitted(state, message, emit, ended)
        case ApprovalDirected():
            _directed(state, message, emit, ended)
        case CommentAdded():
            _commented(state, message, emit, ended)
        case ReviewAssigned():
            _assigned(state, message, emit)
        case NotificationDelivered():
            if message.approval_id in state.gates or ended(message.approval_id):
                told = message.model_dump(include=set(ApprovalNotified.model_fields) - {"type"})
                emit(ApprovalNotified(**told))
        case TimerDue():
            _due(state, message.token, emit)


def _due(state: Gates, token: str, emit: Emit) -> None:
    gate_id, kind, number = next(
        (parts for mark in (REMIND, ESCALATE) if (parts := token.rpartition(mark))[1]), (token, "", "")
    )
    gate = state.gates.get(gate_id)
    if gate is None:
        return
    if kind == REMIND:
        if int(number) <= gate.reminded:
            return  # before a restart
        emit(ApprovalReminded(approval_id=gate_id, number=int(number)))
    elif kind == ESCALATE:
        _escalate(gate_id, gate, int(number), emit)
    else:
        emit(ApprovalClosed(approval_id=gate_id, decision="expired"))


def _escalate(gate_id: str, gate: Gate, number: int, emit: Emit) -> None:
    """To the people of that level instead; once, and never back. Until the pool has chosen, those before may still decide."""
    if number <= gate.level:
        return
    level = gate.terms.escalation[number - 1]
    asks = gate.asks + 1 if level.specialties else 0
    more = {"level": number, "asks": asks, "frees": gate.asking}
    emit(ApprovalHanded(approval_id=gate_id, action="escalated", approvers=level.approvers or gate.approvers, **more))


def _assigned(state: Gates, message: ReviewAssigned, emit: Emit) -> None:
    gate = state.gates.get(message.approval_id)
    if gate is None or gate.asking != message.ask or gate.assignee or not _same_tenant(gate, message):
        return
    reviewer = message.reviewer_id
    more = {"to": reviewer, "assignee": reviewer, "asks": message.ask, "level": gate.level}
    emit(ApprovalHanded(approval_id=message.approval_id, action="assigned", approvers=gate.approvers, **more))


def _directed(state: Gates, message: ApprovalDirected, emit: Emit, ended: Callable[[str], bool]) -> None:
    gate = _gate(state, message.approval_id, message, ended)
    if gate is None or message.event_id in gate.requests:
        return
    if (refusal := why_not_directed(gate, message)) is not None:
        _refuse(gate, message, refusal, emit)
        return
    said = {"by": message.user_id, "to": message.to, "comment": message.comment, "origin": message.origin}
    emit(
        ApprovalHanded(
            approval_id=message.approval_id, request_id=message.event_id, level=gate.level,
            **said, **_after(gate, message),
        )
    )  # fmt: skip


def _after(gate: Gate, message: ApprovalDirected) -> dict[str, Any]:
    """Who is asked once the wish is fulfilled. What is given back goes to the pool, if it is the pool's to choose."""
    if message.action == "release":
        again = gate.asks + 1 if wants(gate) is not None else 0
        return {"action": "released", "approvers": gate.approvers, "asks": again, "frees": gate.asking}
    if message.action == "claim":
        return {"action": "claimed", "approvers": gate.approvers, "assignee": message.user_id, "frees": gate.asking}
    approvers, assignee = delegated(gate, message.user_id, message.to)
    return {"action": "delegated", "approvers": approvers, "assignee": assignee, "frees": gate.asking}


def _opened(message: ApprovalRequested, now: float) -> ApprovalOpened:
    rules = message.rules
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
        rules=rules,
        digest=digest_of(message.message, message.show, _raw(rules), None),
        opened_at=None if rules is None else utc(now),
    )


def _raw(rules: GateRules | None) -> dict[str, Any]:
    return {} if rules is None else rules.model_dump(mode="json")


def _suggested(state: Gates, message: SuggestionCreated, now: float, emit: Emit) -> None:
    gate = state.gates.get(message.suggestion_id)
    if gate is None:
        emit(_opened_for(message, now))
        _approve_by_policy(message, emit)
    elif message.revision == gate.revision + 1:
        emit(
            SuggestionRevised(
                approval_id=message.suggestion_id, suggestion=_shown(message), digest=_digest(message, gate.terms)
            )
        )
        if message.comment:
            emit(_agent_commented(message))
        if gate.unheard and message.revisable:
            emit(_commented_again(message, gate))


def _digest(message: SuggestionCreated, rules: GateRules | None) -> str:
    shown = _shown(message).model_dump(mode="json")
    return digest_of(_asks(message), message.suggested_data, _raw(rules), shown)


def _asks(message: SuggestionCreated) -> str:
    return message.message or f"{message.agent} suggests: {message.action}"


def _shown(message: SuggestionCreated) -> Suggested:
    return Suggested.model_validate(message.model_dump(include=set(Suggested.model_fields)))


def _opened_for(message: SuggestionCreated, now: float) -> ApprovalOpened:
    return ApprovalOpened(
        approval_id=message.suggestion_id,
        step_id=message.step_id,
        **tenant_of(message),
        approvers=message.approvers,
        message=_asks(message),
        show=message.suggested_data,
        deadline=message.deadline,
        suggestion=_shown(message),
        rules=message.rules,
        digest=_digest(message, message.rules),
        opened_at=None if message.rules is None else utc(now),
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
    gate_id, gate = message.approval_id, _gate(state, message.approval_id, message, ended)
    if gate is None or any(vote[1] == message.event_id for vote in gate.votes.values()):
        return
    if (refusal := why_not(gate, message)) is not None:
        _refuse(gate, message, refusal, emit)
        return
    said = {"submission_id": message.event_id, "by": message.user_id, "comment": message.comment}
    emit(
        ApprovalVoted(
            approval_id=gate_id, decision=message.decision, **said, on_behalf_of=message.on_behalf_of,
            digest=gate.digest, origin=message.origin,
        )
    )  # fmt: skip
    decision = outcome(gate)
    if decision is not None:
        data = message.data if gate.revision else None
        emit(ApprovalClosed(approval_id=gate_id, decision=decision, **said, revision=gate.revision or None, data=data))


def _refuse(gate: Gate, message: ApprovalSubmitted | ApprovalDirected, refusal: Refusal, emit: Emit) -> None:
    if gate.refused < REFUSALS_KEPT:
        refused = {"submission_id": message.event_id, "by": message.user_id, **refusal._asdict()}
        emit(ApprovalRefused(approval_id=message.approval_id, **refused))


def _commented(state: Gates, message: CommentAdded, emit: Emit, ended: Callable[[str], bool]) -> None:
    """From one who may decide, on a suggestion: back to its agent with it."""
    gate_id = message.approval_id or message.suggestion_id
    gate = _gate(state, gate_id, message, ended)
    if gate is None:
        return
    heard = message.revise and message.author_type == "human" and may_decide(gate, message.user_id)
    revises = gate.revision > 0 and gate.revisable and heard and not gate.revising
    emit(
        ApprovalCommented(
            approval_id=gate_id,
            comment_id=message.event_id,
            author=message.user_id,
            text=message.text,
            author_type=message.author_type,
            revises=gate.revision if revises else None,
            mentions=mentions(message.text),
        )
    )
