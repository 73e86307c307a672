"""Deciding and commenting: a word counts once approvals has journaled it, and the answer says what counted."""

import asyncio
from typing import Any

from handrail_contracts.approvals import ApprovalSubmitted, CommentAdded
from handrail_contracts.envelope import utc
from handrail_contracts.ids import partition_of
from handrail_contracts.topics import APPROVAL_EVENTS, APPROVAL_SUBMITTED, COMMENT_ADDED, EXECUTION_PARTITIONS

from handrail_gateway.answers import Answer, renamed
from handrail_gateway.auth import Caller
from handrail_gateway.database import Row
from handrail_gateway.gateway import Gateway
from handrail_gateway.idempotency import key_reused, request_id
from handrail_gateway.problems import Problem, conflict, forbidden, not_found
from handrail_gateway.schemas import CommentRequest, DecisionRequest
from handrail_gateway.waiting import WAIT_SECONDS

REVISED = "the suggestion has revision"
"""How approvals begins to say that a decision was about an earlier one."""
NOTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "this decision counts"},
    202: {"description": "submitted; not journaled yet"},
}


async def decide(
    gateway: Gateway, caller: Caller, approval_id: str, body: DecisionRequest, key: str | None, kind: str = "approval"
) -> Answer:
    """The first decision that is journaled counts: 200 if it is this one, 409 if another was first."""
    gate = await _decidable(gateway, caller, approval_id, kind)
    submission = request_id(caller, f"approvals/{approval_id}", key)
    if gate["approvers"] and caller.user_id not in gate["approvers"]:
        raise forbidden(f"You are not among the approvers of this {'gate' if kind == 'approval' else kind}.")
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
        **body.model_dump(),
    )
    await gateway.publisher.publish(APPROVAL_SUBMITTED, gate["execution_id"], message)
    counted = await _journaled(gateway, caller, gate, "submission", submission)
    if counted is None:
        return Answer({**_shown(gate), "status": "submitted"}, 202)
    return Answer(_outcome(counted, submission, body))


async def comment(
    gateway: Gateway, caller: Caller, approval_id: str, body: CommentRequest, key: str | None, kind: str = "approval"
) -> Answer:
    gate = await _decidable(gateway, caller, approval_id, kind)
    comment_id = request_id(caller, f"approvals/{approval_id}/comments", key)
    if gate["status"] != "pending" and await _written(gateway, caller, approval_id, comment_id) is None:
        raise conflict("ALREADY_DECIDED", f"The gate was {gate['status']} before: nobody would hear the comment.")
    gateway.recent.check(comment_id, key, body.model_dump())
    message = CommentAdded(
        **caller.tenant.model_dump(),
        event_id=comment_id,
        occurred_at=utc(gateway.now()),
        execution_id=gate["execution_id"],
        workflow_id=gate["workflow_id"],
        **{f"{kind}_id": approval_id},
        text=body.text,
        revise=body.revise,
    )
    await gateway.publisher.publish(COMMENT_ADDED, gate["execution_id"], message)
    journaled = await _journaled(gateway, caller, gate, "comment", comment_id)
    told = {
        "id": comment_id,
        f"{kind}_id": approval_id,
        "author": caller.user_id,
        "text": body.text,
        "created_at": message.occurred_at if journaled is None else journaled["at"],
    }
    return Answer(told, 201)


async def _written(gateway: Gateway, caller: Caller, approval_id: str, comment_id: str) -> Row | None:
    whose = (caller.organization_id, caller.project_id, approval_id)
    return await gateway.database.row("comment", *whose, comment_id)


async def _decidable(gateway: Gateway, caller: Caller, approval_id: str, kind: str) -> Row:
    gate = await find_gate(gateway, caller, approval_id, "approval")
    if kind == "suggestion" and not gate["is_suggestion"]:
        raise not_found(kind, approval_id)
    return gate


async def find_gate(gateway: Gateway, caller: Caller, approval_id: str, query: str) -> Row:
    async def look() -> Row | None:
        return await gateway.database.row(query, caller.organization_id, caller.project_id, approval_id)

    found = await gateway.reads.find(look, APPROVAL_EVENTS, range(EXECUTION_PARTITIONS))
    if found is None:
        raise not_found("suggestion" if query == "suggestion" else "approval", approval_id)
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
    if body.revision is not None and REVISED in str(gate["refused"]):
        raise conflict("REVISED", f"The decision does not count: {gate['refused']}. Look at it again.")
    raise forbidden(f"The decision was refused: {gate['refused']}.")


def _shown(gate: Row) -> dict[str, Any]:
    return renamed(gate, "approval_id", "submission_id", "refused", "is_suggestion")
