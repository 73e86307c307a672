"""Changing the course of executions: retry, skip, edit, rewind, migrate, fork; one by one or all that match."""

from typing import Any

from fastapi import APIRouter
from handrail_graph import unplaced

from handrail_gateway import controls
from handrail_gateway.answers import Answer, parsed
from handrail_gateway.database import Row
from handrail_gateway.executions import find
from handrail_gateway.gateway import CallerDep, Gateway, GatewayDep
from handrail_gateway.idempotency import Key, request_id
from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import conflict, invalid
from handrail_gateway.routers.executions import ExecutionId
from handrail_gateway.schemas import (
    BulkAnswer,
    BulkRequest,
    ControlAccepted,
    ControlRequest,
    EditRequest,
    Forked,
    ForkRequest,
    MigrateRequest,
    Migration,
    RetryRequest,
    SkipRequest,
    StepRequest,
)
from handrail_gateway.steering import check, retried
from handrail_gateway.streaming import TERMINAL

router = APIRouter(prefix="/executions", tags=["executions"])

DRY_RUN = {"description": "with `dry_run`: what would happen"}


@router.post("/bulk", status_code=202, response_model=BulkAnswer, responses={200: {"model": BulkAnswer, **DRY_RUN}})
async def bulk_control(body: BulkRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Answer:
    """One action for every execution that the filter matches; `dry_run` counts, and says which could not take it."""
    if body.action in ("skip", "rewind") and not body.step_id:
        raise invalid("Name the step.", [{"path": "step_id", "message": f"{body.action} needs a step"}])
    if body.action == "migrate" and body.version is None:
        raise invalid("Name the version.", [{"path": "version", "message": "migrate needs a version"}])
    if body.action == "signal" and not body.signal:
        raise invalid("Name the signal.", [{"path": "signal", "message": "signal needs a name"}])
    request = request_id(caller, "executions/bulk", key)
    gateway.recent.check(request, key, body.model_dump(mode="json"))
    answer = await controls.bulk(gateway, caller, body, request)
    return Answer(answer, 200 if body.dry_run else 202)


@router.post("/{execution_id}/retry", status_code=202, response_model=ControlAccepted | Forked)
async def retry_execution(
    execution_id: ExecutionId, gateway: GatewayDep, caller: CallerDep, body: RetryRequest | None = None, key: Key = None
) -> Answer:
    """Of an open execution: another attempt of the failed step, now. Of one that has ended: a new execution that keeps
    all that was completed and does the rest again.
    """
    body = body or RetryRequest()
    row = await _row(gateway, caller, execution_id)
    if row["status"] not in TERMINAL:
        step_id = body.step_id or retried(parsed(row["steps"]))
        return await _steer(gateway, caller, row, "retry", body, key, step_id=step_id, data=body.data)
    if row["status"] == "completed":
        raise conflict("ALREADY_FINISHED", "The execution has completed: nothing failed. Rewind or fork it instead.")
    request = ForkRequest(step_id=body.step_id, reason=body.reason)
    return await _fork(gateway, caller, row, request, key, retry=body.step_id is None)


@router.post("/{execution_id}/rewind", status_code=202, response_model=ControlAccepted | Forked)
async def rewind_execution(
    execution_id: ExecutionId, body: StepRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """Begins the step again and forgets what came after it; what it did is not undone. Of an execution that has ended,
    a new one goes on from there.
    """
    row = await _row(gateway, caller, execution_id)
    if row["status"] in TERMINAL:
        return await _fork(gateway, caller, row, ForkRequest(step_id=body.step_id, reason=body.reason), key)
    return await _steer(gateway, caller, row, "rewind", body, key, step_id=body.step_id)


@router.post("/{execution_id}/skip", status_code=202, response_model=ControlAccepted)
async def skip_step(
    execution_id: ExecutionId, body: SkipRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """The step counts as done, with the output that you give; what it still answers is ignored."""
    row = await _row(gateway, caller, execution_id)
    return await _steer(gateway, caller, row, "skip", body, key, step_id=body.step_id, data=body.output)


@router.post("/{execution_id}/edit", status_code=202, response_model=ControlAccepted)
async def edit_step(
    execution_id: ExecutionId, body: EditRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """The step begins again with another input. Of a gate: approvers, message, show; of a delay: the seconds still to wait."""
    row = await _row(gateway, caller, execution_id)
    return await _steer(gateway, caller, row, "edit", body, key, step_id=body.step_id, data=body.input)


@router.post(
    "/{execution_id}/migrate",
    status_code=202,
    response_model=Migration,
    responses={200: {"model": Migration, **DRY_RUN}},
)
async def migrate_execution(
    execution_id: ExecutionId, body: MigrateRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """Goes on with another version of the workflow, if each step that has begun has its place there."""
    row = await _row(gateway, caller, execution_id)
    check("migrate", row)
    graph = await controls.graph_of(gateway, caller, row["workflow_id"], body.version)
    begun = {
        step["step_id"]: step["step_type"] for step in parsed(row["steps"]) if step["step_type"] and step["attempt"]
    }
    problems = list(unplaced(begun, graph))
    request = request_id(caller, f"executions/{execution_id}/migrate", key)
    told = {
        "execution_id": execution_id, "workflow_id": row["workflow_id"], "status": row["status"], "request_id": request,
        "version": body.version, "possible": not problems, "problems": problems,
    }  # fmt: skip
    if body.dry_run:
        return Answer(told, 200)
    if problems:
        raise conflict("NO_PLACE", f"Version {body.version} has no place for it: {'; '.join(problems[:5])}.")
    await controls.send(gateway, caller, row, request, "migrate", reason=body.reason, version=body.version)
    return Answer(told, 202)


@router.post("/{execution_id}/fork", status_code=202, response_model=Forked)
async def fork_execution(
    execution_id: ExecutionId, gateway: GatewayDep, caller: CallerDep, body: ForkRequest | None = None, key: Key = None
) -> Answer:
    """A new execution from a step of this one, open or ended: what came before the step is taken over, not done again."""
    return await _fork(gateway, caller, await _row(gateway, caller, execution_id), body or ForkRequest(), key)


async def _row(gateway: Gateway, caller: Caller, execution_id: str) -> Row:
    return await find(gateway, caller, execution_id, "execution_with_steps")


async def _steer(
    gateway: Gateway, caller: Caller, row: Row, action: str, body: ControlRequest, key: str | None, **fields: Any
) -> Answer:
    check(action, row, parsed(row["steps"]), fields.get("step_id", ""))
    request = request_id(caller, f"executions/{row['execution_id']}/{action}", key)
    await controls.steer(gateway, caller, row, action, body, request, key, **fields)
    return controls.accepted(row, request)


async def _fork(
    gateway: Gateway, caller: Caller, row: Row, body: ForkRequest, key: str | None, *, retry: bool = False
) -> Answer:
    new_id = request_id(caller, f"executions/{row['execution_id']}/fork", key)
    gateway.recent.check(new_id, key, body.model_dump(mode="json"))
    forked = await controls.fork(gateway, caller, row, body, new_id, retry=retry)
    return Answer(forked, 202, {"Location": f"/api/v1/executions/{new_id}"})
