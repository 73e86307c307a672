"""Agents by kind. A new kind gets its module here and its line in `MAKERS`; `llm`, which needs tools, is the registry's."""

from collections.abc import Callable, Mapping

from handrail_contracts.steps import AgentRegistered
from handrail_runtime.settings import Settings

from handrail_agent_runner.agents.a2a import make_a2a_agent
from handrail_agent_runner.agents.base import Agent, AgentFailure
from handrail_agent_runner.agents.external import make_external_agent
from handrail_agent_runner.agents.http import make_http_agent
from handrail_agent_runner.agents.python import make_python_agent
from handrail_agent_runner.agents.scripted import make_scripted_agent

Maker = Callable[[AgentRegistered, Settings], Agent]
MAKERS: Mapping[str, Maker] = {
    "a2a": make_a2a_agent,
    "external": make_external_agent,
    "http": make_http_agent,
    "python": make_python_agent,
    "scripted": make_scripted_agent,
}

__all__ = ["MAKERS", "Agent", "AgentFailure", "Maker"]
