"""Agents: how they are reached. Names are the platform's, so the first tenant to take one has it."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from handrail_contracts.envelope import utc
from handrail_contracts.steps import AgentRegistered
from handrail_contracts.topics import AGENT_REGISTERED

from handrail_gateway.answers import Answer, parsed
from handrail_gateway.auth import Caller
from handrail_gateway.database import Row
from handrail_gateway.gateway import CallerDep, Gateway, GatewayDep
from handrail_gateway.idempotency import Key, request_id
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.problems import conflict, forbidden, not_found
from handrail_gateway.schemas import AGENT_NAME, Agent, AgentPage, AgentRequest, Registration

router = APIRouter(prefix="/agents", tags=["agents"])

AgentName = Annotated[str, Path(min_length=1, max_length=200, pattern=AGENT_NAME)]


@router.get("", response_model=AgentPage)
async def list_agents(gateway: GatewayDep, caller: CallerDep, limit: Limit = 50, cursor: CursorText = None) -> Answer:
    """The tenant's own and the platform's, by name."""
    after = decode_cursor(cursor, str)
    rows = await gateway.database.fetch("list_agents", caller.organization_id, caller.project_id, *after, limit + 1)
    kept, next_cursor = page(rows, limit, lambda row: (row["agent"],))
    return Answer({"items": kept, "next_cursor": next_cursor})


@router.get("/{name}", response_model=Agent)
async def get_agent(name: AgentName, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """The values of `config.headers` are never shown."""
    return Answer(_shown(await _find(gateway, caller, name)))


@router.put("/{name}", response_model=Agent)
async def register_agent(
    name: AgentName, body: AgentRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    message = await register(gateway, caller, name, body, key)
    return Answer(
        {
            **body.model_dump(exclude={"config"}),
            "agent": name,
            "shared": False,
            "registered_at": message.occurred_at,
            "config": _masked(body.config),
        }
    )


async def register(
    gateway: Gateway, caller: Caller, name: str, body: Registration, key: str | None = None
) -> AgentRegistered:
    """Publishes it, and waits until the read models show it, for as long as callers wait."""
    await own(gateway, caller, name)
    message = _message(gateway, caller, name, body, key)
    gateway.recent.check(message.event_id, key, body.model_dump())
    await _publish(gateway, message)
    return message


@router.delete("/{name}", status_code=204, response_class=Response)
async def remove_agent(name: AgentName, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Response:
    """Steps that name it fail from now on; definitions that name it cannot be saved any more."""
    await own(gateway, caller, name)
    found = await _find(gateway, caller, name)
    await withdraw(gateway, caller, name, found["kind"], key)
    return Response(status_code=204)


async def withdraw(gateway: Gateway, caller: Caller, name: str, kind: str, key: str | None) -> None:
    """Publishes that it is gone, and waits until the read models show it, for as long as callers wait."""
    await _publish(gateway, _message(gateway, caller, name, Registration(kind=kind), key, True))


async def _find(gateway: Gateway, caller: Caller, name: str) -> Row:
    async def look() -> Row | None:
        return await gateway.database.row("agent", caller.organization_id, caller.project_id, name)

    found = await gateway.reads.find(look, AGENT_REGISTERED, [0])
    if found is None:
        raise not_found("agent", name)
    return found


async def own(gateway: Gateway, caller: Caller, name: str) -> None:
    """Raises a `Problem` if it is not the caller's to register: 403 for the platform's, 409 for another tenant's."""
    owner = await gateway.database.row("agent_owner", name)
    if owner is None:
        return
    if not owner["organization_id"]:
        raise forbidden("This belongs to the platform; only its operator changes it.")
    if (owner["organization_id"], owner["project_id"]) != (caller.organization_id, caller.project_id):
        raise conflict("NAME_TAKEN", "This name is taken; choose another.")


def _message(
    gateway: Gateway, caller: Caller, name: str, body: Registration, key: str | None, removed: bool = False
) -> AgentRegistered:
    return AgentRegistered(
        **caller.tenant.model_dump(),
        event_id=request_id(caller, f"agents/{name}/{'delete' if removed else 'put'}", key),
        occurred_at=utc(gateway.now()),
        agent=name,
        kind=body.kind,
        name=body.name,
        description=body.description,
        capabilities=tuple(body.capabilities),
        config=body.config,
        removed=removed,
    )


async def _publish(gateway: Gateway, message: AgentRegistered) -> None:
    """Waits for the projector, so that a workflow may name the agent in the next request; but not for ever."""
    partition, offset = await gateway.publisher.publish(AGENT_REGISTERED, message.agent, message)
    await gateway.positions.wait({(AGENT_REGISTERED, partition): offset + 1})


def _shown(row: Row) -> dict[str, Any]:
    return {**row, "config": _masked(parsed(row["config"]))}


def _masked(config: dict[str, Any]) -> dict[str, Any]:
    headers = config.get("headers")
    return {**config, "headers": dict.fromkeys(headers, "***")} if isinstance(headers, dict) else config
