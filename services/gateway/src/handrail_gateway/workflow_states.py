"""How workflows stand: as their latest execution does."""

from collections.abc import Iterable, Mapping
from typing import Any

from handrail_gateway.database import Row
from handrail_gateway.gateway import Gateway
from handrail_gateway.identity.caller import Caller

States = Mapping[str, Mapping[str, Any]]
"""Status and progress, by workflow; those without an execution have none."""
NEW: States = {}
IDLE: Mapping[str, Any] = {"status": "active", "progress": 0}


async def of(gateway: Gateway, caller: Caller, rows: Iterable[Row]) -> States:
    """Progress is what the steps have come to on the average; of one that has completed, all."""
    ids = [row["workflow_id"] for row in rows]
    if not ids:
        return NEW
    found = await gateway.database.fetch("workflow_states", caller.organization_id, caller.project_id, ids)
    return {row["workflow_id"]: {"status": row["status"], "progress": _progress(row)} for row in found}


def _progress(row: Row) -> int:
    if row["status"] == "completed":
        return 100
    steps = max(row["steps"], row["planned"] or 0)
    return min(100, row["done"] // steps) if steps else 0
