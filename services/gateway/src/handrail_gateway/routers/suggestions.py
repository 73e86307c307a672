"""What agents suggest: people send it back with a comment, correct it, approve or reject it."""

from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Path, Query

from handrail_gateway import gates, suggesting
from handrail_gateway.answers import Answer, parsed
from handrail_gateway.database import Row
from handrail_gateway.differences import differences
from handrail_gateway.gates import NOTED, OriginDep
from handrail_gateway.gateway import CallerDep, Gateway, GatewayDep
from handrail_gateway.given import may_be_given, plain, scoped
from handrail_gateway.idempotency import Key, request_id
from handrail_gateway.identity.caller import Caller
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.schemas import (
    ApprovalStatus,
    ApproveRequest,
    CommentRequest,
    DecisionRequest,
    NewSuggestions,
    RejectRequest,
    Suggestion,
    SuggestionComment,
    SuggestionDecision,
    SuggestionPage,
)

router = APIRouter(prefix="/suggestions", tags=["suggestions"])


def _named(suggestion_id: Annotated[str, Path(min_length=1, max_length=200)], caller: CallerDep) -> str:
    return scoped(caller, suggestion_id) if may_be_given(suggestion_id) else suggestion_id


SuggestionId = Annotated[str, Depends(_named)]
"""As an agent named it, or as the platform did."""
Filter = Annotated[str | None, Query(max_length=200)]
KIND = "suggestion"


@router.get("", response_model=SuggestionPage)
async def list_suggestions(
    gateway: GatewayDep,
    caller: CallerDep,
    status: ApprovalStatus | None = None,
    execution_id: Filter = None,
    task_id: Filter = None,
    agent_id: Filter = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Answer:
    """Oldest first."""
    after = decode_cursor(cursor, datetime, str)
    filters = (status, execution_id, task_id, agent_id)
    rows = await gateway.database.fetch(
        "list_suggestions", caller.organization_id, caller.project_id, *filters, *after, limit + 1
    )
    kept, next_cursor = page(rows, limit, lambda row: (row["created_at"], row["approval_id"]))
    return Answer({"items": [_shown(row) for row in kept], "next_cursor": next_cursor})


@router.post("", status_code=201, response_model=Suggestion | list[Suggestion])
async def create_suggestions(body: NewSuggestions, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Answer:
    """What an agent that works by itself suggests on its task, for a person to decide; one, or each of a list, all or none. The
    agent reads the decision here, and acts on it itself.
    """
    several = body if isinstance(body, list) else [body]
    made = await suggesting.suggest(gateway, caller, several, request_id(caller, "suggestions", key))
    answers = [await _whole(gateway, caller, identifier) for identifier in made]
    if isinstance(body, list):
        return Answer(answers, 201)
    return Answer(answers[0], 201, {"Location": f"/api/v1/suggestions/{answers[0]['id']}"})


@router.get("/{suggestion_id}", response_model=Suggestion)
async def get_suggestion(suggestion_id: SuggestionId, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """With its revisions and what each changed, its comments, and what came of its action."""
    return Answer(await _whole(gateway, caller, suggestion_id))


async def _whole(gateway: Gateway, caller: Caller, suggestion_id: str) -> dict[str, Any]:
    found = await gates.find_gate(gateway, caller, suggestion_id, KIND)
    history, result = parsed(found["history"]), parsed(found["result"])
    return {
        **_shown(found),
        "revisions": _revisions(history),
        "comments": [_comment(entry) for entry in history if entry["event"]["type"] == "approval.commented"],
        "result": None if result is None else _result(result),
    }


@router.post("/{suggestion_id}/approve", response_model=SuggestionDecision, responses=NOTED)
async def approve(
    suggestion_id: SuggestionId,
    gateway: GatewayDep,
    caller: CallerDep,
    origin: OriginDep,
    body: ApproveRequest | None = None,
    key: Key = None,
) -> Answer:
    """Its action is carried out, once; with `suggested_data`, what you made of it. Name the `revision` that you have seen, and
    an approval of one that was revised meanwhile does not count.
    """
    body = body or ApproveRequest()
    decision = DecisionRequest(
        decision="approved", comment=body.notes, revision=body.revision, data=body.suggested_data
    )
    return _decided(await gates.decide(gateway, caller, suggestion_id, decision, key, origin, KIND))


@router.post("/{suggestion_id}/reject", response_model=SuggestionDecision, responses=NOTED)
async def reject(
    suggestion_id: SuggestionId,
    gateway: GatewayDep,
    caller: CallerDep,
    origin: OriginDep,
    body: RejectRequest | None = None,
    key: Key = None,
) -> Answer:
    """Nothing of it happens; the step fails, or goes on if its definition says so."""
    decision = DecisionRequest(decision="rejected", comment="" if body is None else body.notes)
    return _decided(await gates.decide(gateway, caller, suggestion_id, decision, key, origin, KIND))


@router.post("/{suggestion_id}/comments", status_code=201, response_model=SuggestionComment)
async def comment(
    suggestion_id: SuggestionId, body: CommentRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """From one who may decide, it sends the suggestion back to its agent, unless `revise` is false."""
    task_id = parsed((await gates.find_gate(gateway, caller, suggestion_id, KIND))["suggestion"])["task_id"]
    answer = await gates.comment(gateway, caller, suggestion_id, body, key, KIND)
    whose = {"task_id": task_id, "author_id": caller.user_id, "author_type": "human"}
    return Answer({**orjson.loads(answer.body), "suggestion_id": plain(suggestion_id), **whose}, 201)


def _decided(answer: Answer) -> Answer:
    """With the words of suggestions beside those of gates."""
    gate = orjson.loads(answer.body)
    own = {"suggestion_id": plain(gate["id"]), "approved_by": gate["decided_by"], "notes": gate["comment"]}
    return Answer({**gate, "id": plain(gate["id"]), **own}, answer.status_code)


def _shown(row: Row) -> dict[str, Any]:
    suggested = parsed(row["suggestion"])
    names = ("task_id", "action", "reasoning", "confidence", "suggested_data", "revision")
    kept = ("execution_id", "step_id", "status", "approvers", "deadline", "created_at")
    return {
        "id": plain(row["approval_id"]),
        **{name: suggested[name] for name in names},
        "agent_id": suggested["agent"],
        "workflow_id": plain(row["workflow_id"]),
        **{name: row[name] for name in kept},
        "decided_data": row["data"],
        "approved_by": row["decided_by"],
        "notes": row["comment"],
        "decided_at": row["decided_at"],
    }


def _revisions(history: list[Any]) -> list[dict[str, Any]]:
    """Each with what it changed in the one before."""
    found: list[dict[str, Any]] = []
    for entry in history:
        suggested = entry["event"].get("suggestion")
        if suggested is not None:
            before = found[-1]["suggested_data"] if found else suggested["suggested_data"]
            names = ("revision", "action", "reasoning", "confidence", "suggested_data")
            changes = list(differences(before, suggested["suggested_data"]))
            found.append({**{name: suggested[name] for name in names}, "created_at": entry["at"], "changes": changes})
    return found


def _comment(entry: Any) -> dict[str, Any]:
    event = entry["event"]
    return {
        "id": event["comment_id"],
        "author_id": event["author"],
        "author_type": event.get("author_type", "human"),
        "text": event["text"],
        "sends_back": event.get("revises") is not None,
        "created_at": entry["at"],
    }


def _result(found: Any) -> dict[str, Any]:
    event = found["event"]
    return {"type": event["result_type"], "timestamp": found["at"], "details": event["details"]}
