"""Workflows as agents of the A2A protocol. Its SDK is imported when the first client speaks."""

import asyncio
from datetime import datetime
from importlib import import_module
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from handrail_gateway import definitions
from handrail_gateway.a2a.cards import PREFIX, card_of
from handrail_gateway.answers import Answer, parsed
from handrail_gateway.documentation import FOREIGN_REFUSALS
from handrail_gateway.gateway import CallerDep, Gateway, GatewayDep
from handrail_gateway.identity.caller import Caller
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.routers.workflows import WorkflowId
from handrail_gateway.schemas import CardPage, JsonObject

router = APIRouter(prefix=PREFIX, tags=["a2a"], responses=FOREIGN_REFUSALS)

TaskId = Annotated[str, Path(alias="id", min_length=1, max_length=200)]
BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
}
CARD = "/{workflow_id}/.well-known/agent-card.json"


@router.get("", response_model=CardPage)
async def list_cards(
    request: Request, gateway: GatewayDep, caller: CallerDep, limit: Limit = 50, cursor: CursorText = None
) -> Answer:
    """A card for each workflow, latest change first."""
    after = decode_cursor(cursor, datetime, str)
    rows = await gateway.database.fetch("list_workflows", caller.organization_id, caller.project_id, *after, limit + 1)
    kept, next_cursor = page(rows, limit, lambda row: (row["updated_at"], row["workflow_id"]))
    cards = [card_of(row, row["description"], str(request.base_url)) for row in kept]
    return Answer({"items": cards, "next_cursor": next_cursor})


@router.get(CARD, response_model=JsonObject)
async def get_card(workflow_id: WorkflowId, request: Request, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """What the workflow's agent is, where it listens, and how to prove who asks."""
    row = await definitions.newest(gateway, caller, workflow_id)
    return Answer(card_of(row, parsed(row["definition"]).get("description", ""), str(request.base_url)))


@router.post("/{workflow_id}", response_class=Response, openapi_extra=BODY)
async def call(workflow_id: WorkflowId, request: Request, gateway: GatewayDep, caller: CallerDep) -> Response:
    """JSON-RPC: SendMessage, SendStreamingMessage, GetTask, ListTasks, CancelTask, SubscribeToTask."""
    return await _served("json_rpc", workflow_id, request, gateway, caller)


@router.post("/{workflow_id}/message:send", response_class=Response, openapi_extra=BODY)
async def send_message(workflow_id: WorkflowId, request: Request, gateway: GatewayDep, caller: CallerDep) -> Response:
    """Starts an execution, once for each `messageId`, and answers with its task."""
    return await _served("on_message_send", workflow_id, request, gateway, caller)


@router.post("/{workflow_id}/message:stream", response_class=Response, openapi_extra=BODY)
async def stream_message(workflow_id: WorkflowId, request: Request, gateway: GatewayDep, caller: CallerDep) -> Response:
    """The same, and then what happens, as server-sent events."""
    return await _served("on_message_send_stream", workflow_id, request, gateway, caller)


@router.get("/{workflow_id}/tasks", response_class=Response)
async def list_tasks(workflow_id: WorkflowId, request: Request, gateway: GatewayDep, caller: CallerDep) -> Response:
    """Executions of the workflow as tasks, latest first; of one context if `contextId` is given."""
    return await _served("list_tasks", workflow_id, request, gateway, caller)


@router.get("/{workflow_id}/tasks/{id}:subscribe", response_class=Response)
@router.post("/{workflow_id}/tasks/{id}:subscribe", response_class=Response)
async def subscribe(
    workflow_id: WorkflowId, task_id: TaskId, request: Request, gateway: GatewayDep, caller: CallerDep
) -> Response:
    """What happens to a task from now on."""
    return await _served("on_subscribe_to_task", workflow_id, request, gateway, caller)


@router.get("/{workflow_id}/tasks/{id}", response_class=Response)
async def get_task(
    workflow_id: WorkflowId, task_id: TaskId, request: Request, gateway: GatewayDep, caller: CallerDep
) -> Response:
    return await _served("on_get_task", workflow_id, request, gateway, caller)


@router.post("/{workflow_id}/tasks/{id}:cancel", response_class=Response)
async def cancel_task(
    workflow_id: WorkflowId, task_id: TaskId, request: Request, gateway: GatewayDep, caller: CallerDep
) -> Response:
    return await _served("on_cancel_task", workflow_id, request, gateway, caller)


async def _served(method: str, workflow_id: str, request: Request, gateway: Gateway, caller: Caller) -> Response:
    """Of a workflow that the caller may see. `method` as in `serving`."""
    request.state.workflow = await definitions.newest(gateway, caller, workflow_id)
    serving = await asyncio.to_thread(import_module, "handrail_gateway.a2a.serving")
    response: Response = await serving.serve(request, method)
    return response
