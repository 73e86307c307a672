"""Agents that nobody calls: they fetch their tasks and answer them by themselves."""

from typing import Any

from handrail_contracts.steps import AgentRegistered, StepRequested
from handrail_runtime.settings import Settings

from handrail_agent_runner.agents.base import LeftOpen, Progress


class ExternalAgent:
    inline = None

    async def execute(self, request: StepRequested, progress: Progress) -> Any:
        raise LeftOpen(request.agent)


def make_external_agent(registered: AgentRegistered, settings: Settings) -> ExternalAgent:
    return ExternalAgent()
