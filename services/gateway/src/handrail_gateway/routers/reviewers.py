"""Reviewers: whom gates are assigned to, by what they know and how much they have to do."""

from typing import Annotated

from fastapi import APIRouter, Path, Response
from handrail_runtime.signing import callback_secret

from handrail_gateway import reviewers
from handrail_gateway.answers import Answer
from handrail_gateway.gateway import CallerDep, GatewayDep
from handrail_gateway.idempotency import Key
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.problems import unavailable
from handrail_gateway.schemas import CallbackSecret, Reviewer, ReviewerPage, ReviewerRequest

router = APIRouter(prefix="/reviewers", tags=["reviewers"])

ReviewerId = Annotated[str, Path(min_length=1, max_length=320)]


@router.get("", response_model=ReviewerPage)
async def list_reviewers(
    gateway: GatewayDep, caller: CallerDep, limit: Limit = 50, cursor: CursorText = None
) -> Answer:
    """By id, with how many gates each has now."""
    (after,) = decode_cursor(cursor, str)
    rows = await reviewers.look(gateway, caller, after=after, limit=limit + 1)
    kept, next_cursor = page(rows, limit, lambda row: (row["reviewer_id"],))
    return Answer({"items": [reviewers.shown(row) for row in kept], "next_cursor": next_cursor})


@router.get("/callbacks/secret", response_model=CallbackSecret)
async def callback_secret_of(gateway: GatewayDep, caller: CallerDep) -> Answer:
    """What callbacks of your gates are signed with: `X-Handrail-Signature: t=<seconds>,v1=<HMAC-SHA-256 of t.body>`."""
    if not gateway.webhook_key:
        raise unavailable(
            "NOT_CONFIGURED", "This platform has no HANDRAIL_WEBHOOK_KEY, so callbacks are not signed.", 3600
        )
    return Answer({"secret": callback_secret(gateway.webhook_key, caller.organization_id, caller.project_id)})


@router.get("/{reviewer_id}", response_model=Reviewer)
async def get_reviewer(reviewer_id: ReviewerId, gateway: GatewayDep, caller: CallerDep) -> Answer:
    return Answer(reviewers.shown(await reviewers.find(gateway, caller, reviewer_id)))


@router.put("/{reviewer_id}", response_model=Reviewer)
async def set_reviewer(
    reviewer_id: ReviewerId, body: ReviewerRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """From now on they are as the body says. The id is the `sub` of their tokens."""
    return Answer(await reviewers.define(gateway, caller, reviewer_id, body, key))


@router.delete("/{reviewer_id}", status_code=204, response_class=Response)
async def remove_reviewer(reviewer_id: ReviewerId, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Response:
    """They get nothing any more; what they have, they keep."""
    await reviewers.remove(gateway, caller, reviewer_id, key)
    return Response(status_code=204)
