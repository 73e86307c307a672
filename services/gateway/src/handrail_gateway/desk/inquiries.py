"""Inquiries: executions of a desk's workflow, as those see them who ask and who answer."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from handrail_contracts.envelope import utc
from handrail_contracts.gates import PRIORITIES
from handrail_contracts.ids import partition_of
from handrail_contracts.topics import EXECUTION_EVENTS, EXECUTION_PARTITIONS

from handrail_gateway import executions
from handrail_gateway.answers import parsed
from handrail_gateway.database import Row
from handrail_gateway.desk import desks
from handrail_gateway.desk.flow import (
    INQUIRY,
    PERSON,
    STATUSES,
    agents_of,
    prefix_of,
    specialty_of,
    tier_of,
    topic_of,
    workflow_of,
)
from handrail_gateway.gateway import Gateway
from handrail_gateway.given import scoped
from handrail_gateway.identity.caller import Caller, Permission
from handrail_gateway.identity.rights import require
from handrail_gateway.problems import not_found
from handrail_gateway.schemas import DeskRequest, ExecuteRequest, InquiryRequest

LOOK_SECONDS, PAUSE_SECONDS = 1.0, 0.05


async def ask(gateway: Gateway, caller: Caller, name: str, body: InquiryRequest, key: str | None) -> dict[str, Any]:
    """The inquiry as it is after `wait_seconds`, or once it is answered or waits for a person."""
    if PRIORITIES[body.priority] > 0:
        require(caller, Permission.PRIORITY, f"Priority {body.priority}")
    row, desk = await desks.made(gateway, caller, name)
    request = ExecuteRequest(
        trigger={"type": "desk"},
        session_id=body.session_id or body.customer_id,
        input=_input(desk, body),
        attributes={"customer_id": body.customer_id, "priority": body.priority},
        priority=PRIORITIES[body.priority] * 10,
    )

    async def history() -> list[dict[str, Any]]:
        return await _told_before(gateway, caller, row["workflow_id"], body, desk.history)

    accepted = await executions.start(gateway, caller, row["workflow_id"], request, key, history)
    return await _answered(gateway, caller, name, accepted["execution_id"], body.wait_seconds)


def _input(desk: DeskRequest, body: InquiryRequest) -> dict[str, Any]:
    routed = topic_of(desk, body.inquiry) if body.topic is None else (body.topic, specialty_of(desk, body.topic))
    topic, specialty = routed or (None, None)
    return {
        "customer_id": body.customer_id,
        "inquiry": body.inquiry,
        "topic": topic,
        "specialty": specialty,
        "specialties": [specialty] if specialty else [],
        "classify": topic is None and desk.classifier,
        "escalate": body.escalate,
        "priority": body.priority,
        "callback_url": body.callback_url,
    }


async def _told_before(
    gateway: Gateway, caller: Caller, workflow_id: str, body: InquiryRequest, most: int
) -> list[dict[str, Any]]:
    """What the customer asked before, and what they were answered, oldest first."""
    if not most:
        return []
    whose = (caller.organization_id, caller.project_id, workflow_id, body.session_id or body.customer_id)
    rows = await gateway.database.fetch("session_messages", *whose, most)
    told = [(parsed(row["input"]), parsed(row["result"]), row["started_at"]) for row in reversed(rows)]
    return [
        {
            "at": at.isoformat(),
            "inquiry": asked["inquiry"],
            "topic": asked.get("topic"),
            "response": answer.get("response", ""),
        }
        for asked, answer, at in told
        if isinstance(asked, dict) and isinstance(answer, dict) and "inquiry" in asked
    ]


async def _answered(gateway: Gateway, caller: Caller, name: str, execution_id: str, seconds: float) -> dict[str, Any]:
    place = (EXECUTION_EVENTS, partition_of(execution_id, EXECUTION_PARTITIONS))
    until = gateway.now() + seconds
    await executions.find(gateway, caller, execution_id)
    while True:
        seen = await gateway.positions.current(place)
        found = await find(gateway, caller, name, execution_id)
        left = until - gateway.now()
        if left <= 0 or found["status"] != "open":
            return found
        await gateway.positions.wait({place: seen + 1}, min(left, LOOK_SECONDS))
        await asyncio.sleep(min(left, PAUSE_SECONDS))  # others' stories move the partition on, too


async def find(gateway: Gateway, caller: Caller, name: str, inquiry_id: str) -> dict[str, Any]:
    """Raises a 404 `Problem` if the desk has none of that id."""
    found = await look(gateway, caller, name, inquiry_id=inquiry_id, limit=1)
    if not found:
        raise not_found("inquiry", inquiry_id)
    return found[0][1]


async def look(
    gateway: Gateway,
    caller: Caller,
    name: str,
    *,
    inquiry_id: str | None = None,
    customer_id: str | None = None,
    status: str | None = None,
    after: Sequence[Any] = (None, None),
    limit: int = 50,
) -> list[tuple[Row, dict[str, Any]]]:
    """Latest first, each with its row."""
    _, desk = await desks.find(gateway, caller, name)
    whose = (caller.organization_id, caller.project_id, scoped(caller, workflow_of(name)))
    attributes = None if customer_id is None else orjson.dumps({"customer_id": customer_id}).decode()
    statuses = None if status is None else list(STATUSES[status])
    rows = await gateway.database.fetch("desk_inquiries", *whose, attributes, inquiry_id, statuses, *after, limit)
    now = utc(gateway.now())
    names = agent_names(desk, name, caller)
    return [(row, shown(row, desk, names, now)) for row in rows]


def agent_names(desk: DeskRequest, name: str, caller: Caller) -> dict[str, str]:
    prefix = prefix_of(name, caller.organization_id, caller.project_id)
    return {agent: request.name for agent, request in agents_of(desk, prefix, name).items()}


def shown(row: Row, desk: DeskRequest, names: dict[str, str], now: datetime) -> dict[str, Any]:
    """`names` are those that the desk's agents have now; of one that it has no more, its id is shown."""
    asked, result, steps = parsed(row["input"]) or {}, parsed(row["result"]), parsed(row["steps"])
    result = result if isinstance(result, dict) else {}
    tried = [step for step in steps if step["status"] not in ("skipped", "pending")]
    tiers = [step for step in tried if tier_of(step["step_id"]) is not None]
    by_person = bool(tried) and tried[-1]["step_id"] == PERSON
    agent = tiers[-1]["agent"] or "" if tiers else ""
    passed = tiers if by_person else tiers[:-1]
    return {
        "id": row["execution_id"],
        "customer_id": asked.get("customer_id", ""),
        "inquiry": asked.get("inquiry", ""),
        "topic": asked.get("topic") or "general",
        "priority": asked.get("priority", "medium"),
        "status": INQUIRY[row["status"]],
        "response": result.get("response") or "",
        "agent": PERSON if by_person else names.get(agent, agent),
        "tier": result.get("tier") or (PERSON if by_person else _tier_name(desk, tiers)),
        "escalated": by_person or len(tiers) > 1,
        "escalations": [_tier_name(desk, [step]) for step in passed],
        "reviewer": result.get("reviewer") or "",
        "confidence": result.get("confidence"),
        "error": (parsed(row["error"]) or {}).get("message", ""),
        "created_at": row["started_at"],
        "answered_at": row["completed_at"] if row["status"] == "completed" else None,
        "sla": _sla(row, desk, tiers, now),
    }


def _tier_name(desk: DeskRequest, tiers: Sequence[Any]) -> str:
    number = tier_of(tiers[-1]["step_id"]) if tiers else None
    return desk.tiers[number - 1].name if number is not None and number <= len(desk.tiers) else ""


def _sla(row: Row, desk: DeskRequest, tiers: Sequence[Any], now: datetime) -> dict[str, Any]:
    """The first answer is the first tier's, passed on or not."""
    began = row["started_at"]
    first_due = began + timedelta(seconds=desk.sla.first_answer_seconds)
    resolution_due = began + timedelta(seconds=desk.sla.resolution_seconds)
    first = next((step["completed_at"] for step in tiers if step["completed_at"]), None)
    answered = datetime.fromisoformat(first) if first else row["completed_at"] or now
    breached = [
        kind
        for kind, due, at in (
            ("first_answer", first_due, answered),
            ("resolution", resolution_due, row["completed_at"] or now),
        )
        if at > due
    ]
    return {"first_answer_due": first_due, "resolution_due": resolution_due, "breached": breached}
