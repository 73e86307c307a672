"""Schedules: workflows that start again and again."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from handrail_contracts.envelope import utc
from handrail_contracts.triggers import Timetable
from handrail_graph import upcoming

from handrail_gateway import definitions, scheduling
from handrail_gateway.answers import Answer, parsed, renamed
from handrail_gateway.gateway import CallerDep, Gateway, GatewayDep
from handrail_gateway.idempotency import Key, request_id
from handrail_gateway.identity.caller import Caller
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.problems import conflict
from handrail_gateway.schemas import Schedule, SchedulePage, ScheduleRequest, Upcoming

router = APIRouter(prefix="/schedules", tags=["schedules"])

ScheduleId = Annotated[str, Path(min_length=1, max_length=180)]
OF_TIMETABLE = {"cron", "timezone", "every_seconds", "start_at", "end_at"}


@router.post("", status_code=201, response_model=Schedule)
async def create_schedule(body: ScheduleRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Answer:
    """Starts the workflow at every due time, once, however many schedulers run."""
    schedule_id = request_id(caller, "schedules", key)
    gateway.recent.check(schedule_id, key, body.model_dump(mode="json"))
    return await _define(gateway, caller, schedule_id, schedule_id, body, 201)


@router.get("", response_model=SchedulePage)
async def list_schedules(
    gateway: GatewayDep,
    caller: CallerDep,
    workflow_id: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Answer:
    (after,) = decode_cursor(cursor, str)
    whose = (caller.organization_id, caller.project_id)
    rows = await gateway.database.fetch("list_schedules", *whose, workflow_id, after, limit + 1)
    kept, next_cursor = page(rows, limit, lambda row: (row["schedule_id"],))
    return Answer({"items": [renamed(row, "schedule_id") for row in kept], "next_cursor": next_cursor})


@router.get("/{schedule_id}", response_model=Schedule)
async def get_schedule(schedule_id: ScheduleId, gateway: GatewayDep, caller: CallerDep) -> Answer:
    return Answer(renamed(await scheduling.find(gateway, caller, schedule_id), "schedule_id"))


@router.get("/{schedule_id}/upcoming", response_model=Upcoming)
async def list_upcoming(
    schedule_id: ScheduleId,
    gateway: GatewayDep,
    caller: CallerDep,
    count: Annotated[int, Query(ge=1, le=100)] = 10,
) -> Answer:
    """The next due times from now, whether or not it is paused."""
    row = await scheduling.find(gateway, caller, schedule_id)
    timetable = Timetable.model_validate(parsed(row["timetable"]))
    return Answer({"due": upcoming(timetable, utc(gateway.now()), count)})


@router.put("/{schedule_id}", response_model=Schedule)
async def replace_schedule(
    schedule_id: ScheduleId, body: ScheduleRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """What was due before is not made up for. The schedule of a workflow's own trigger is changed with the workflow."""
    row = await scheduling.find(gateway, caller, schedule_id)
    _check_free(row, schedule_id)
    request = request_id(caller, f"schedules/{schedule_id}/put", key)
    return await _define(gateway, caller, schedule_id, request, body, 200)


@router.post("/{schedule_id}/pause", response_model=Schedule)
async def pause_schedule(schedule_id: ScheduleId, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Answer:
    """What is due meanwhile is not run later."""
    return await _change(gateway, caller, schedule_id, "pause", key, paused=True)


@router.post("/{schedule_id}/resume", response_model=Schedule)
async def resume_schedule(schedule_id: ScheduleId, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Answer:
    return await _change(gateway, caller, schedule_id, "resume", key, paused=False)


@router.delete("/{schedule_id}", status_code=204, response_class=Response)
async def delete_schedule(schedule_id: ScheduleId, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Response:
    """Runs that it has started go on."""
    row = await scheduling.find(gateway, caller, schedule_id)
    _check_free(row, schedule_id)
    await _change(gateway, caller, schedule_id, "delete", key, removed=True)
    return Response(status_code=204)


def _check_free(row: Any, schedule_id: str) -> None:
    if schedule_id == row["workflow_id"]:
        detail = "The schedule belongs to the workflow's own trigger: change the trigger, or pause the schedule."
        raise conflict("OWNED_BY_WORKFLOW", detail)


async def _define(
    gateway: Gateway, caller: Caller, schedule_id: str, request: str, body: ScheduleRequest, status: int
) -> Answer:
    timetable = scheduling.checked(Timetable.model_validate(body.model_dump(include=OF_TIMETABLE)))
    await definitions.newest(gateway, caller, body.workflow_id)
    rest = body.model_dump(exclude=OF_TIMETABLE)
    await scheduling.define(gateway, caller, schedule_id, request, timetable=timetable, **rest)
    row = await scheduling.find(gateway, caller, schedule_id)
    return Answer(renamed(row, "schedule_id"), status, {"Location": f"/api/v1/schedules/{schedule_id}"})


async def _change(
    gateway: Gateway, caller: Caller, schedule_id: str, what: str, key: str | None, **changes: Any
) -> Answer:
    row = await scheduling.find(gateway, caller, schedule_id)
    fields = {
        "workflow_id": row["workflow_id"], "workflow_version": row["workflow_version"], "overlap": row["overlap"],
        "missed": row["missed"], "paused": row["paused"], "note": row["note"], "input": parsed(row["input"]),
        "context": parsed(row["context"]) or {}, "timetable": Timetable.model_validate(parsed(row["timetable"])),
    }  # fmt: skip
    request = request_id(caller, f"schedules/{schedule_id}/{what}", key)
    await scheduling.define(gateway, caller, schedule_id, request, **(fields | changes))
    found = await gateway.database.row("schedule", caller.organization_id, caller.project_id, schedule_id)
    return Answer(renamed(found or row, "schedule_id"))
