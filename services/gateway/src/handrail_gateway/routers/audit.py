"""What happened, for those who have to prove it."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from handrail_gateway.answers import Answer
from handrail_gateway.database import Row
from handrail_gateway.gateway import CallerDep, GatewayDep
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.schemas import AuditPage

router = APIRouter(prefix="/audit", tags=["audit"])

_KEYS = ("at", "partition", "offset", "ordinal")


@router.get("/approvals", response_model=AuditPage)
async def audit_approvals(
    gateway: GatewayDep,
    caller: CallerDep,
    since: Annotated[AwareDatetime | None, Query(description="from then on")] = None,
    until: Annotated[AwareDatetime | None, Query(description="before then")] = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Answer:
    """Everything that happened at the tenant's gates, oldest first: who, when, from where, and on what (`digest`).

    `link` is the journal's hash chain after that event's record; `handrail audit verify` checks the chain against the journal.
    """
    after = decode_cursor(cursor, datetime, int, int, int)
    whose = (caller.organization_id, caller.project_id)
    rows = await gateway.database.fetch("audit_trail", *whose, since, until, *after, limit + 1)
    kept, next_cursor = page(rows, limit, lambda row: tuple(row[name] for name in _KEYS))
    return Answer({"items": [_entry(row) for row in kept], "next_cursor": next_cursor})


def _entry(row: Row) -> dict[str, Any]:
    names = ("at", "approval_id", "execution_id", "workflow_id", "step_id", "partition", "offset", "event")
    return {**{name: row[name] for name in names}, "link": row["chain"]}
