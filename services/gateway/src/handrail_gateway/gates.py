"""Deciding and commenting: a word counts once approvals has journaled it, and the answer says what counted."""

import asyncio
from typing import Annotated, Any

from fastapi import Depends, Request
from handrail_contracts.approvals import ApprovalDirected, ApprovalSubmitted, CommentAdded
from handrail_contracts.envelope import utc
from handrail_contracts.gates import PRIORITIES, Origin
from handrail_contracts.ids import partition_of
from handrail_contracts.topics import APPROVAL_EVENTS, APPROVAL_SUBMITTED, COMMENT_ADDED, EXECUTION_PARTITIONS

from handrail_gateway.answers import Answer, parsed, renamed
from handrail_gateway.database import Row
from handrail_gateway.gateway import Gateway
from handrail_gateway.idempotency import key_reused, request_id
from handrail_gateway.identity.caller import KEY_USER, Caller, Permission
from handrail_gateway.identity.rights import CALLER
from handrail_gateway.problems import Problem, conflict, forbidden, not_found
from handrail_gateway.schemas import CommentRequest, DecisionRequest
from handrail_gateway.waiting import WAIT_SECONDS

NAMES_OF_PRIORITIES = {number: name for name, number in PRIORITIES.items()}
NOTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "this decision counts"},
    202: {"description": "submitted; not journaled yet"},
}


def _origin(request: Request) -> Origin:
    """From where the caller speaks: it goes into the journal with what they say."""
    address = "" if request.client is None else request.client.host
    caller = request.scope.get(CALLER)
    person = caller.person if isinstance(caller, Caller) and caller.person != caller.user_id else ""
    return Origin(via="api", address=address, client=request.headers.get("user-agent", "")[:500], person=person)


OriginDep = Annotated[Origin, Depends(_origin)]


async def decide(
    gateway: Gateway,
    caller: Caller,
    approval_id: str,
    body: DecisionRequest,
    key: str | None,
    origin: Origin,
    kind: str = "approval",
) -> Answer:
    """200 if the decision counts, 409 if another was first, 403 if the caller has no say."""
    gate = await _decidable(gateway, caller, approval_id, kind)
    submission = request_id(caller, f"approvals/{approval_id}", key)
    speaks_for = await _speaks_for(gateway, caller, gate, kind)
    _check_other_eyes(gateway, gate, caller.user_id, caller.person, speaks_for)
    if gate["status"] != "pending":
        return Answer(_outcome(await _settled(gateway, caller, gate, submission), submission, body))
    gateway.recent.check(submission, key, body.model_dump())
    message = ApprovalSubmitted(
        **caller.tenant.model_dump(),
        event_id=submission,
        occurred_at=utc(gateway.now()),
        execution_id=gate["execution_id"],
        workflow_id=gate["workflow_id"],
        approval_id=approval_id,
        **body.model_dump(exclude={"digest"}),
        digest=body.digest or gate["digest"],
        on_behalf_of=speaks_for,
        origin=origin,
    )
    await gateway.publisher.publish(APPROVAL_SUBMITTED, gate["execution_id"], message)
    counted = await _journaled(gateway, caller, gate, "submission", submission)
    if counted is None:
        return Answer({**shown(gate), "status": "submitted"}, 202)
    return Answer(_outcome(counted, submission, body))


async def direct(
    gateway: Gateway,
    caller: Caller,
    approval_id: str,
    action: str,
    key: str | None,
    origin: Origin,
    *,
    to: str = "",
    comment: str = "",
) -> Answer:
    """Claims, releases or delegates a gate: 200 once that is so, 403 or 409 if it can't be."""
    gate = await find_gate(gateway, caller, approval_id, "approval")
    if action != "release":
        _check_other_eyes(gateway, gate, caller.user_id, caller.person, to)
    wish = request_id(caller, f"approvals/{approval_id}/{action}", key)
    gateway.recent.check(wish, key, [to, comment])
    if gate["status"] != "pending":
        raise _decided_before(gate)
    message = ApprovalDirected(
        **caller.tenant.model_dump(),
        event_id=wish,
        occurred_at=utc(gateway.now()),
        execution_id=gate["execution_id"],
        workflow_id=gate["workflow_id"],
        approval_id=approval_id,
        action=action,
        to=to,
        force=caller.may(Permission.ADMINISTER),
        comment=comment,
        origin=origin,
    )
    await gateway.publisher.publish(APPROVAL_SUBMITTED, gate["execution_id"], message)
    noted = await _journaled(gateway, caller, gate, "submission", wish)
    if noted is None:
        return Answer({**shown(gate), "status": "submitted"}, 202)
    word = parsed(noted["word"])
    if word is None:
        raise _decided_before(noted)
    if word["type"] == "approval.refused":
        raise _refused(word)
    return Answer(shown(noted))


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


async def _speaks_for(gateway: Gateway, caller: Caller, gate: Row, kind: str) -> str:
    """The approver whose substitute the caller is; empty for who decides in their own name. Raises a 403 `Problem`."""
    asked = [gate["assignee"]] if gate["assignee"] else gate["approvers"]
    if not asked or caller.user_id in asked:
        return ""
    whose = (caller.organization_id, caller.project_id, caller.user_id)
    found = await gateway.database.row("substituted", *whose, asked, utc(gateway.now()))
    if found is not None:
        return str(found["reviewer_id"])
    if gate["assignee"]:
        raise forbidden(f"{gate['assignee']} is to decide on this {'gate' if kind == 'approval' else kind}.")
    raise forbidden(f"You are not among the approvers of this {'gate' if kind == 'approval' else kind}.")


def _check_other_eyes(gateway: Gateway, gate: Row, *people: str) -> None:
    """Raises a 403 `Problem` for who started the execution with a key of theirs: approvals knows the key, not whose it is."""
    starter, rules = gate["user_id"], parsed(gate["rules"]) or {}
    key = gateway.keys.get(starter.removeprefix(KEY_USER)) if starter.startswith(KEY_USER) else None
    if key is not None and rules.get("four_eyes") and key.said.made_by in people:
        raise forbidden(f"{key.said.made_by} has started the execution with a key, and somebody else has to decide.")


async def _journaled(gateway: Gateway, caller: Caller, gate: Row, query: str, identifier: str) -> Row | None:
    """What the read models say of a submission, wish or comment once they know it; None if that takes too long.

    Asked again only when the projector has moved on in the journal of approvals.
    """
    place = (APPROVAL_EVENTS, partition_of(gate["execution_id"], EXECUTION_PARTITIONS))
    whose = (caller.organization_id, caller.project_id, gate["approval_id"])
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                seen = await gateway.positions.current(place)
                row = await gateway.database.row(query, *whose, identifier)
                if row is not None and (query == "comment" or row["status"] != "pending" or row["word"] is not None):
                    return row
                await gateway.positions.wait({place: seen + 1}, WAIT_SECONDS)
    except TimeoutError:
        return None
    except Problem:
        return None  # the database went away: it was submitted, and that is all that is known


async def _settled(gateway: Gateway, caller: Caller, gate: Row, submission: str) -> Row:
    whose = (caller.organization_id, caller.project_id, gate["approval_id"])
    return await gateway.database.row("submission", *whose, submission) or {**gate, "word": None}


def _outcome(gate: Row, submission: str, body: DecisionRequest) -> dict[str, Any]:
    """The gate if this submission counts; a 403 or 409 `Problem` if it does not."""
    word = parsed(gate["word"])
    if gate["submission_id"] == submission and gate["status"] != "pending":
        if (gate["status"] if word is None else word["decision"], gate["comment"]) != (body.decision, body.comment):
            raise key_reused()
        return shown(gate)
    if word is not None and word["type"] == "approval.voted":
        return shown(gate)
    if word is not None:
        raise _refused(word)
    raise _decided_before(gate)


def _decided_before(gate: Row) -> Problem:
    by = f" by {gate['decided_by']}" if gate["decided_by"] else ""
    return conflict("ALREADY_DECIDED", f"The gate was {gate['status']}{by} before.")


def _refused(word: dict[str, Any]) -> Problem:
    code, reason = word.get("code", "FORBIDDEN"), word["reason"]
    if code == "FORBIDDEN":
        return forbidden(f"The decision was refused: {reason}.")
    return conflict(code, f"It does not count: {reason}.")


def shown(gate: Row) -> dict[str, Any]:
    """As the API answers it."""
    found = renamed(gate, "approval_id", "submission_id", "word", "is_suggestion", "level", "user_id")
    return found | {"priority": NAMES_OF_PRIORITIES[gate["priority"]], "escalations": gate["level"]}
