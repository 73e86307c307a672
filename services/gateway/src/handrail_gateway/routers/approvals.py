"""Gates that wait for people."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query

from handrail_gateway import gates
from handrail_gateway.answers import Answer, renamed
from handrail_gateway.gates import NOTED
from handrail_gateway.gateway import CallerDep, GatewayDep
from handrail_gateway.idempotency import Key
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.schemas import (
    Approval,
    ApprovalPage,
    ApprovalStatus,
    ApprovalSummary,
    Comment,
    CommentRequest,
    DecisionRequest,
)

router = APIRouter(prefix="/approvals", tags=["approvals"])

ApprovalId = Annotated[str, Path(min_length=1, max_length=200)]


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
    found = await gates.find_gate(gateway, caller, approval_id, "approval_with_history")
    return Answer(renamed(found, "approval_id"))


@router.post("/{approval_id}", response_model=ApprovalSummary, responses=NOTED)
async def decide(
    approval_id: ApprovalId, body: DecisionRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """The first decision that is journaled counts: 200 if it is this one, 409 if another was first."""
    return await gates.decide(gateway, caller, approval_id, body, key)


@router.post("/{approval_id}/comments", status_code=201, response_model=Comment)
async def comment(
    approval_id: ApprovalId, body: CommentRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """At a gate that holds a suggestion, it sends the suggestion back to its agent unless `revise` is false."""
    return await gates.comment(gateway, caller, approval_id, body, key)
