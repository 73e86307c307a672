"""The builder: steps one by one, the canvas, copies, other dialects, and what forms are drawn from."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from handrail_graph import COMMON, PARAMETERS, compile_workflow, convert

from handrail_gateway import agents, definitions
from handrail_gateway.answers import Answer, parsed
from handrail_gateway.building import Steps, canvas
from handrail_gateway.gateway import CallerDep, Gateway, GatewayDep
from handrail_gateway.idempotency import Key
from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import conflict, not_found
from handrail_gateway.routers.executions import ExecutionId, get_execution
from handrail_gateway.routers.mcps import servers
from handrail_gateway.routers.workflows import WorkflowId, detail
from handrail_gateway.schemas import (
    AgentPage,
    Canvas,
    CanvasRequest,
    Connection,
    Converted,
    CopyRequest,
    Execution,
    Position,
    Reorder,
    ServerList,
    StepAdded,
    StepReplaced,
    StepTypes,
    ToolList,
    Workflow,
)

router = APIRouter(prefix="/workflows", tags=["builder"])

StepId = Annotated[str, Path(min_length=1, max_length=200)]
Document = dict[str, Any]


@router.get("/step-types", response_model=StepTypes)
async def list_step_types(caller: CallerDep) -> Answer:
    """JSON Schema of every step type's parameters, and of what all steps have."""
    return Answer({"step_types": {kind.value: schema for kind, schema in PARAMETERS.items()}, "common": COMMON})


@router.get("/resources/agents", response_model=AgentPage)
async def list_agent_resources(gateway: GatewayDep, caller: CallerDep) -> Answer:
    """The agents that steps can name or choose by capabilities: the tenant's and the platform's; the first 1,000, by name."""
    rows = await agents.look(gateway, caller, limit=1000)
    return Answer({"items": [agents.shown(row) for row in rows], "next_cursor": None})


@router.get("/resources/tools", response_model=ToolList)
async def list_tool_resources(gateway: GatewayDep, caller: CallerDep) -> Answer:
    """The tools that steps can call, with JSON Schema of their arguments."""
    rows = await gateway.database.fetch("list_tools", caller.organization_id, caller.project_id)
    return Answer({"items": rows})


@router.get("/resources/mcps", response_model=ServerList)
async def list_server_resources(gateway: GatewayDep, caller: CallerDep) -> Answer:
    """MCP servers with their tools, which are called as `server:tool`; the first 1,000, by name."""
    return Answer({"items": (await servers(gateway, caller, None, 1000))["items"]})


@router.get("/executions/{execution_id}", response_model=Execution)
async def get_execution_of_any_workflow(execution_id: ExecutionId, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """The same as `GET /executions/{execution_id}`."""
    return await get_execution(execution_id, gateway, caller)


@router.get("/{workflow_id}/export", response_model=Converted)
async def export_workflow(
    workflow_id: WorkflowId,
    gateway: GatewayDep,
    caller: CallerDep,
    dialect: Annotated[str, Query(pattern="^(steps|tasks|dependencies|definition)$")] = "steps",
) -> Answer:
    """The newest version in another dialect. `lost` names what that dialect has no words for; without `document` it has
    none for the workflow as such.
    """
    document = await _document(gateway, caller, workflow_id)
    converted = convert(compile_workflow(document), dialect)
    return Answer({"document": converted.document, "lost": converted.lost})


@router.post("/{workflow_id}/copy", status_code=201, response_model=Workflow)
async def copy_workflow(
    workflow_id: WorkflowId, gateway: GatewayDep, caller: CallerDep, body: CopyRequest | None = None, key: Key = None
) -> Answer:
    """The newest version as version 1 of a new workflow. A trigger that starts by itself is copied, too."""
    document = await _document(gateway, caller, workflow_id)
    name = body.name if body is not None and body.name else f"{document['name']} (copy)"
    made = await definitions.create(gateway, caller, {**document, "name": name[:255]}, key)
    row = await definitions.newest(gateway, caller, made["workflow_id"])
    return Answer(detail(row), 201, {"Location": f"/api/v1/workflows/{row['workflow_id']}"})


@router.post("/{workflow_id}/steps", status_code=201, response_model=Workflow)
async def add_step(
    workflow_id: WorkflowId, body: StepAdded, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """Saves the next version with one step more, after another one if you like."""
    document = await _document(gateway, caller, workflow_id)
    return await _save(gateway, caller, workflow_id, Steps(document).added(body.step, body.after), key, 201)


@router.post("/{workflow_id}/steps/reorder", response_model=Workflow)
async def reorder_steps(
    workflow_id: WorkflowId, body: Reorder, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """How the steps are listed; of tasks, which are a chain, also how they run."""
    document = await _document(gateway, caller, workflow_id)
    return await _save(gateway, caller, workflow_id, Steps(document).reordered(body.step_ids), key)


@router.put("/{workflow_id}/steps/{step_id}", response_model=Workflow)
async def replace_step(
    workflow_id: WorkflowId,
    step_id: StepId,
    body: StepReplaced,
    gateway: GatewayDep,
    caller: CallerDep,
    key: Key = None,
) -> Answer:
    document = await _document(gateway, caller, workflow_id)
    return await _save(gateway, caller, workflow_id, Steps(document).replaced(step_id, body.step), key)


@router.delete("/{workflow_id}/steps/{step_id}", response_model=Workflow)
async def delete_step(
    workflow_id: WorkflowId, step_id: StepId, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """Steps that led to it lead to nothing instead."""
    document = await _document(gateway, caller, workflow_id)
    return await _save(gateway, caller, workflow_id, Steps(document).deleted(step_id), key)


@router.post("/{workflow_id}/steps/{step_id}/connect", response_model=Workflow)
async def connect_steps(
    workflow_id: WorkflowId, step_id: StepId, body: Connection, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    document = await _document(gateway, caller, workflow_id)
    changed = Steps(document).connected(step_id, body.target, body.kind, wanted=body.connected)
    return await _save(gateway, caller, workflow_id, changed, key)


@router.get("/{workflow_id}/canvas", response_model=Canvas)
async def get_canvas(workflow_id: WorkflowId, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """The workflow as a picture: where nobody has placed a node, it stands in the column of its distance from the start."""
    row = await definitions.newest(gateway, caller, workflow_id)
    document = parsed(row["definition"])
    there_are = document.get("steps") or document.get("tasks")  # tasks may still have to come
    nodes, edges = canvas(compile_workflow(document), document) if there_are else ([], [])
    return Answer({"workflow_id": workflow_id, "version": row["version"], "nodes": nodes, "edges": edges})


@router.put("/{workflow_id}/canvas", response_model=Workflow)
async def put_canvas(
    workflow_id: WorkflowId, body: CanvasRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """Where the nodes stand; saved with the workflow, as its next version."""
    document = await _document(gateway, caller, workflow_id)
    positions = {node: position.model_dump() for node, position in body.positions.items()}
    return await _save(gateway, caller, workflow_id, {**document, "canvas": {"positions": positions}}, key)


@router.put("/{workflow_id}/nodes/{node_id}/position", response_model=Workflow)
async def put_position(
    workflow_id: WorkflowId, node_id: StepId, body: Position, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    document = await _document(gateway, caller, workflow_id)
    if node_id not in compile_workflow(document).nodes:
        raise not_found("node", node_id)
    positions = {**document.get("canvas", {}).get("positions", {}), node_id: body.model_dump()}
    return await _save(gateway, caller, workflow_id, {**document, "canvas": {"positions": positions}}, key)


async def _document(gateway: Gateway, caller: Caller, workflow_id: str) -> Document:
    """Raises a 409 `Problem` if there is nothing in it to build on."""
    found: Document = parsed((await definitions.newest(gateway, caller, workflow_id))["definition"])
    if not found.get("steps") and not found.get("tasks"):
        raise conflict("NO_STEPS", "The workflow has no steps yet: save it with some, or post its tasks (POST /tasks).")
    return found


async def _save(
    gateway: Gateway, caller: Caller, workflow_id: str, document: Document, key: str | None, status: int = 200
) -> Answer:
    return Answer(detail(await definitions.save(gateway, caller, workflow_id, document, key)), status)
