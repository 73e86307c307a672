"""MCP servers, whose tools steps and models call as `server:tool`. Names are the platform's, as those of agents are."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from handrail_contracts.topics import AGENT_REGISTERED

from handrail_gateway import agents
from handrail_gateway.answers import Answer, parsed
from handrail_gateway.database import Row
from handrail_gateway.gateway import CallerDep, Gateway, GatewayDep
from handrail_gateway.idempotency import Key
from handrail_gateway.identity.caller import Caller
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.problems import conflict, not_found
from handrail_gateway.schemas import AGENT_NAME, Registration, Server, ServerPage, ServerRequest

router = APIRouter(prefix="/mcps", tags=["mcps"])

ServerName = Annotated[str, Path(min_length=1, max_length=100, pattern=AGENT_NAME)]
PREFIX = "mcp/"
MOST_SERVERS = 100
"""Of a tenant: every runner keeps a connection to each."""


@router.get("", response_model=ServerPage)
async def list_servers(gateway: GatewayDep, caller: CallerDep, limit: Limit = 50, cursor: CursorText = None) -> Answer:
    """The tenant's own and the platform's, by name, with how the runners find them and the tools that they have."""
    (after,) = decode_cursor(cursor, str)
    return Answer(await servers(gateway, caller, after, limit))


@router.get("/{name}", response_model=Server)
async def get_server(name: ServerName, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """`state` and `tools` come from a runner, a moment after the server was registered."""
    return Answer(_shown(await _find(gateway, caller, name)))


@router.put("/{name}", response_model=Server)
async def register_server(
    name: ServerName, body: ServerRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """Registers it, or registers it anew: its tools are taken as they are now, and those that were disabled are not any more."""
    counted = await gateway.database.row("count_servers", caller.organization_id, caller.project_id, PREFIX + name)
    if counted is not None and counted["servers"] >= MOST_SERVERS:
        raise conflict(
            "TOO_MANY_SERVERS", f"A project may have {MOST_SERVERS} MCP servers; remove one that is not used."
        )
    config = body.config()
    request = Registration(kind="mcp", name=body.name, description=body.description, config=config)
    await agents.check_owner(gateway, caller, PREFIX + name)
    message = agents.message_of(gateway, caller, PREFIX + name, request, key)
    gateway.recent.check(message.event_id, key, body.model_dump())
    await agents.publish(gateway, [message])
    return Answer(
        {
            "name": name, "title": body.name, "description": body.description, "shared": False, "config": config,
            "registered_at": message.occurred_at, "state": UNKNOWN, "tools": [],
        }
    )  # fmt: skip


@router.delete("/{name}", status_code=204, response_class=Response)
async def remove_server(name: ServerName, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Response:
    """Steps that call its tools fail from now on; definitions that name them cannot be saved any more."""
    await _find(gateway, caller, name)
    await agents.check_owner(gateway, caller, PREFIX + name)
    await agents.publish(
        gateway, [agents.message_of(gateway, caller, PREFIX + name, Registration(kind="mcp"), key, True)]
    )
    return Response(status_code=204)


async def servers(gateway: Gateway, caller: Caller, after: str | None, limit: int) -> dict[str, Any]:
    whose = (caller.organization_id, caller.project_id)
    rows = await gateway.database.fetch("list_servers", *whose, after, None, limit + 1)
    kept, next_cursor = page(rows, limit, lambda row: (row["name"],))
    return {"items": [_shown(row) for row in kept], "next_cursor": next_cursor}


async def _find(gateway: Gateway, caller: Caller, name: str) -> Row:
    async def look() -> Row | None:
        return await gateway.database.row("list_servers", caller.organization_id, caller.project_id, None, name, 1)

    found = await gateway.reads.find(look, AGENT_REGISTERED, [0])
    if found is None:
        raise not_found("MCP server", name)
    return found


UNKNOWN = {"state": "unknown", "reason": "no runner has said anything of it yet", "since": None}


def _shown(row: Row) -> dict[str, Any]:
    said = parsed(row["state"])
    return {**row, "state": UNKNOWN if said is None else {name: said[name] for name in UNKNOWN}}
