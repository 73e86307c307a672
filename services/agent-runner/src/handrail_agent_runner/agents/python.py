"""Agents that are functions in installed packages."""

import asyncio
import importlib
import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from handrail_contracts.envelope import JsonObject
from handrail_contracts.steps import AgentRegistered, StepRequested
from handrail_runtime.settings import Settings

from handrail_agent_runner.agents.base import AgentFailure, Progress

GROUP = "handrail.agents"


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a plain function as quick enough (well under a millisecond) to run on the event loop itself."""
    function.__handrail_inline__ = True  # type: ignore[attr-defined]
    return function


class PythonAgent:
    """`function(input, context)`: coroutine functions run on the loop, plain ones in a thread."""

    def __init__(self, function: Callable[[Any, JsonObject], Any]) -> None:
        self._function = function
        self.inline = function if getattr(function, "__handrail_inline__", False) else None

    async def execute(self, request: StepRequested, progress: Progress) -> Any:
        if inspect.iscoroutinefunction(self._function):
            return await self._function(request.input, request.context)
        return await asyncio.to_thread(self._function, request.input, request.context)


def make_python_agent(registered: AgentRegistered, settings: Settings) -> PythonAgent:
    """`config.entry_point` is `package.module:function`; without it, an entry point of the agent's name is looked up."""
    name = registered.config.get("entry_point")
    try:
        if name:
            module, _, attribute = str(name).partition(":")
            return PythonAgent(getattr(importlib.import_module(module), attribute))
        [found] = entry_points(group=GROUP, name=registered.agent)
        return PythonAgent(found.load())
    except (ImportError, AttributeError, ValueError) as error:
        where = f"entry point {name or registered.agent!r} of agent {registered.agent}"
        raise AgentFailure("AGENT_ERROR", f"{where} can't be loaded: {error}", retryable=False) from error
