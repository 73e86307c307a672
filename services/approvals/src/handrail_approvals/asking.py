"""A gate and the pool of reviewers: it asks for somebody, gets somebody, and gives back whom it needs no more. Pure."""

from collections.abc import Iterable
from datetime import datetime

from handrail_contracts import topics
from handrail_contracts.envelope import tenant_of
from handrail_contracts.gates import PRIORITIES
from handrail_contracts.ids import derive
from handrail_contracts.reviewers import ReviewAsked, ReviewReleased, pool_id
from handrail_runtime.machine.core import Kind, Outgoing

from handrail_approvals.state import Gate, Gates


def wants(gate: Gate) -> tuple[str, ...] | None:
    """The specialties that the gate asks the pool for now; None if it asks nobody."""
    if gate.level:
        level = gate.terms.escalation[gate.level - 1]
        return level.specialties or None
    return gate.terms.specialties if gate.terms.assign else None


def question(state: Gates, gate_id: str, at: datetime) -> Iterable[Outgoing]:
    gate = state.gates[gate_id]
    wanted = wants(gate)
    if wanted is None:
        return ()
    pool = pool_id(gate.organization_id, gate.project_id)
    message = ReviewAsked(
        event_id=derive(gate_id, "asks", gate.asks),
        occurred_at=at,
        execution_id=pool,
        workflow_id="reviewers",
        **tenant_of(gate),
        requester_id=state.execution_id,
        requester_workflow_id=state.workflow_id,
        approval_id=gate_id,
        ask=gate.asks,
        specialties=wanted,
        priority=PRIORITIES[gate.terms.priority],
        exclude=tuple(gate.passed) + ((gate.user_id,) if gate.terms.four_eyes and gate.user_id else ()),
    )
    return (Outgoing(Kind.FACT, topics.REVIEWS, pool, message),)


def release(gate_id: str, gate: Gate, ask: int, at: datetime) -> Iterable[Outgoing]:
    """Whoever was assigned by that question, or waits for it, is free."""
    if not ask:
        return ()
    pool = pool_id(gate.organization_id, gate.project_id)
    message = ReviewReleased(
        event_id=derive(gate_id, "released", ask),
        occurred_at=at,
        execution_id=pool,
        workflow_id="reviewers",
        **tenant_of(gate),
        approval_id=gate_id,
        ask=ask,
    )
    return (Outgoing(Kind.FACT, topics.REVIEWS, pool, message),)
