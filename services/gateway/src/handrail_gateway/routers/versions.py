"""The versions of a workflow, and how its executions went."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from handrail_gateway import definitions
from handrail_gateway.answers import Answer, parsed
from handrail_gateway.differences import differences
from handrail_gateway.gateway import CallerDep, GatewayDep
from handrail_gateway.idempotency import Key
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.routers.workflows import WorkflowId, detail
from handrail_gateway.schemas import Differences, Rollout, RolloutRequest, VersionPage, Workflow, WorkflowStats

router = APIRouter(prefix="/workflows/{workflow_id}", tags=["workflows"])

Version = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("/versions", response_model=VersionPage)
async def list_versions(
    workflow_id: WorkflowId, gateway: GatewayDep, caller: CallerDep, limit: Limit = 50, cursor: CursorText = None
) -> Answer:
    """The newest first. Executions keep the version that they began with."""
    await definitions.newest(gateway, caller, workflow_id)
    (before,) = decode_cursor(cursor, int)
    whose = (caller.organization_id, caller.project_id, workflow_id)
    rows = await gateway.database.fetch("list_versions", *whose, before, limit + 1)
    kept, next_cursor = page(rows, limit, lambda row: (row["version"],))
    return Answer({"items": kept, "next_cursor": next_cursor})


@router.get("/diff", response_model=Differences)
async def compare_versions(
    workflow_id: WorkflowId,
    gateway: GatewayDep,
    caller: CallerDep,
    old: Annotated[int, Query(alias="from", ge=1, le=2**31 - 1)],
    new: Annotated[int, Query(alias="to", ge=1, le=2**31 - 1)],
) -> Answer:
    """What changed between two versions; steps and tasks are matched by their id."""
    before, after = [
        parsed((await definitions.find_version(gateway, caller, workflow_id, version))["definition"])
        for version in (old, new)
    ]
    return Answer({"changes": list(differences(before, after))})


@router.post("/versions/{version}/restore", response_model=Workflow)
async def restore_version(
    workflow_id: WorkflowId, version: Version, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """Saves the definition of an earlier version as the newest one."""
    document = parsed((await definitions.find_version(gateway, caller, workflow_id, version))["definition"])
    return Answer(detail(await definitions.save(gateway, caller, workflow_id, document, key)))


@router.get("/rollout", response_model=Rollout)
async def get_rollout(workflow_id: WorkflowId, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """How starts are shared between two versions; empty if all get the newest."""
    await definitions.newest(gateway, caller, workflow_id)
    row = await definitions.rollout(gateway, caller, workflow_id)
    return Answer(row or {"stable": None, "canary": None, "percent": 0, "updated_at": None})


@router.put("/rollout", response_model=Rollout)
async def set_rollout(
    workflow_id: WorkflowId, body: RolloutRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """A canary: until it is taken away, versions that are saved meanwhile are not started either."""
    for version in (body.stable, body.canary):
        await definitions.find_version(gateway, caller, workflow_id, version)
    at = await definitions.roll_out(gateway, caller, workflow_id, key, **body.model_dump())
    return Answer({**body.model_dump(), "updated_at": at})


@router.delete("/rollout", status_code=204, response_class=Response)
async def delete_rollout(workflow_id: WorkflowId, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Response:
    """All starts get the newest version again. To go back for good, restore an earlier one."""
    await definitions.newest(gateway, caller, workflow_id)
    await definitions.roll_out(gateway, caller, workflow_id, key)
    return Response(status_code=204)


@router.get("/stats", response_model=WorkflowStats)
async def get_stats(workflow_id: WorkflowId, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """How its executions went, and how long they and their steps took; those that go on count by status only."""
    await definitions.newest(gateway, caller, workflow_id)
    whose = (caller.organization_id, caller.project_id, workflow_id)
    counts = {row["status"]: row["count"] for row in await gateway.database.fetch("stats_by_status", *whose)}
    times = await gateway.database.row("stats_of_durations", *whose)
    steps = await gateway.database.fetch("stats_by_step", *whose)
    ended = sum(counts.get(status, 0) for status in ("completed", "failed", "timeout"))
    rate = counts.get("completed", 0) / ended if ended else None
    durations = {"p50_seconds": None, "p95_seconds": None} if times is None else dict(times)
    return Answer({"executions": counts, "success_rate": rate, **durations, "steps": [dict(row) for row in steps]})
