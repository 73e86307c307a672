"""Workflows, and starting them."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response

from handrail_gateway import definitions, executions, workflow_states
from handrail_gateway.answers import Answer, parsed
from handrail_gateway.database import Row
from handrail_gateway.gateway import CallerDep, Gateway, GatewayDep
from handrail_gateway.given import plain
from handrail_gateway.idempotency import Key
from handrail_gateway.identity.caller import Caller
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.routers.executions import list_page
from handrail_gateway.schemas import (
    Document,
    ExecuteRequest,
    ExecutionAccepted,
    ExecutionPage,
    ExecutionStatus,
    NewWorkflows,
    Validation,
    Workflow,
    WorkflowPage,
    WorkflowSummary,
)
from handrail_gateway.workflow_states import IDLE, NEW, States

router = APIRouter(prefix="/workflows", tags=["workflows"])


async def _named(
    workflow_id: Annotated[str, Path(min_length=1, max_length=200)], gateway: GatewayDep, caller: CallerDep
) -> str:
    return await definitions.resolve(gateway, caller, workflow_id)


WorkflowId = Annotated[str, Depends(_named)]
"""As the client named it, or as the platform did."""


@router.post("", status_code=201, response_model=WorkflowSummary | list[WorkflowSummary])
async def create_workflows(body: NewWorkflows, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Answer:
    """Compiles the definition, or each of a list, and saves it as version 1. Nothing is stored if one has a problem.

    With an `id` it is yours under that name, and may come without steps: its tasks are posted later.
    """
    documents = body if isinstance(body, list) else [body]
    for document in documents:
        if not document.has_no_steps_yet():
            await definitions.check(gateway, caller, document.document())
    made = [await _create(gateway, caller, document, key, number) for number, document in enumerate(documents)]
    states = await workflow_states.of(gateway, caller, made)
    shown = [summary(row, d.description, states) for row, d in zip(made, documents, strict=True)]
    if isinstance(body, list):
        return Answer(shown, 201)
    return Answer(shown[0], 201, {"Location": f"/api/v1/workflows/{shown[0]['id']}"})


async def _create(gateway: Gateway, caller: Caller, body: Document, key: str | None, number: int) -> Row:
    if body.id is not None:
        return await definitions.create_given(gateway, caller, body.document())
    return await definitions.create(
        gateway, caller, body.document(), key if key is None or not number else f"{key}-{number}"
    )


@router.get("", response_model=WorkflowPage)
async def list_workflows(
    gateway: GatewayDep, caller: CallerDep, limit: Limit = 50, cursor: CursorText = None
) -> Answer:
    """The newest version of each workflow, latest change first."""
    after = decode_cursor(cursor, datetime, str)
    rows = await gateway.database.fetch("list_workflows", caller.organization_id, caller.project_id, *after, limit + 1)
    kept, next_cursor = page(rows, limit, lambda row: (row["updated_at"], row["workflow_id"]))
    states = await workflow_states.of(gateway, caller, kept)
    items = [summary(row, row["description"], states) for row in kept]
    return Answer({"items": items, "next_cursor": next_cursor})


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
    return Answer(detail(row, await workflow_states.of(gateway, caller, [row])))


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


def summary(row: Row, description: str, states: States = NEW) -> dict[str, Any]:
    """`status` and `progress` are those of its latest execution."""
    return {
        "id": plain(row["workflow_id"]),
        "name": row["name"],
        "description": description,
        **states.get(row["workflow_id"], IDLE),
        "version": row["version"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


def detail(row: Row, states: States = NEW) -> dict[str, Any]:
    described = parsed(row["definition"]).get("description", "")
    return {**summary(row, described, states), "definition": row["definition"]}
