"""Workflows, and starting them."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from handrail_gateway import definitions, executions
from handrail_gateway.answers import Answer, parsed
from handrail_gateway.database import Row
from handrail_gateway.gateway import CallerDep, GatewayDep
from handrail_gateway.idempotency import Key
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.routers.executions import list_page
from handrail_gateway.schemas import (
    Document,
    ExecuteRequest,
    ExecutionAccepted,
    ExecutionPage,
    ExecutionStatus,
    Validation,
    Workflow,
    WorkflowPage,
    WorkflowSummary,
)

router = APIRouter(prefix="/workflows", tags=["workflows"])

WorkflowId = Annotated[str, Path(min_length=1, max_length=200)]


@router.post("", status_code=201, response_model=WorkflowSummary)
async def create_workflow(body: Document, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Answer:
    """Compiles the definition and saves it as version 1. Nothing is stored if it has a problem."""
    row = await definitions.create(gateway, caller, body.document(), key)
    return Answer(summary(row, body.description), 201, {"Location": f"/api/v1/workflows/{row['workflow_id']}"})


@router.get("", response_model=WorkflowPage)
async def list_workflows(
    gateway: GatewayDep, caller: CallerDep, limit: Limit = 50, cursor: CursorText = None
) -> Answer:
    """The newest version of each workflow, latest change first."""
    after = decode_cursor(cursor, datetime, str)
    rows = await gateway.database.fetch("list_workflows", caller.organization_id, caller.project_id, *after, limit + 1)
    kept, next_cursor = page(rows, limit, lambda row: (row["updated_at"], row["workflow_id"]))
    return Answer({"items": [summary(row, row["description"]) for row in kept], "next_cursor": next_cursor})


@router.get("/{workflow_id}", response_model=Workflow)
async def get_workflow(
    workflow_id: WorkflowId,
    gateway: GatewayDep,
    caller: CallerDep,
    version: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="an earlier version; the newest if absent")
    ] = None,
) -> Answer:
    row = await definitions.newest(gateway, caller, workflow_id)
    if version is not None:
        row = await definitions.find_version(gateway, caller, workflow_id, version)
    return Answer(detail(row))


@router.put("/{workflow_id}", response_model=Workflow)
async def update_workflow(
    workflow_id: WorkflowId, body: Document, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """Saves the next version. Executions that are under way keep the one that they started with."""
    return Answer(detail(await definitions.save(gateway, caller, workflow_id, body.document(), key)))


@router.delete("/{workflow_id}", status_code=204, response_class=Response)
async def delete_workflow(workflow_id: WorkflowId, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Response:
    """Saves a last version that cannot be started. Executions that are under way go on."""
    await definitions.save_next(gateway, caller, workflow_id, None, key)
    return Response(status_code=204)


@router.post("/{workflow_id}/validate", response_model=Validation)
async def validate_workflow(
    workflow_id: WorkflowId, gateway: GatewayDep, caller: CallerDep, body: Document | None = None
) -> Answer:
    """Compiles the body, or without one the saved definition, against the agents of today. Stores nothing."""
    saved = await definitions.newest(gateway, caller, workflow_id)
    document = parsed(saved["definition"]) if body is None else body.document()
    errors = await definitions.problems_of(gateway, caller, document)
    return Answer({"valid": not errors, "errors": errors})


@router.post("/{workflow_id}/execute", status_code=202, response_model=ExecutionAccepted)
async def execute_workflow(
    workflow_id: WorkflowId,
    gateway: GatewayDep,
    caller: CallerDep,
    body: ExecuteRequest | None = None,
    key: Key = None,
) -> Answer:
    """Asks for an execution of the newest version. 202 once every in-sync replica of the broker has it."""
    accepted = await executions.start(gateway, caller, workflow_id, body or ExecuteRequest(), key)
    return Answer(accepted, 202, {"Location": f"/api/v1/executions/{accepted['execution_id']}"})


@router.get("/{workflow_id}/executions", response_model=ExecutionPage)
async def list_executions_of(
    workflow_id: WorkflowId,
    gateway: GatewayDep,
    caller: CallerDep,
    status: ExecutionStatus | None = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Answer:
    """Those of a deleted workflow are still there."""
    return await list_page(gateway, caller, workflow_id, status, limit, cursor)


def summary(row: Row, description: str) -> dict[str, Any]:
    return {
        "id": row["workflow_id"],
        "name": row["name"],
        "description": description,
        "status": "active",
        "version": row["version"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


def detail(row: Row) -> dict[str, Any]:
    return {**summary(row, parsed(row["definition"]).get("description", "")), "definition": row["definition"]}
