"""A workflow together with the agents that it needs: both or, as far as can be told before, neither."""

from collections.abc import Mapping

from handrail_gateway import agents as registry
from handrail_gateway import definitions
from handrail_gateway.answers import parsed
from handrail_gateway.database import Row
from handrail_gateway.definitions import Document
from handrail_gateway.gateway import Gateway
from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import Problem
from handrail_gateway.schemas import AgentRequest

Agents = Mapping[str, AgentRequest]


async def make(gateway: Gateway, caller: Caller, document: Document, agents: Agents, key: str | None) -> Row:
    """Registers the agents, then saves the workflow. What is refused has published nothing; what was cut off half-way is
    completed when it is done again. A key that has made it before makes nothing."""
    if (made := await definitions.created(gateway, caller, document, key)) is not None:
        return made
    for name in agents:
        await registry.check_owner(gateway, caller, name)
    await definitions.check(gateway, caller, document, agents)
    await registry.register(gateway, caller, dict(agents))
    return await definitions.create(gateway, caller, document, key, agents)


async def unregistered(gateway: Gateway, caller: Caller, agents: Agents) -> Agents:
    """Those that are not registered as they are described here. Raises a 409 `Problem` that names every one that another
    tenant has, or that this one has otherwise: nothing is replaced."""
    missing: dict[str, AgentRequest] = {}
    taken = []
    for place, (name, request) in enumerate(agents.items()):
        found = next(iter(await registry.look(gateway, caller, name=name)), None)
        why = "" if found is None else _difference(found, request)
        if found is None:
            missing[name] = request
            try:
                await registry.check_owner(gateway, caller, name)
            except Problem as problem:
                why = problem.detail
        if why:
            taken.append({"path": f"agents_to_create[{place}].agent", "message": f"{name}: {why}", "code": "taken"})
    if taken:
        detail = (
            f"{len(taken)} of the agents can't be created under that name; `errors` says which. Nothing was created."
        )
        raise Problem(409, "NAME_TAKEN", detail, errors=taken)
    return missing


def _difference(found: Row, request: AgentRequest) -> str:
    if found["shared"]:
        return "This agent belongs to the platform."
    wanted = request.model_dump(exclude={"agent"})
    same = all(found[name] == wanted[name] for name in ("kind", "name", "description", "capabilities"))
    if same and parsed(found["config"]) == wanted["config"]:
        return ""
    return "You have an agent of this name that is another; use that one, or choose another name."
