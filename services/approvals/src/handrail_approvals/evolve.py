"""What events make of gates: the only thing that changes them."""

from typing import Any, assert_never

from handrail_contracts.approval_events import (
    ApprovalClosed,
    ApprovalCommented,
    ApprovalHanded,
    ApprovalNotified,
    ApprovalOpened,
    ApprovalRefused,
    ApprovalReminded,
    ApprovalVoted,
    SuggestionRevised,
)
from handrail_contracts.journal import Record

from handrail_approvals.asking import wants
from handrail_approvals.rights import speaker
from handrail_approvals.state import Gate, Gates

UNHEARD_KEPT = 20
"""Comments of the time in which the agent revises: the latest go to it together, in one record."""
REQUESTS_KEPT = 20
PASSED_KEPT = 1000
TITLE_CHARACTERS = 500
"""Of a gate's message, for those who are told of it."""


def evolve(state: Gates, event: Any, record: Record) -> None:
    match event:
        case ApprovalOpened():
            state.workflow_id = record.workflow_id
            state.gates[event.approval_id] = _gate_of(event)
        case SuggestionRevised():
            revised = state.gates[event.approval_id]
            revised.revision, revised.revising = event.suggestion.revision, False
            revised.revisable, revised.digest, revised.votes = event.suggestion.revisable, event.digest, {}
        case ApprovalClosed():
            state.last_closed = state.gates.pop(event.approval_id, None)
        case ApprovalRefused():
            if (gate := state.gates.get(event.approval_id)) is not None:
                gate.refused += 1
        case ApprovalCommented():
            _heard(state.gates.get(event.approval_id), event)
        case ApprovalHanded():
            _handed(state.gates[event.approval_id], event)
        case ApprovalVoted():
            voter = event.on_behalf_of or event.by
            state.gates[event.approval_id].votes[voter] = [
                event.decision,
                event.submission_id,
                speaker(event.by, event.origin),
            ]
        case ApprovalReminded():
            state.gates[event.approval_id].reminded = event.number
        case ApprovalNotified():
            pass
        case _:
            assert_never(event)


def _gate_of(event: ApprovalOpened) -> Gate:
    suggestion, rules = event.suggestion, event.rules
    gate = Gate(
        step_id=event.step_id,
        user_id=event.user_id,
        organization_id=event.organization_id,
        project_id=event.project_id,
        approvers=event.approvers,
        deadline=None if event.deadline is None else event.deadline.timestamp(),
        agent="" if suggestion is None else suggestion.agent,
        revision=0 if suggestion is None else suggestion.revision,
        revisable=suggestion is None or suggestion.revisable,
        rules={} if rules is None else rules.model_dump(mode="json", exclude_defaults=True),
        opened_at=0.0 if event.opened_at is None else event.opened_at.timestamp(),
        title=event.message[:TITLE_CHARACTERS] if rules is not None else "",
        digest=event.digest,
    )
    if wants(gate) is not None:
        gate.asks = gate.asking = 1
    return gate


def _handed(gate: Gate, event: ApprovalHanded) -> None:
    if event.action == "released" and event.asks:
        gate.passed = list(dict.fromkeys((*gate.passed, gate.assignee)))[-PASSED_KEPT:]
    if event.action in ("assigned", "escalated"):  # others decide instead
        gate.level, gate.votes = event.level, {}
    gate.approvers, gate.assignee, gate.asking = event.approvers, event.assignee, event.asks
    gate.asks = max(gate.asks, event.asks)
    if event.request_id:
        gate.requests = [*gate.requests, event.request_id][-REQUESTS_KEPT:]


def _heard(gate: Gate | None, event: ApprovalCommented) -> None:
    if gate is None:
        return
    if event.revises is not None:
        gate.revising, gate.unheard = True, []
    elif gate.revising and event.author_type == "human":
        gate.unheard = [*gate.unheard, event.text][-UNHEARD_KEPT:]
