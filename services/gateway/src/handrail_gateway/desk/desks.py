"""The desks of a tenant: each is a workflow whose newest version says how it is."""

from typing import Any

from handrail_gateway import agents as registry
from handrail_gateway import definitions
from handrail_gateway.answers import parsed
from handrail_gateway.database import Row
from handrail_gateway.desk.flow import agent_id, agents_of, document_of, left_over, prefix_of, workflow_of
from handrail_gateway.gateway import Gateway
from handrail_gateway.given import scoped
from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import Problem
from handrail_gateway.schemas import AgentRequest, DeskRequest

LISTED = 500


async def configure(gateway: Gateway, caller: Caller, name: str, desk: DeskRequest) -> Row:
    """Registers its agents, then saves the workflow: inquiries under way go on as they began. The same again changes nothing."""
    prefix = prefix_of(name, caller.organization_id, caller.project_id)
    agents, document = agents_of(desk, prefix, name), document_of(desk, prefix, name)
    known = await registry.look(gateway, caller, limit=LISTED, after=f"{prefix}-")
    same = {row["agent"] for row in known if row["agent"] in agents and _is(row, agents[row["agent"]])}
    new = {agent: request for agent, request in agents.items() if agent not in same}
    if new:
        await registry.register(gateway, caller, new)
    await definitions.check(gateway, caller, document)
    workflow_id = scoped(caller, document["id"])
    current = await _newest(gateway, caller, workflow_id)
    if current is None:
        row = await definitions.create_given(gateway, caller, document)
    elif parsed(current["definition"]) == document:
        row = current
    else:
        saved = await definitions.save_next(gateway, caller, workflow_id, document, None)
        assert saved is not None, "it is no deletion"
        row = saved
    await _retire(gateway, caller, left_over((each["agent"] for each in known), agents, prefix, len(desk.tiers)))
    return row


def _is(row: Row, wanted: Any) -> bool:
    return bool(
        row["capabilities"] == wanted.capabilities
        and (row["name"], row["description"]) == (wanted.name, wanted.description)
        and parsed(row["config"]) == wanted.config
    )


async def _retire(gateway: Gateway, caller: Caller, agents: set[str]) -> None:
    """Those that the desk has no more are able to nothing from now on, so nobody asks them; what they have, they end."""
    for agent in agents:
        row = next(iter(await registry.look(gateway, caller, name=agent)), None)
        if row is not None and row["capabilities"]:
            config = parsed(row["config"])
            body = AgentRequest(kind="llm", name=row["name"], description="retired from its desk", config=config)
            await registry.register(gateway, caller, {agent: body})


async def _newest(gateway: Gateway, caller: Caller, workflow_id: str) -> Row | None:
    try:
        return await definitions.newest(gateway, caller, workflow_id)
    except Problem as problem:
        if problem.status != 404:
            raise
        return None


async def find(gateway: Gateway, caller: Caller, name: str) -> tuple[Row | None, DeskRequest]:
    """The desk's workflow and how it is; what nobody has configured is as every desk at first, and has no workflow yet."""
    row = await _newest(gateway, caller, scoped(caller, workflow_of(name)))
    return row, DeskRequest() if row is None else desk_of(row)


async def made(gateway: Gateway, caller: Caller, name: str) -> tuple[Row, DeskRequest]:
    """The same, made if it was not yet."""
    row, desk = await find(gateway, caller, name)
    return row or await configure(gateway, caller, name, desk), desk


def desk_of(row: Row) -> DeskRequest:
    definition = row["definition"] if isinstance(row["definition"], dict) else parsed(row["definition"])
    said = definition.get("metadata", {}).get("desk", {})
    return DeskRequest.model_validate({field: said[field] for field in DeskRequest.model_fields if field in said})


def shown(row: Row | None, desk: DeskRequest, name: str, caller: Caller) -> dict[str, Any]:
    prefix = prefix_of(name, caller.organization_id, caller.project_id)
    agents = agents_of(desk, prefix, name)
    listed = [
        {"id": (own := agent_id(prefix, number, place)), "name": agents[own].name, "tier": tier.name,
         "specialties": agents[own].capabilities[1:]}
        for number, tier in enumerate(desk.tiers, 1)
        for place in range(1, tier.agents + 1)
    ]  # fmt: skip
    return {
        **desk.model_dump(mode="json"),
        "name": name,
        "workflow_id": workflow_of(name),
        "version": 0 if row is None else row["version"],
        "agents": listed,
        "updated_at": None if row is None else row.get("updated_at", row.get("created_at")),
    }
