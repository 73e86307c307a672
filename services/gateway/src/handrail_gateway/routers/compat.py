"""The four endpoints of the first platform, with their bodies as they were. A workflow's status is its latest execution's."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from handrail_graph import AgentParameters, DefinitionError, compile_workflow

from handrail_gateway import definitions, executions
from handrail_gateway.answers import Answer, parsed
from handrail_gateway.database import Row
from handrail_gateway.gateway import CallerDep, GatewayDep
from handrail_gateway.idempotency import Key
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.routers.workflows import WorkflowId
from handrail_gateway.schemas import (
    CompatCreate,
    CompatCreated,
    CompatList,
    CompatStarted,
    CompatWorkflow,
    ExecuteRequest,
)

router = APIRouter(prefix="/workflows", tags=["compatibility"])


STATUSES = {
    None: "pending",
    "pending": "pending",
    "running": "running",
    "waiting": "running",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "failed",
    "timeout": "failed",
}
"""That platform knew four."""


@router.post("/create", status_code=201, response_model=CompatCreated)
async def create_workflow(body: CompatCreate, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Answer:
    document = body.model_dump(mode="json", exclude_unset=True)
    row = await definitions.create(gateway, caller, document, key)
    answer = {"workflow_id": row["workflow_id"], "name": row["name"], "status": "pending"}
    return Answer({**answer, "task_count": len(body.tasks)}, 201)


@router.get("/list", response_model=CompatList)
async def list_workflows(
    gateway: GatewayDep, caller: CallerDep, limit: Limit = 50, cursor: CursorText = None
) -> Answer:
    after = decode_cursor(cursor, datetime, str)
    rows = await gateway.database.fetch(
        "list_workflows_with_latest_execution", caller.organization_id, caller.project_id, *after, limit + 1
    )
    kept, next_cursor = page(rows, limit, lambda row: (row["updated_at"], row["workflow_id"]))
    items = [
        {
            "workflow_id": row["workflow_id"],
            "name": row["name"],
            "status": STATUSES[row["status"]],
            "task_count": row["task_count"],
        }
        for row in kept
    ]
    return Answer({"workflows": items, "next_cursor": next_cursor})


@router.post("/{workflow_id}/execute", status_code=202, response_model=CompatStarted)
async def execute_workflow(
    workflow_id: WorkflowId,
    gateway: GatewayDep,
    caller: CallerDep,
    body: ExecuteRequest | None = None,
    key: Key = None,
) -> Answer:
    accepted = await executions.start(gateway, caller, workflow_id, body or ExecuteRequest(), key)
    location = f"/api/v1/executions/{accepted['execution_id']}"
    answer = {"workflow_id": workflow_id, "status": "running", "message": "Workflow execution started"}
    return Answer(answer, 202, {"Location": location})


@router.get("/{workflow_id}", response_model=CompatWorkflow)
async def get_workflow(workflow_id: WorkflowId, gateway: GatewayDep, caller: CallerDep) -> Answer:
    workflow = await definitions.newest(gateway, caller, workflow_id)
    whose = (caller.organization_id, caller.project_id)
    latest = await gateway.database.row("latest_execution", *whose, workflow_id)
    rows = [] if latest is None else await gateway.database.fetch("steps", *whose, latest["execution_id"])
    steps = {row["step_id"]: row for row in rows}
    agents = _agent_steps(parsed(workflow["definition"]))
    return Answer(
        {
            "workflow_id": workflow_id,
            "name": workflow["name"],
            "status": STATUSES[None if latest is None else latest["status"]],
            "tasks": [
                {
                    "agent": agent or _chosen(steps.get(step)),
                    "status": steps[step]["status"] if step in steps else "pending",
                }
                for step, agent in agents
            ],
            "results": [
                {"step": number, "output": steps[step]["output"]}
                for number, (step, _) in enumerate(agents, 1)
                if step in steps and steps[step]["status"] == "completed"
            ],
        }
    )


def _chosen(step: Row | None) -> str:
    """Who has answered for a step that asks for capabilities."""
    return "" if step is None else step["agent"] or ""


def _agent_steps(definition: dict[str, Any]) -> list[tuple[str, str]]:
    """The steps that agents run, in order, with the agents' names."""
    try:
        graph = compile_workflow(definition)
    except DefinitionError:
        return []  # saved by another release, whose compiler took it
    found = ((step, graph.nodes[step].parameters) for step in graph.order)
    return [(step, parameters.agent) for step, parameters in found if isinstance(parameters, AgentParameters)]
