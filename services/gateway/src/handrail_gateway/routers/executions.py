"""Executions: what they are, what happened, what happens, and steering them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Path, Query, Response
from handrail_contracts.envelope import utc
from pydantic import AwareDatetime

from handrail_gateway.answers import Answer, parsed, renamed
from handrail_gateway.controls import accepted, filter_arguments, steer
from handrail_gateway.database import Row
from handrail_gateway.differences import differences
from handrail_gateway.executions import find
from handrail_gateway.gateway import CallerDep, Gateway, GatewayDep
from handrail_gateway.idempotency import Key, request_id
from handrail_gateway.identity.caller import Caller
from handrail_gateway.paging import CursorText, Limit, decode_cursor, encode_cursor, page
from handrail_gateway.problems import invalid
from handrail_gateway.schemas import (
    Comparison,
    ControlAccepted,
    ControlRequest,
    Execution,
    ExecutionPage,
    ExecutionStatus,
    Export,
    Filter,
    HistoryPage,
    ModelCallPage,
    SignalRequest,
    Timeline,
    Why,
)
from handrail_gateway.sse import ExecutionStream, StreamResponse
from handrail_gateway.steering import check
from handrail_gateway.streaming import START, TERMINAL, frames_of, parse_position
from handrail_gateway.understanding import timeline, why

TIMELINE_EVENTS = 10_000

router = APIRouter(prefix="/executions", tags=["executions"])

ExecutionId = Annotated[str, Path(min_length=1, max_length=200)]


@router.get("", response_model=ExecutionPage)
async def list_executions(
    gateway: GatewayDep,
    caller: CallerDep,
    workflow_id: Annotated[str | None, Query(max_length=200)] = None,
    status: ExecutionStatus | None = None,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="of the workflow")] = None,
    started_after: AwareDatetime | None = None,
    started_before: AwareDatetime | None = None,
    text: Annotated[str | None, Query(min_length=1, max_length=200, description="in the input")] = None,
    attribute: Annotated[list[str] | None, Query(max_length=20, description="`name:value`, each of them")] = None,
    session_id: Annotated[str | None, Query(max_length=200)] = None,
    parent_id: Annotated[str | None, Query(max_length=200)] = None,
    origin_id: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Answer:
    """Latest first; what is given must all hold."""
    wanted = Filter(
        workflow_id=workflow_id, status=status, version=version, started_after=started_after,
        started_before=started_before, text=text, attributes=_attributes(attribute), session_id=session_id,
        parent_id=parent_id, origin_id=origin_id,
    )  # fmt: skip
    if not wanted.model_dump(exclude_none=True, exclude={"workflow_id", "status"}):
        return await list_page(gateway, caller, workflow_id, status, limit, cursor)
    after = decode_cursor(cursor, datetime, str)
    whose = (caller.organization_id, caller.project_id, status, *after, limit + 1)
    rows = await gateway.database.fetch("search_executions", *whose, *filter_arguments(wanted))
    return _page(rows, limit)


def _attributes(pairs: list[str] | None) -> dict[str, Any] | None:
    """`priority:3` and `vip:true` look for a number and for a truth value, `customer:ACME` for a text."""
    if pairs is None:
        return None
    found: dict[str, Any] = {}
    for pair in pairs:
        name, colon, value = pair.partition(":")
        if not colon or not name:
            raise invalid(
                "An attribute is looked for as name:value.", [{"path": "query.attribute", "message": pair[:100]}]
            )
        try:
            read = orjson.loads(value)
        except orjson.JSONDecodeError:
            read = value
        found[name] = read if isinstance(read, bool | int | float | str) else value
    return found


async def list_page(
    gateway: Gateway, caller: Caller, workflow_id: str | None, status: str | None, limit: int, cursor: str | None
) -> Answer:
    after = decode_cursor(cursor, datetime, str)
    arguments = (caller.organization_id, caller.project_id, status, *after, limit + 1)
    rows = await (
        gateway.database.fetch("list_executions", *arguments)
        if workflow_id is None
        else gateway.database.fetch("list_executions_of_workflow", *arguments, workflow_id)
    )
    return _page(rows, limit)


def _page(rows: Sequence[Row], limit: int) -> Answer:
    kept, next_cursor = page(rows, limit, lambda row: (row["started_at"], row["execution_id"]))
    return Answer({"items": [renamed(row, "execution_id") for row in kept], "next_cursor": next_cursor})


@router.get("/{execution_id}", response_model=Execution)
async def get_execution(execution_id: ExecutionId, gateway: GatewayDep, caller: CallerDep) -> Answer:
    row = await find(gateway, caller, execution_id, "execution_with_steps")
    return Answer(renamed(row, "execution_id", "last_n"))


@router.get("/{execution_id}/events", response_model=HistoryPage)
async def list_events(
    execution_id: ExecutionId, gateway: GatewayDep, caller: CallerDep, limit: Limit = 100, cursor: CursorText = None
) -> Answer:
    """The history, from the beginning: every event of the scheduler's journal about this execution."""
    (after,) = decode_cursor(cursor, int)
    await find(gateway, caller, execution_id)
    whose = (caller.organization_id, caller.project_id, execution_id)
    rows = await gateway.database.fetch("history", *whose, after or 0, limit + 1)
    events = [event for row in rows for event in _events_of(row) if event["n"] > (after or 0)]
    next_cursor = encode_cursor(events[limit - 1]["n"]) if len(events) > limit else None
    return Answer({"items": events[:limit], "next_cursor": next_cursor})


@router.get("/{execution_id}/model-calls", response_model=ModelCallPage)
async def list_model_calls(
    execution_id: ExecutionId, gateway: GatewayDep, caller: CallerDep, limit: Limit = 100, cursor: CursorText = None
) -> Answer:
    """What its agents asked of language models: tokens, cost, time. Recorded when an attempt ends, however it ends."""
    after, number = decode_cursor(cursor, int, int)
    await find(gateway, caller, execution_id)
    whose = (caller.organization_id, caller.project_id, execution_id)
    rows = await gateway.database.fetch("model_calls", *whose, after, number, limit + 1)
    totals = await gateway.database.row("model_calls_in_all", *whose)
    kept, next_cursor = page(rows, limit, lambda row: (row["n"], row["number"]))
    items = [
        {"at": row["at"], "step_id": row["step_id"], "attempt": row["attempt"], **orjson.loads(row["call"])}
        for row in kept
    ]
    return Answer({"items": items, "totals": dict(totals or {}), "next_cursor": next_cursor})


@router.get("/{execution_id}/export", response_model=Export)
async def export_execution(execution_id: ExecutionId, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """The whole story as one file, with the definitions that it ran by: `handrail debug FILE` goes through it again."""
    row = await find(gateway, caller, execution_id)
    whose = (caller.organization_id, caller.project_id)
    rows = await gateway.database.fetch("records", *whose, execution_id)
    records = [
        {"at": found["at"], "source": found["source"], "events": orjson.loads(found["events"])} for found in rows
    ]
    versions = {
        event["workflow_version"] for record in records for event in record["events"] if "workflow_version" in event
    }
    definitions = {}
    for version in sorted(versions):
        saved = await gateway.database.row("workflow_version", *whose, row["workflow_id"], version)
        if saved is not None:
            definitions[str(version)] = parsed(saved["definition"])
    tenant = {"organization_id": caller.organization_id, "project_id": caller.project_id}
    name = f'attachment; filename="execution-{execution_id}.json"'
    return Answer(
        {
            "format": "handrail-execution/1", "execution_id": execution_id, "workflow_id": row["workflow_id"],
            "definitions": definitions, **tenant, "records": records,
        },
        headers={"Content-Disposition": name},
    )  # fmt: skip


@router.get("/{execution_id}/compare", response_model=Comparison)
async def compare_executions(
    execution_id: ExecutionId,
    gateway: GatewayDep,
    caller: CallerDep,
    other: Annotated[str, Query(alias="with", min_length=1, max_length=200)],
) -> Answer:
    """Two executions side by side, such as a recorded one and its fork: what differs, steps matched by their id."""
    left, right = [await find(gateway, caller, each, "execution_with_steps") for each in (execution_id, other)]
    return Answer({"left": execution_id, "right": other, "changes": list(differences(_facts(left), _facts(right)))})


def _facts(row: Row) -> dict[str, Any]:
    kept = ("step_id", "status", "input", "result")
    steps = [{name: step[name] for name in kept} for step in parsed(row["steps"])]
    return {"status": row["status"], "result": parsed(row["result"]), "input": parsed(row["input"]), "steps": steps}


@router.get("/{execution_id}/why", response_model=Why)
async def explain(execution_id: ExecutionId, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """What the execution is waiting for, in one sentence and wait by wait."""
    row = await find(gateway, caller, execution_id, "execution_with_steps")
    return Answer({"execution_id": execution_id, **why(row, parsed(row["steps"]))})


@router.get("/{execution_id}/timeline", response_model=Timeline)
async def get_timeline(execution_id: ExecutionId, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """Where the time went: every attempt of every step, in the order in which they began; the latest 10,000 events count."""
    row = await find(gateway, caller, execution_id)
    whose = (caller.organization_id, caller.project_id, execution_id)
    after = max(0, (row["last_n"] or 0) - TIMELINE_EVENTS)
    rows = await gateway.database.fetch("history", *whose, after, TIMELINE_EVENTS)
    attempts = timeline(event for found in rows for event in _events_of(found))
    ended = row["completed_at"] or utc(gateway.now())
    seconds = round((ended - row["started_at"]).total_seconds(), 6)
    return Answer({"execution_id": execution_id, "status": row["status"], "seconds": seconds, "attempts": attempts})


def _events_of(row: Row) -> list[dict[str, Any]]:
    return [{"at": row["at"], **event} for event in orjson.loads(row["events"])]


@router.post("/{execution_id}/cancel", status_code=202, response_model=ControlAccepted)
async def cancel_execution(
    execution_id: ExecutionId,
    gateway: GatewayDep,
    caller: CallerDep,
    body: ControlRequest | None = None,
    key: Key = None,
) -> Answer:
    """Stops it: what runs is given up, the rest is skipped. It counts once journaled: look at the status, or at the stream."""
    return await _control(gateway, caller, execution_id, "cancel", body or ControlRequest(), key)


@router.post("/{execution_id}/terminate", status_code=202, response_model=ControlAccepted)
async def terminate_execution(
    execution_id: ExecutionId,
    gateway: GatewayDep,
    caller: CallerDep,
    body: ControlRequest | None = None,
    key: Key = None,
) -> Answer:
    """Ends it at once: unlike a cancel, nothing that it did is undone."""
    return await _control(gateway, caller, execution_id, "terminate", body or ControlRequest(), key)


@router.post("/{execution_id}/pause", status_code=202, response_model=ControlAccepted)
async def pause_execution(
    execution_id: ExecutionId,
    gateway: GatewayDep,
    caller: CallerDep,
    body: ControlRequest | None = None,
    key: Key = None,
) -> Answer:
    """What runs goes on to its end; nothing new begins. Time-outs go on, too."""
    return await _control(gateway, caller, execution_id, "pause", body or ControlRequest(), key)


@router.post("/{execution_id}/resume", status_code=202, response_model=ControlAccepted)
async def resume_execution(
    execution_id: ExecutionId,
    gateway: GatewayDep,
    caller: CallerDep,
    body: ControlRequest | None = None,
    key: Key = None,
) -> Answer:
    """Goes on where a pause held it. Of one that is not paused it changes nothing."""
    return await _control(gateway, caller, execution_id, "resume", body or ControlRequest(), key)


@router.post("/{execution_id}/signals/{signal}", status_code=202, response_model=ControlAccepted)
async def send_signal(
    execution_id: ExecutionId,
    signal: Annotated[str, Path(min_length=1, max_length=100)],
    gateway: GatewayDep,
    caller: CallerDep,
    body: SignalRequest | None = None,
    key: Key = None,
) -> Answer:
    """For the step that waits for it, now or later; one signal is for one step."""
    return await _control(gateway, caller, execution_id, "signal", body or SignalRequest(), key, signal)


async def _control(
    gateway: Gateway,
    caller: Caller,
    execution_id: str,
    action: Literal["cancel", "terminate", "pause", "resume", "signal"],
    body: ControlRequest,
    key: str | None,
    signal: str = "",
) -> Answer:
    found = await find(gateway, caller, execution_id)
    request = request_id(caller, f"executions/{execution_id}/{action}/{signal}", key)
    if action != "cancel" or found["status"] != "cancelled":
        check(action, found)
        data = body.data if isinstance(body, SignalRequest) else None
        await steer(gateway, caller, found, action, body, request, key, signal=signal, data=data)
    return accepted(found, request)


@router.get(
    "/{execution_id}/stream",
    response_class=Response,
    responses={
        200: {"description": "server-sent events; see docs/guides/api.md", "content": {"text/event-stream": {}}},
        204: {"description": "the execution has ended, and `Last-Event-ID` names its last event"},
    },
)
async def stream_execution(
    execution_id: ExecutionId,
    gateway: GatewayDep,
    caller: CallerDep,
    header: Annotated[str | None, Header(alias="Last-Event-ID", max_length=40)] = None,
    last_event_id: Annotated[
        str | None, Query(max_length=40, description="for clients that cannot set the header")
    ] = None,
) -> Response:
    """The history, then what happens, until the execution ends. `Last-Event-ID` resumes: nothing missed, nothing twice."""
    text = header or last_event_id
    place = parse_position(text) if text else (START, None)
    if place is None:
        raise invalid("Last-Event-ID is none of ours.", [{"path": "header.Last-Event-ID", "message": "`<n>.<k>`"}])
    position, progress = place
    found = await find(gateway, caller, execution_id)
    if text and found["status"] in TERMINAL and await _has_all(gateway, caller, found, position):
        return Response(status_code=204)
    stream = ExecutionStream(
        gateway.database, gateway.positions, gateway.tail, gateway.progress, caller, execution_id, position, progress,
        since=0.0 if found["started_at"] is None else found["started_at"].timestamp(),
    )  # fmt: skip
    return StreamResponse(stream, found["status"])


async def _has_all(gateway: Gateway, caller: Caller, found: Row, position: tuple[int, int]) -> bool:
    """Whether the client has the last frame of a finished execution."""
    whose = (caller.organization_id, caller.project_id, found["execution_id"])
    rows = await gateway.database.fetch("history", *whose, found["last_n"] - 1, 1)
    last = [frame.position for row in rows for frame in frames_of("", orjson.loads(row["events"]))]
    return bool(last) and last[-1] is not None and position >= last[-1]
