"""Reviewers, as people define them and as approvals knows them."""

from collections.abc import Sequence
from typing import Any

from handrail_contracts.envelope import utc
from handrail_contracts.ids import partition_of
from handrail_contracts.reviewers import Reviewer, ReviewerDefined, pool_id
from handrail_contracts.topics import APPROVAL_EVENTS, EXECUTION_PARTITIONS, REVIEWER_DEFINED

from handrail_gateway.answers import parsed
from handrail_gateway.database import Row
from handrail_gateway.gateway import Gateway
from handrail_gateway.idempotency import request_id
from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import not_found
from handrail_gateway.schemas import ReviewerRequest

NOTED_SECONDS = 2.0
"""How long a caller waits for approvals to take note."""


async def look(
    gateway: Gateway, caller: Caller, *, name: str | None = None, after: str | None = None, limit: int = 1
) -> Sequence[Row]:
    whose = (caller.organization_id, caller.project_id)
    return await gateway.database.fetch("list_reviewers", *whose, name, after, limit)


async def find(gateway: Gateway, caller: Caller, reviewer_id: str) -> Row:
    """Raises a 404 `Problem` if there is none."""

    async def look_once() -> Row | None:
        return next(iter(await look(gateway, caller, name=reviewer_id)), None)

    found = await gateway.reads.find(look_once, APPROVAL_EVENTS, [_partition(caller)])
    if found is None:
        raise not_found("reviewer", reviewer_id)
    return found


def _partition(caller: Caller) -> int:
    return partition_of(pool_id(caller.organization_id, caller.project_id), EXECUTION_PARTITIONS)


async def define(
    gateway: Gateway, caller: Caller, reviewer_id: str, body: ReviewerRequest, key: str | None
) -> dict[str, Any]:
    """Waits, for as long as callers wait, until approvals has journaled it."""
    reviewer = Reviewer(reviewer_id=reviewer_id, **body.model_dump())
    message = _message(gateway, caller, reviewer, key, removed=False)
    gateway.recent.check(message.event_id, key, body.model_dump(mode="json"))
    row = await _publish(gateway, caller, message)
    now = message.occurred_at
    known = {"load": 0} if row is None else {"load": row["load"]}
    return shown({"reviewer_id": reviewer_id, "reviewer": reviewer.model_dump(mode="json"), "updated_at": now, **known})


async def remove(gateway: Gateway, caller: Caller, reviewer_id: str, key: str | None) -> None:
    await find(gateway, caller, reviewer_id)
    await _publish(gateway, caller, _message(gateway, caller, Reviewer(reviewer_id=reviewer_id), key, removed=True))


def _message(
    gateway: Gateway, caller: Caller, reviewer: Reviewer, key: str | None, *, removed: bool
) -> ReviewerDefined:
    route = f"reviewers/{reviewer.reviewer_id}/{'delete' if removed else 'put'}"
    return ReviewerDefined(
        **caller.tenant.model_dump(),
        event_id=request_id(caller, route, key),
        occurred_at=utc(gateway.now()),
        execution_id=pool_id(caller.organization_id, caller.project_id),
        workflow_id="reviewers",
        reviewer=reviewer,
        removed=removed,
    )


async def _publish(gateway: Gateway, caller: Caller, message: ReviewerDefined) -> Row | None:
    """The row once the read models have the message, if they do in time."""
    place = (APPROVAL_EVENTS, _partition(caller))
    wanted = None if message.removed else message.reviewer.model_dump(mode="json", exclude_none=True)
    seen = await gateway.positions.current(place)
    await gateway.publisher.publish(REVIEWER_DEFINED, message.execution_id, message)
    began = gateway.now()
    while gateway.now() - began < NOTED_SECONDS:
        row = next(iter(await look(gateway, caller, name=message.reviewer.reviewer_id)), None)
        if (None if row is None else parsed(row["reviewer"])) == wanted:
            return row
        if await gateway.positions.wait({place: seen + 1}, 1.0):
            seen = await gateway.positions.current(place)
    return None


def shown(row: Row) -> dict[str, Any]:
    said = row["reviewer"] if isinstance(row["reviewer"], dict) else parsed(row["reviewer"])
    names = ("name", "email", "specialties", "capacity", "absences")
    return {
        "id": row["reviewer_id"],
        **{name: said[name] for name in names},
        "hours": said.get("hours"),
        "load": row["load"],
        "updated_at": row["updated_at"],
    }
