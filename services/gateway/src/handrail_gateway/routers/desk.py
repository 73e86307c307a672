"""The service desk: inquiries go through tiers of agents, and to a person at last. It runs on workflows and approvals."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from handrail_contracts.envelope import utc

from handrail_gateway import gates
from handrail_gateway.answers import Answer
from handrail_gateway.desk import desks, inquiries
from handrail_gateway.desk.flow import workflow_of
from handrail_gateway.gates import NOTED, OriginDep
from handrail_gateway.gateway import CallerDep, GatewayDep
from handrail_gateway.given import scoped
from handrail_gateway.idempotency import Key
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.problems import not_found
from handrail_gateway.routers import reviewers
from handrail_gateway.routers.reviewers import ReviewerId
from handrail_gateway.schemas import (
    ApprovalPage,
    ApprovalStatus,
    ApprovalSummary,
    DecisionRequest,
    Desk,
    DeskRequest,
    DeskStats,
    EscalationAnswer,
    Inquiry,
    InquiryPage,
    InquiryRequest,
    InquiryStatus,
    Reviewer,
    ReviewerPage,
    ReviewerRequest,
)

router = APIRouter(prefix="/desk", tags=["desk"])

Name = Annotated[str, Query(alias="desk", pattern="^[a-z0-9][a-z0-9-]{0,39}$", description="which desk, of several")]
InquiryId = Annotated[str, Path(min_length=1, max_length=200)]
CustomerId = Annotated[str, Path(min_length=1, max_length=150)]


@router.get("", response_model=Desk)
async def get_desk(gateway: GatewayDep, caller: CallerDep, name: Name = "default") -> Answer:
    row, desk = await desks.find(gateway, caller, name)
    return Answer(desks.shown(row, desk, name, caller))


@router.put("", response_model=Desk)
async def configure_desk(body: DeskRequest, gateway: GatewayDep, caller: CallerDep, name: Name = "default") -> Answer:
    """From the next inquiry on it is as the body says; inquiries under way go on as they began."""
    row = await desks.configure(gateway, caller, name, body)
    return Answer(desks.shown(row, body, name, caller))


@router.post("/inquiries", status_code=202, response_model=Inquiry, responses={200: {"model": Inquiry}})
async def ask(
    body: InquiryRequest, gateway: GatewayDep, caller: CallerDep, name: Name = "default", key: Key = None
) -> Answer:
    """202 while it is open; with `wait_seconds`, 200 once it is answered. One that waits for a person is not waited for."""
    found = await inquiries.ask(gateway, caller, name, body, key)
    status = 200 if found["status"] in ("answered", "failed") else 202
    return Answer(found, status, {"Location": f"/api/v1/desk/inquiries/{found['id']}"})


@router.get("/inquiries", response_model=InquiryPage)
async def list_inquiries(
    gateway: GatewayDep,
    caller: CallerDep,
    name: Name = "default",
    status: InquiryStatus | None = None,
    customer_id: Annotated[str | None, Query(max_length=150)] = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Answer:
    """Latest first."""
    after = decode_cursor(cursor, datetime, str)
    found = await inquiries.look(
        gateway, caller, name, customer_id=customer_id, status=status, after=after, limit=limit + 1
    )
    kept, next_cursor = page(found, limit, lambda each: (each[0]["started_at"], each[0]["execution_id"]))
    return Answer({"items": [inquiry for _, inquiry in kept], "next_cursor": next_cursor})


@router.get("/inquiries/{inquiry_id}", response_model=Inquiry)
async def get_inquiry(inquiry_id: InquiryId, gateway: GatewayDep, caller: CallerDep, name: Name = "default") -> Answer:
    return Answer(await inquiries.find(gateway, caller, name, inquiry_id))


@router.get("/customers/{customer_id}/history", response_model=InquiryPage)
async def customer_history(
    customer_id: CustomerId,
    gateway: GatewayDep,
    caller: CallerDep,
    name: Name = "default",
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Answer:
    """What the customer has asked, latest first."""
    return await list_inquiries(gateway, caller, name, None, customer_id, limit, cursor)


@router.get("/escalations", response_model=ApprovalPage)
async def list_escalations(
    gateway: GatewayDep,
    caller: CallerDep,
    name: Name = "default",
    status: ApprovalStatus | None = "pending",
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Answer:
    """Inquiries that came to a person, the most urgent first."""
    after = decode_cursor(cursor, int, datetime, str)
    whose = (caller.organization_id, caller.project_id, scoped(caller, workflow_of(name)))
    rows = await gateway.database.fetch("desk_escalations", *whose, status, *after, limit + 1)
    kept, next_cursor = page(rows, limit, lambda row: (row["priority"], row["created_at"], row["approval_id"]))
    return Answer({"items": [gates.shown(row) for row in kept], "next_cursor": next_cursor})


@router.post("/escalations/{approval_id}", response_model=ApprovalSummary, responses=NOTED)
async def answer_escalation(
    approval_id: Annotated[str, Path(min_length=1, max_length=200)],
    body: EscalationAnswer,
    gateway: GatewayDep,
    caller: CallerDep,
    origin: OriginDep,
    name: Name = "default",
    key: Key = None,
) -> Answer:
    """Your response is what the customer is answered."""
    gate = await gates.find_gate(gateway, caller, approval_id, "approval")
    if gate["workflow_id"] != scoped(caller, workflow_of(name)):
        raise not_found("escalation", approval_id)
    decision = DecisionRequest(decision="approved", comment=body.response)
    return await gates.decide(gateway, caller, approval_id, decision, key, origin)


@router.get("/reviewers", response_model=ReviewerPage)
async def list_desk_reviewers(
    gateway: GatewayDep, caller: CallerDep, limit: Limit = 50, cursor: CursorText = None
) -> Answer:
    """The project's reviewers: the same as `/reviewers`."""
    return await reviewers.list_reviewers(gateway, caller, limit, cursor)


@router.put("/reviewers/{reviewer_id}", response_model=Reviewer)
async def set_desk_reviewer(
    reviewer_id: ReviewerId, body: ReviewerRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    return await reviewers.set_reviewer(reviewer_id, body, gateway, caller, key)


@router.delete("/reviewers/{reviewer_id}", status_code=204, response_class=Response)
async def remove_desk_reviewer(
    reviewer_id: ReviewerId, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Response:
    return await reviewers.remove_reviewer(reviewer_id, gateway, caller, key)


@router.get("/stats", response_model=DeskStats)
async def desk_stats(gateway: GatewayDep, caller: CallerDep, name: Name = "default") -> Answer:
    """Counts of all inquiries, and by agent what it has and has answered."""
    row, desk = await desks.find(gateway, caller, name)
    whose = (caller.organization_id, caller.project_id, scoped(caller, workflow_of(name)))
    counts = await gateway.database.row("desk_counts", *whose, utc(gateway.now()), desk.sla.resolution_seconds)
    loads = {each["agent"]: each for each in await gateway.database.fetch("desk_loads", *whose)}
    agents = [
        {
            **{name: agent[name] for name in ("id", "name", "tier")},
            "open": loads[agent["id"]]["open"] if agent["id"] in loads else 0,
            "answered": loads[agent["id"]]["answered"] if agent["id"] in loads else 0,
            "average_seconds": loads[agent["id"]]["seconds"] if agent["id"] in loads else None,
        }
        for agent in desks.shown(row, desk, name, caller)["agents"]
    ]
    return Answer({**(counts or {}), "agents": agents})
