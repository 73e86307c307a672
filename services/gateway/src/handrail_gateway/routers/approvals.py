"""Gates that wait for people."""

import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Path, Query

from handrail_gateway import gates
from handrail_gateway.answers import Answer, parsed
from handrail_gateway.database import Row
from handrail_gateway.gates import NOTED, OriginDep
from handrail_gateway.gateway import CallerDep, GatewayDep
from handrail_gateway.idempotency import Key
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.problems import Problem
from handrail_gateway.schemas import (
    Approval,
    ApprovalPage,
    ApprovalStatus,
    ApprovalSummary,
    Comment,
    CommentRequest,
    DecisionRequest,
    DecisionResults,
    DecisionsRequest,
    DelegateRequest,
    NoteRequest,
)

router = APIRouter(prefix="/approvals", tags=["approvals"])

ApprovalId = Annotated[str, Path(min_length=1, max_length=200)]
Order = Annotated[
    Literal["age", "priority"], Query(description="the oldest first, or the most urgent and then the oldest")
]
AT_ONCE = 20
"""Decisions of a batch that wait for the journal at one time."""


@router.get("", response_model=ApprovalPage)
async def list_approvals(
    gateway: GatewayDep,
    caller: CallerDep,
    status: ApprovalStatus | None = None,
    execution_id: Annotated[str | None, Query(max_length=200)] = None,
    assignee: Annotated[str | None, Query(max_length=320)] = None,
    mine: Annotated[bool, Query(description="only those that you are asked about")] = False,
    order: Order = "age",
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Answer:
    """`order=priority` is the queue to work from."""
    wanted = (
        caller.organization_id,
        caller.project_id,
        status,
        execution_id,
        assignee,
        caller.user_id if mine else None,
    )
    query, types, keys = _ORDERS[order]
    rows = await gateway.database.fetch(query, *wanted, *decode_cursor(cursor, *types), limit + 1)
    kept, next_cursor = page(rows, limit, lambda row: tuple(row[name] for name in keys))
    return Answer({"items": [gates.shown(row) for row in kept], "next_cursor": next_cursor})


_ORDERS: dict[str, tuple[str, tuple[type, ...], tuple[str, ...]]] = {
    "age": ("list_approvals", (datetime, str), ("created_at", "approval_id")),
    "priority": ("list_approvals_by_priority", (int, datetime, str), ("priority", "created_at", "approval_id")),
}


@router.post("/decisions", response_model=DecisionResults)
async def decide_several(
    body: DecisionsRequest, gateway: GatewayDep, caller: CallerDep, origin: OriginDep, key: Key = None
) -> Answer:
    """Each as if it had been sent alone; the answer says of each what became of it, in the same order."""
    permits = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> dict[str, Any]:
        wanted = body.decisions[number]
        decision = DecisionRequest(**wanted.model_dump(exclude={"id"}))
        own_key = None if key is None else f"{key}/{wanted.id}"[-200:]
        async with permits:
            try:
                answer = await gates.decide(gateway, caller, wanted.id, decision, own_key, origin)
            except Problem as problem:
                return {"id": wanted.id, "status": problem.status, "code": problem.code, "detail": problem.detail}
        return {"id": wanted.id, "status": answer.status_code, "approval": orjson.Fragment(answer.body)}

    return Answer({"items": await asyncio.gather(*map(one, range(len(body.decisions))))})


@router.get("/{approval_id}", response_model=Approval)
async def get_approval(approval_id: ApprovalId, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """The gate with everything that happened at it."""
    found = await gates.find_gate(gateway, caller, approval_id, "approval_with_history")
    return Answer(gates.shown(found) | {"votes": _votes(found)})


def _votes(row: Row) -> list[dict[str, Any]]:
    told = [(entry["at"], entry["event"]) for entry in parsed(row["history"])]
    names = ("by", "on_behalf_of", "decision", "comment")
    return [{**{n: said[n] for n in names}, "at": at} for at, said in told if said["type"] == "approval.voted"]


@router.post("/{approval_id}", response_model=ApprovalSummary, responses=NOTED)
async def decide(
    approval_id: ApprovalId,
    body: DecisionRequest,
    gateway: GatewayDep,
    caller: CallerDep,
    origin: OriginDep,
    key: Key = None,
) -> Answer:
    """200 if it counts: of several who have to decide the gate may still wait for others. 409 if another was first, or if what
    is shown has changed; 403 if you have no say.
    """
    return await gates.decide(gateway, caller, approval_id, body, key, origin)


@router.post("/{approval_id}/claim", response_model=ApprovalSummary, responses=NOTED)
async def claim(
    approval_id: ApprovalId,
    gateway: GatewayDep,
    caller: CallerDep,
    origin: OriginDep,
    body: NoteRequest | None = None,
    key: Key = None,
) -> Answer:
    """You take it: nobody else decides until you release or delegate it."""
    said = body or NoteRequest()
    return await gates.direct(gateway, caller, approval_id, "claim", key, origin, comment=said.comment)


@router.post("/{approval_id}/release", response_model=ApprovalSummary, responses=NOTED)
async def release(
    approval_id: ApprovalId,
    gateway: GatewayDep,
    caller: CallerDep,
    origin: OriginDep,
    body: NoteRequest | None = None,
    key: Key = None,
) -> Answer:
    """You give back what you have claimed, or what was assigned to you: then another reviewer is assigned."""
    said = body or NoteRequest()
    return await gates.direct(gateway, caller, approval_id, "release", key, origin, comment=said.comment)


@router.post("/{approval_id}/delegate", response_model=ApprovalSummary, responses=NOTED)
async def delegate(
    approval_id: ApprovalId,
    body: DelegateRequest,
    gateway: GatewayDep,
    caller: CallerDep,
    origin: OriginDep,
    key: Key = None,
) -> Answer:
    """Another person decides in your place."""
    return await gates.direct(gateway, caller, approval_id, "delegate", key, origin, to=body.to, comment=body.comment)


@router.post("/{approval_id}/comments", status_code=201, response_model=Comment)
async def comment(
    approval_id: ApprovalId, body: CommentRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """At a gate that holds a suggestion, it sends the suggestion back to its agent unless `revise` is false. People who are
    mentioned (`@name`) are told by e-mail.
    """
    return await gates.comment(gateway, caller, approval_id, body, key)
