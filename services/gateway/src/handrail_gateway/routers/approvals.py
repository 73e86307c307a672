"""Gates that wait for people. A decision counts once approvals has journaled it, and the answer says what counted."""

import asyncio
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from handrail_contracts.approvals import ApprovalSubmitted, CommentAdded
from handrail_contracts.envelope import utc
from handrail_contracts.ids import partition_of
from handrail_contracts.topics import APPROVAL_EVENTS, APPROVAL_SUBMITTED, COMMENT_ADDED, EXECUTION_PARTITIONS

from handrail_gateway.answers import Answer, renamed
from handrail_gateway.auth import Caller
from handrail_gateway.database import Row
from handrail_gateway.gateway import CallerDep, Gateway, GatewayDep
from handrail_gateway.idempotency import Key, key_reused, request_id
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.problems import Problem, conflict, forbidden, not_found
from handrail_gateway.schemas import (
    Approval,
    ApprovalPage,
    ApprovalStatus,
    ApprovalSummary,
    Comment,
    CommentRequest,
    DecisionRequest,
)
from handrail_gateway.waiting import WAIT_SECONDS

router = APIRouter(prefix="/approvals", tags=["approvals"])

ApprovalId = Annotated[str, Path(min_length=1, max_length=200)]
NOTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "this decision counts"},
    202: {"description": "submitted; not journaled yet"},
}


@router.get("", response_model=ApprovalPage)
async def list_approvals(
    gateway: GatewayDep,
    caller: CallerDep,
    status: ApprovalStatus | None = None,
    execution_id: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Answer:
    """Oldest first."""
    after = decode_cursor(cursor, datetime, str)
    rows = await gateway.database.fetch(
        "list_approvals", caller.organization_id, caller.project_id, status, execution_id, *after, limit + 1
    )
    kept, next_cursor = page(rows, limit, lambda row: (row["created_at"], row["approval_id"]))
    return Answer({"items": [renamed(row, "approval_id") for row in kept], "next_cursor": next_cursor})


@router.get("/{approval_id}", response_model=Approval)
async def get_approval(approval_id: ApprovalId, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """The gate with everything that happened at it."""
    return Answer(renamed(await _find(gateway, caller, approval_id, "approval_with_history"), "approval_id"))


@router.post("/{approval_id}", response_model=ApprovalSummary, responses=NOTED)
async def decide(
    approval_id: ApprovalId, body: DecisionRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """The first decision that is journaled counts: 200 if it is this one, 409 if another was first."""
    gate = await _find(gateway, caller, approval_id, "approval")
    submission = request_id(caller, f"approvals/{approval_id}", key)
    if gate["approvers"] and caller.user_id not in gate["approvers"]:
        raise forbidden("You are not among the approvers of this gate.")
    if gate["status"] != "pending":
        return Answer(_outcome(gate, submission, body))
    gateway.recent.check(submission, key, body.model_dump())
    message = ApprovalSubmitted(
        **caller.tenant.model_dump(),
        event_id=submission,
        occurred_at=utc(gateway.now()),
        execution_id=gate["execution_id"],
        workflow_id=gate["workflow_id"],
        approval_id=approval_id,
        decision=body.decision,
        comment=body.comment,
    )
    await gateway.publisher.publish(APPROVAL_SUBMITTED, gate["execution_id"], message)
    counted = await _journaled(gateway, caller, gate, "submission", submission)
    if counted is None:
        return Answer({**_shown(gate), "status": "submitted"}, 202)
    return Answer(_outcome(counted, submission, body))


@router.post("/{approval_id}/comments", status_code=201, response_model=Comment)
async def comment(
    approval_id: ApprovalId, body: CommentRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    gate = await _find(gateway, caller, approval_id, "approval")
    comment_id = request_id(caller, f"approvals/{approval_id}/comments", key)
    gateway.recent.check(comment_id, key, body.model_dump())
    message = CommentAdded(
        **caller.tenant.model_dump(),
        event_id=comment_id,
        occurred_at=utc(gateway.now()),
        execution_id=gate["execution_id"],
        workflow_id=gate["workflow_id"],
        approval_id=approval_id,
        text=body.text,
    )
    await gateway.publisher.publish(COMMENT_ADDED, gate["execution_id"], message)
    journaled = await _journaled(gateway, caller, gate, "comment", comment_id)
    return Answer(
        {
            "id": comment_id,
            "approval_id": approval_id,
            "author": caller.user_id,
            "text": body.text,
            "created_at": message.occurred_at if journaled is None else journaled["at"],
        },
        201,
    )


async def _find(gateway: Gateway, caller: Caller, approval_id: str, query: str) -> Row:
    async def look() -> Row | None:
        return await gateway.database.row(query, caller.organization_id, caller.project_id, approval_id)

    found = await gateway.reads.find(look, APPROVAL_EVENTS, range(EXECUTION_PARTITIONS))
    if found is None:
        raise not_found("approval", approval_id)
    return found


async def _journaled(gateway: Gateway, caller: Caller, gate: Row, query: str, identifier: str) -> Row | None:
    """What the read models say of a submission or comment once they know it; None if that takes too long.

    Asked again only when the projector has moved on in the journal of approvals.
    """
    place = (APPROVAL_EVENTS, partition_of(gate["execution_id"], EXECUTION_PARTITIONS))
    whose = (caller.organization_id, caller.project_id, gate["approval_id"])
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                seen = await gateway.positions.current(place)
                row = await gateway.database.row(query, *whose, identifier)
                if row is not None and (query == "comment" or row["status"] != "pending" or row["refused"] is not None):
                    return row
                await gateway.positions.wait({place: seen + 1}, WAIT_SECONDS)
    except TimeoutError:
        return None
    except Problem:
        return None  # the database went away: it was submitted, and that is all that is known


def _outcome(gate: Row, submission: str, body: DecisionRequest) -> dict[str, Any]:
    """The gate if this submission is the one that counts; a 403 or 409 `Problem` if it is not."""
    if gate["submission_id"] == submission and gate["status"] != "pending":
        if (gate["status"], gate["comment"]) != (body.decision, body.comment):
            raise key_reused()
        return _shown(gate)
    if gate["status"] != "pending":
        by = f" by {gate['decided_by']}" if gate["decided_by"] else ""
        raise conflict("ALREADY_DECIDED", f"The gate was {gate['status']}{by} before.")
    raise forbidden(f"The decision was refused: {gate['refused']}.")


def _shown(gate: Row) -> dict[str, Any]:
    return renamed(gate, "approval_id", "submission_id", "refused")
