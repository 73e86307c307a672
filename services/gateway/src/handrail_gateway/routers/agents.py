"""Agents: how they are reached, and how they do. Names are the platform's, so the first tenant to take one has it."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from handrail_gateway import agents
from handrail_gateway.answers import Answer
from handrail_gateway.gateway import CallerDep, GatewayDep
from handrail_gateway.idempotency import Key
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.schemas import (
    AGENT_NAME,
    Agent,
    AgentKind,
    AgentPage,
    AgentRequest,
    AgentStatus,
    HeartbeatRequest,
    NewAgent,
    NewAgents,
)


def _said(agent: dict[str, Any], beats: Mapping[str, HeartbeatRequest]) -> str:
    """One that is busy stays so, whatever it says."""
    said = beats.get(agent["id"])
    busy = agent["current_task_id"] is not None
    return str(agent["status"]) if said is None or (busy and said.status != "offline") else said.status


router = APIRouter(prefix="/agents", tags=["agents"])

AgentName = Annotated[str, Path(min_length=1, max_length=200, pattern=AGENT_NAME)]


@router.get("", response_model=AgentPage)
async def list_agents(
    gateway: GatewayDep,
    caller: CallerDep,
    status: AgentStatus | None = None,
    kind: AgentKind | None = None,
    capability: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Answer:
    """The tenant's own and the platform's, by name. Figures are of what they did for this tenant."""
    (after,) = decode_cursor(cursor, str)
    wanted = {"after": after, "status": status, "kind": kind, "capability": capability}
    rows = await agents.look(gateway, caller, **wanted, limit=limit + 1)
    kept, next_cursor = page(rows, limit, lambda row: (row["agent"],))
    return Answer({"items": [agents.shown(row) for row in kept], "next_cursor": next_cursor})


@router.post("", status_code=201, response_model=Agent | list[Agent])
async def create_agents(body: NewAgents, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Answer:
    """Registers one agent, or each of a list, under its `id`. Who is registered already is registered anew."""
    several = body if isinstance(body, list) else [body]
    requests = {each.id: each.registration() for each in several}
    made = await agents.register(gateway, caller, requests, key)
    beats = {
        each.id: HeartbeatRequest(status=each.status) for each in several if each.status and each.kind == "external"
    }
    if beats:
        await agents.beat(gateway, caller, beats, key)
        made = [{**agent, "status": _said(agent, beats)} for agent in made]
    if isinstance(body, NewAgent):
        return Answer(made[0], 201, {"Location": f"/api/v1/agents/{body.id}"})
    return Answer(made, 201)


@router.get("/{name}", response_model=Agent)
async def get_agent(name: AgentName, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """The values of `config.headers` are never shown."""
    return Answer(agents.shown(await agents.find(gateway, caller, name), whole=True))


@router.put("/{name}", response_model=Agent)
async def register_agent(
    name: AgentName, body: AgentRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    [made] = await agents.register(gateway, caller, {name: body}, key)
    return Answer(made)


@router.post("/{name}/heartbeat", response_model=Agent)
async def heartbeat(
    name: AgentName, gateway: GatewayDep, caller: CallerDep, body: HeartbeatRequest | None = None, key: Key = None
) -> Answer:
    """How an agent is that works by itself. It fetches its work with `GET /tasks?agent_id=NAME&status=in_progress`."""
    await agents.external(gateway, caller, name)
    await agents.beat(gateway, caller, {name: body or HeartbeatRequest()}, key)
    return Answer(agents.shown(await agents.find(gateway, caller, name), whole=True))


@router.delete("/{name}", status_code=204, response_class=Response)
async def remove_agent(name: AgentName, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Response:
    """Steps that name it fail from now on; definitions that name it cannot be saved any more."""
    await agents.remove(gateway, caller, name, key)
    return Response(status_code=204)
