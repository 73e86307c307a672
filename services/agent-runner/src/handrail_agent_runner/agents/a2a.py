"""Agents elsewhere, by the A2A protocol. What needs its SDK is in `a2a_tasks`, imported when first such an agent is asked."""

import asyncio
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from handrail_contracts.agents import A2aConfig
from handrail_contracts.steps import AgentRegistered, StepRequested
from handrail_runtime.secrets import SecretRefused, secret
from handrail_runtime.settings import Settings

from handrail_agent_runner.agents.base import AgentFailure, Progress, config_of

if TYPE_CHECKING:
    from handrail_agent_runner.agents.a2a_tasks import Remote

TASKS = "handrail_agent_runner.agents.a2a_tasks"


class A2aAgent:
    inline = None

    def __init__(self, name: str, config: A2aConfig, settings: Settings, *, trusted: bool) -> None:
        self._name, self._config, self._settings, self._trusted = name, config, settings, trusted

    @cached_property
    def _remote(self) -> "Remote":
        from handrail_agent_runner.agents.a2a_tasks import Remote

        return Remote(self._name, self._config, self._settings, self._secret())

    async def execute(self, request: StepRequested, progress: Progress) -> Any:
        await asyncio.to_thread(import_module, TASKS)
        return await self._remote.execute(request, progress)

    def _secret(self) -> str:
        name = self._config.header_env
        if name is None:
            return ""
        try:
            return secret(name, self._config.card_url, self._settings, trusted=self._trusted)
        except SecretRefused as error:
            message = f"agent {self._name} needs a credential: {error}"
            raise AgentFailure("VALIDATION_ERROR", message, retryable=False) from error


def make_a2a_agent(registered: AgentRegistered, settings: Settings) -> A2aAgent:
    return A2aAgent(
        registered.agent, config_of(registered, A2aConfig), settings, trusted=not registered.organization_id
    )
