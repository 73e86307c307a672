"""What went wrong underneath."""

from datetime import datetime

from fastapi import APIRouter

from handrail_gateway.answers import Answer, renamed
from handrail_gateway.gateway import CallerDep, GatewayDep
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.schemas import DeadLetterPage

router = APIRouter(tags=["operations"])


@router.get("/dead-letters", response_model=DeadLetterPage)
async def list_dead_letters(
    gateway: GatewayDep, caller: CallerDep, limit: Limit = 50, cursor: CursorText = None
) -> Answer:
    """Records about the tenant's executions that a service could not take, latest first."""
    after = decode_cursor(cursor, datetime, str)
    rows = await gateway.database.fetch(
        "list_dead_letters", caller.organization_id, caller.project_id, *after, limit + 1
    )
    kept, next_cursor = page(rows, limit, lambda row: (row["occurred_at"], row["event_id"]))
    return Answer({"items": [renamed(row, "event_id") for row in kept], "next_cursor": next_cursor})
