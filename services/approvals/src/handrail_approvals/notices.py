"""Whom a gate tells outside, and what. Pure."""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from handrail_contracts import topics
from handrail_contracts.approval_events import ApprovalClosed
from handrail_contracts.envelope import utc
from handrail_contracts.ids import derive
from handrail_contracts.notifications import NotificationRequested
from handrail_runtime.machine.core import Kind, Outgoing

from handrail_approvals.state import Gate, Gates

MOST_MENTIONS = 20
_MENTION = re.compile(r"(?<![\w@.])@([\w][\w.+-]*(?:@[\w-]+(?:\.[\w-]+)+)?)")


def mentions(text: str) -> tuple[str, ...]:
    """People named as `@name` or `@name@example.com`, each once."""
    found = dict.fromkeys(name.rstrip(".") for name in _MENTION.findall(text))
    return tuple(found)[:MOST_MENTIONS]


def waits_for(gate: Gate) -> tuple[str, ...]:
    """Who is to decide next."""
    if gate.assignee:
        return (gate.assignee,)
    left = tuple(person for person in gate.approvers if person not in gate.votes)
    return left[:1] if gate.terms.require == "in_order" else left


def asked(state: Gates, gate_id: str, at: datetime, *reason: object, kind: str = "asked") -> Iterable[Outgoing]:
    """To everybody whose turn it is; `reason` tells one such notice from another."""
    gate = state.gates[gate_id]
    people = waits_for(gate)
    if not people or not (gate.terms.notify or gate.assignee):
        return ()
    return (_notice(state, gate_id, gate, at, (kind, *reason), kind=kind, to=people, decidable=True),)


def mentioned(
    state: Gates, gate_id: str, comment_id: str, by: str, text: str, people: tuple[str, ...], at: datetime
) -> Outgoing:
    title, said = f"{by} has mentioned you", {"text": text}
    gate = state.gates[gate_id]
    return _notice(state, gate_id, gate, at, ("mention", comment_id), kind="mention", to=people, title=title, **said)


def called_back(state: Gates, gate: Gate, event: ApprovalClosed, at: datetime) -> Iterable[Outgoing]:
    if not gate.terms.callback:
        return ()
    body = {
        "approval_id": event.approval_id, "execution_id": state.execution_id, "workflow_id": state.workflow_id,
        "step_id": gate.step_id, "decision": event.decision, "decided_by": event.by, "comment": event.comment,
        "decided_at": at.isoformat(),
    }  # fmt: skip
    more: dict[str, Any] = {"kind": "decided", "callback": gate.terms.callback, "body": body}
    return (_notice(state, event.approval_id, gate, at, ("decided",), **more),)


def _notice(state: Gates, gate_id: str, gate: Gate, at: datetime, reason: tuple[object, ...], **said: Any) -> Outgoing:
    message = NotificationRequested(
        event_id=derive(gate_id, "notice", *reason),
        occurred_at=at,
        execution_id=state.execution_id,
        workflow_id=state.workflow_id,
        user_id=gate.user_id,
        organization_id=gate.organization_id,
        project_id=gate.project_id,
        approval_id=gate_id,
        step_id=gate.step_id,
        deadline=None if gate.deadline is None else utc(gate.deadline),
        **{"title": gate.title, **said},
    )
    return Outgoing(Kind.FACT, topics.NOTIFICATION_REQUESTED, state.execution_id, message)
