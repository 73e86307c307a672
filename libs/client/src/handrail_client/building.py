"""What runs: workflows, and the agents that they name."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

from handrail_client import calls
from handrail_client.models import Agent, AgentSummary, Json, Workflow, WorkflowSummary
from handrail_client.transport import Transport, given


class Workflows:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def define(self, definition: Mapping[str, Any], *, key: str | None = None) -> WorkflowSummary:
        """Compiles it and saves it as version 1; `Invalid` says what is wrong, and where. The same `key` defines it once."""
        return await self._transport.ask(calls.DEFINE, body=dict(definition), key=key)

    async def redefine(self, workflow_id: str, definition: Mapping[str, Any]) -> Workflow:
        """Saves the next version. Executions that are under way keep theirs."""
        return await self._transport.ask(calls.REDEFINE, {"workflow_id": workflow_id}, dict(definition))

    def list(self) -> AsyncIterator[WorkflowSummary]:
        """Latest change first."""
        return self._transport.pages(calls.WORKFLOWS)

    async def get(self, workflow_id: str, *, version: int | None = None) -> Workflow:
        return await self._transport.ask(calls.WORKFLOW, {"workflow_id": workflow_id}, query=given(version=version))


class Agents:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def register(
        self,
        name: str,
        kind: Literal["http", "python", "scripted", "llm", "a2a"],
        config: Json | None = None,
        *,
        title: str = "",
        description: str = "",
        capabilities: Sequence[str] = (),
    ) -> Agent:
        """Under this name, anew if it is registered already. `title` is for people."""
        body = {
            "kind": kind, "name": title, "description": description, "capabilities": list(capabilities), "config": config or {},
        }  # fmt: skip
        return await self._transport.ask(calls.REGISTER, {"name": name}, body)

    def list(
        self, *, status: str | None = None, kind: str | None = None, capability: str | None = None
    ) -> AsyncIterator[AgentSummary]:
        """The tenant's own and the platform's, by name."""
        return self._transport.pages(calls.AGENTS, query=given(status=status, kind=kind, capability=capability))

    async def get(self, name: str) -> Agent:
        return await self._transport.ask(calls.AGENT, {"name": name})
