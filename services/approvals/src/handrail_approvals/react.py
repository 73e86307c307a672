"""What events of gates make approvals say to others."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from handrail_contracts import topics
from handrail_contracts.approval_events import (
    ApprovalClosed,
    ApprovalCommented,
    ApprovalHanded,
    ApprovalOpened,
    ApprovalReminded,
    ApprovalVoted,
    SuggestionRevised,
)
from handrail_contracts.approvals import ApprovalDecided, SuggestionRevisionRequested
from handrail_contracts.ids import derive
from handrail_runtime.machine.core import Kind, Outgoing

from handrail_approvals.asking import question, release
from handrail_approvals.notices import asked, called_back, mentioned
from handrail_approvals.state import Gate, Gates


def react(state: Gates, event: Any, at: datetime) -> Iterable[Outgoing]:
    match event:
        case ApprovalOpened():
            return (*question(state, event.approval_id, at), *asked(state, event.approval_id, at))
        case SuggestionRevised():
            return asked(state, event.approval_id, at, event.suggestion.revision)
        case ApprovalHanded():
            return _told_of_handing(state, event, at)
        case ApprovalReminded():
            return asked(state, event.approval_id, at, event.number, kind="reminder")
        case ApprovalVoted() if state.gates[event.approval_id].terms.require == "in_order":
            return asked(state, event.approval_id, at, event.submission_id)
        case ApprovalClosed():
            return _told_of_closing(state, event, at)
        case ApprovalCommented():
            said = [] if event.revises is None else [_sent_back(state, event, at)]
            return [*said, *_told_of_comment(state, event, at)]
        case _:
            return ()


def _told_of_closing(state: Gates, event: ApprovalClosed, at: datetime) -> Iterable[Outgoing]:
    gate = state.last_closed
    freed = () if gate is None else release(event.approval_id, gate, gate.asking, at)
    if event.decision == "withdrawn":
        return freed
    assert gate is not None, "evolve has just closed it"
    return (_decided(state, gate, event, at), *freed, *called_back(state, gate, event, at))


def _told_of_handing(state: Gates, event: ApprovalHanded, at: datetime) -> Iterable[Outgoing]:
    gate, gate_id = state.gates[event.approval_id], event.approval_id
    said = [*release(gate_id, gate, event.frees, at)]
    if event.action in ("escalated", "released") and event.asks:
        said += question(state, gate_id, at)
    if event.action in ("assigned", "delegated") or (event.action == "escalated" and _to_others(gate)):
        kind = "escalated" if event.action == "escalated" else "asked"
        said += asked(state, gate_id, at, event.action, event.request_id, event.asks, event.level, kind=kind)
    return said


def _to_others(gate: Gate) -> bool:
    """Whether the level names people; whom the pool chooses is told when it has chosen."""
    level = gate.terms.escalation[gate.level - 1]
    return bool(level.approvers) or not level.specialties


def _told_of_comment(state: Gates, event: ApprovalCommented, at: datetime) -> Iterable[Outgoing]:
    if not event.mentions or event.approval_id not in state.gates:
        return ()
    said = (event.comment_id, event.author, event.text, event.mentions)
    return (mentioned(state, event.approval_id, *said, at),)


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


def _decided(state: Gates, gate: Gate, event: ApprovalClosed, at: datetime) -> Outgoing:
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
