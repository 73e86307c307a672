"""What a workflow can be made of: the agents, tools and servers that the caller's tenant sees."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handrail_gateway.answers import parsed
from handrail_gateway.gateway import Gateway
from handrail_gateway.identity.caller import Caller

Json = dict[str, Any]

MOST_AGENTS, MOST_TEXT, MOST_CAPABILITIES = 200, 300, 20
_WORD = re.compile(r"[a-z]{3,}")


@dataclass(frozen=True, slots=True)
class Resources:
    """By name, as the model is told of them. `known`: all names that the compiler takes, tools among them as `tool/NAME`."""

    agents: Mapping[str, Json]
    tools: Mapping[str, Json]
    servers: Mapping[str, Json]

    @property
    def known(self) -> frozenset[str]:
        return frozenset([*self.agents, *(f"tool/{name}" for name in self.tools)])

    def agents_for(self, prompt: str) -> list[Json]:
        """Not more than a model can read: those that share words with the prompt come first."""
        wanted = _words(prompt)
        ranked = sorted(self.agents.values(), key=lambda agent: -len(wanted & _words(str(agent))))
        return ranked[:MOST_AGENTS]


def _words(text: str) -> set[str]:
    """Beginnings, so that `summarize` and `summary` are the same."""
    return {word[:5] for word in _WORD.findall(text.lower())}


async def resources_of(gateway: Gateway, caller: Caller) -> Resources:
    rows = await gateway.database.fetch("generation_resources", caller.organization_id, caller.project_id)
    agents: dict[str, Json] = {}
    tools: dict[str, Json] = {}
    servers: dict[str, Json] = {}
    for row in rows:
        kind, slash, name = row["agent"].partition("/")
        name = name if slash else kind
        told = {"description": row["description"][:MOST_TEXT]}
        if row["kind"] == "tool":
            tools[name] = {"name": name, **told, "parameters": parsed(row["parameters"])}
        elif row["kind"] == "mcp":
            servers[name] = {"id": name, **told}
        elif not slash:
            capabilities = list(row["capabilities"])[:MOST_CAPABILITIES]
            agents[name] = {"id": name, "kind": row["kind"], "name": row["name"], **told, "capabilities": capabilities}
    return Resources(agents, tools, servers)
