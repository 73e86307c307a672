"""What starts workflows from outside: webhooks, and events."""

import hmac
from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Request
from handrail_contracts.envelope import utc
from handrail_contracts.ids import derive
from handrail_contracts.topics import EVENT_RECEIVED, WORKFLOW_STARTED
from handrail_contracts.triggers import EventReceived
from handrail_contracts.workflows import WorkflowStarted
from handrail_graph import trigger_of

from handrail_gateway import definitions
from handrail_gateway.answers import Answer, parsed
from handrail_gateway.database import Row
from handrail_gateway.gateway import CallerDep, Gateway, GatewayDep
from handrail_gateway.idempotency import Key, request_id
from handrail_gateway.problems import conflict, not_found, unavailable
from handrail_gateway.routers.workflows import WorkflowId
from handrail_gateway.schemas import EventAccepted, EventRequest, ExecutionAccepted, Webhook
from handrail_gateway.webhooks import secret_of, token_of, verified

router = APIRouter(tags=["triggers"])
hooks = APIRouter(prefix="/hooks", tags=["triggers"])

KEPT_HEADERS = ("x-github-event", "x-github-delivery", "user-agent", "content-type")


@router.get("/workflows/{workflow_id}/webhook", response_model=Webhook)
async def get_webhook(workflow_id: WorkflowId, request: Request, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """Where to send, and the secret to sign with. Both stay the same for the life of the workflow."""
    row = await definitions.newest(gateway, caller, workflow_id)
    _check_kind(row)
    whose = (_key(gateway), caller.organization_id, caller.project_id, workflow_id)
    url = f"{str(request.base_url).rstrip('/')}/hooks/{workflow_id}/{token_of(*whose)}"
    return Answer({"url": url, "secret": secret_of(*whose)})


@router.post("/events", status_code=202, response_model=EventAccepted)
async def publish_event(body: EventRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Answer:
    """Tells the platform what happened: each workflow of yours whose trigger names the event starts once."""
    own = request_id(caller, "events", key if body.event_id is None else f"id/{body.event_id}")
    event_id = (
        own if body.event_id is None else derive("event", caller.organization_id, caller.project_id, body.event_id)
    )
    message = EventReceived(
        **caller.tenant.model_dump(),
        event_id=event_id,
        occurred_at=utc(gateway.now()),
        type=body.type,
        source=body.source,
        data=body.data,
    )
    await gateway.publisher.publish(EVENT_RECEIVED, message.execution_id, message)
    return Answer({"event_id": event_id}, 202)


@hooks.post("/{workflow_id}/{token}", status_code=202, response_model=ExecutionAccepted)
async def receive_webhook(
    workflow_id: Annotated[str, Path(min_length=1, max_length=200)],
    token: Annotated[str, Path(min_length=40, max_length=40)],
    request: Request,
    gateway: GatewayDep,
) -> Answer:
    """Starts the workflow with the body as its input. Needs no token of ours: the signature is the proof."""
    row = await gateway.database.row("newest_workflow_of_any", workflow_id)
    key = _key(gateway)
    organization, project = ("", "") if row is None else (row["organization_id"], row["project_id"])
    fits = hmac.compare_digest(token.encode(), token_of(key, organization, project, workflow_id).encode())
    if row is None or not row["active"] or not fits:
        raise not_found("webhook", f"{workflow_id}/...")
    _check_kind(row)
    body = await request.body()
    headers = {name.lower(): value for name, value in request.headers.items()}
    await gateway.pending.check()
    signature = verified(headers, body, secret_of(key, organization, project, workflow_id), gateway.now())
    execution_id = derive("webhook", workflow_id, signature)
    message = WorkflowStarted(
        event_id=derive(execution_id, WORKFLOW_STARTED),
        occurred_at=utc(gateway.now()),
        user_id=row["user_id"],
        organization_id=organization,
        project_id=project,
        execution_id=execution_id,
        workflow_id=workflow_id,
        workflow_version=row["version"],
        input=orjson.loads(body) if body else None,
        trigger={"type": "webhook", "headers": {name: headers[name] for name in KEPT_HEADERS if name in headers}},
    )
    await gateway.publisher.publish(WORKFLOW_STARTED, execution_id, message)
    accepted = {"execution_id": execution_id, "workflow_id": workflow_id, "status": "running"}
    return Answer({**accepted, "started_at": message.occurred_at}, 202)


def _check_kind(row: Row) -> None:
    trigger = trigger_of(parsed(row["definition"]))
    if trigger is None or trigger.kind != "webhook":
        raise conflict("NO_WEBHOOK", "The workflow has no trigger of kind webhook.")


def _key(gateway: Gateway) -> str:
    if not gateway.webhook_key:
        raise unavailable(
            "WEBHOOKS_NOT_CONFIGURED", "Webhooks need HANDRAIL_WEBHOOK_KEY, a long random text, in the gateway."
        )
    return gateway.webhook_key
