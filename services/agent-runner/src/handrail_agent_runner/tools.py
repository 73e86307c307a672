"""Native tools: functions of installed packages (entry points of the group `handrail.tools`), typed by their signature."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, cast

import structlog
from handrail_contracts.codec import first_mistake
from handrail_contracts.envelope import JsonObject, utc
from handrail_contracts.ids import derive
from handrail_contracts.steps import AgentRegistered, StepRequested
from handrail_runtime.settings import Settings
from pydantic import TypeAdapter, ValidationError, validate_call

from handrail_agent_runner.agents.base import Agent, AgentFailure, Progress
from handrail_agent_runner.agents.python import PythonAgent

log = structlog.get_logger()

GROUP = "handrail.tools"


def tool_of(request: StepRequested, settings: Settings) -> Agent:
    """The tool that the request names. Raises `AgentFailure` with the code TOOL_ERROR if there is none."""
    return _agent(request.agent, _function(request.agent), settings)


def _agent(name: str, function: Callable[..., Any], settings: Settings) -> Agent:
    return PythonAgent(_called_by_name(name, function), settings.runner_concurrency)


def _function(name: str) -> Callable[..., Any]:
    if ":" in name:
        message = f"no tool server is registered, so there is no tool {name!r}; native tools have no ':' in their names"
        raise AgentFailure("TOOL_ERROR", message, retryable=False)
    found = entry_points(group=GROUP, name=name)
    if not found:
        known = ", ".join(sorted(point.name for point in entry_points(group=GROUP)))
        message = f"there is no tool {name!r}; there are {known}. A package offers one by an entry point of {GROUP}"
        raise AgentFailure("TOOL_ERROR", message, retryable=False)
    loaded: Callable[..., Any] = next(iter(found)).load()
    return loaded


@dataclass(frozen=True, slots=True)
class NativeTool:
    """A tool as a model is told of it. `call` takes arguments by name, and raises `AgentFailure` if they don't fit."""

    description: str
    parameters: JsonObject
    agent: Agent

    async def call(self, arguments: JsonObject, request: StepRequested, progress: Progress) -> Any:
        return await self.agent.execute(request.model_copy(update={"input": arguments}), progress)


def native_tool(name: str, settings: Settings) -> NativeTool:
    """Raises `AgentFailure` with the code TOOL_ERROR if there is none of that name."""
    function = _function(name)
    return NativeTool(inspect.getdoc(function) or "", parameters_schema(function), _agent(name, function, settings))


def native_tools(now: float) -> list[AgentRegistered]:
    """What this runner tells of its tools, so that builders can offer them. A tool that can't be loaded is not told."""
    told = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            function = point.load()
            config = {"parameters": parameters_schema(function)}
        except Exception as error:
            log.warning("tool_unusable", tool=point.name, error=str(error))
            continue
        text = inspect.getdoc(function) or ""
        own = {"event_id": derive(GROUP, point.name, text, str(config)), "occurred_at": utc(now)}
        told.append(
            AgentRegistered.model_validate(
                {
                    **own,
                    "agent": f"tool/{point.name}",
                    "kind": "tool",
                    "name": point.name,
                    "description": text,
                    "config": config,
                }
            )
        )
    return told


def parameters_schema(function: Callable[..., Any]) -> JsonObject:
    """JSON Schema of a tool's arguments, from its signature."""
    adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, function))
    return adapter.json_schema()


def _called_by_name(name: str, function: Callable[..., Any]) -> Callable[[Any, JsonObject], Any]:
    checked, signature = validate_call(function), inspect.signature(function)

    def call(arguments: Any, context: JsonObject) -> Any:
        try:
            return checked(**arguments)
        except ValidationError as error:
            raise _mistaken(name, ": ".join(first_mistake(error))) from error

    def bound(arguments: Any, context: JsonObject) -> Any:
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise _mistaken(name, str(error)) from error
        return call(arguments, context)

    async def bound_async(arguments: Any, context: JsonObject) -> Any:
        return await bound(arguments, context)

    return bound_async if inspect.iscoroutinefunction(function) else bound


def _mistaken(name: str, why: str) -> AgentFailure:
    return AgentFailure("VALIDATION_ERROR", f"tool {name} can't be called so: {why}", retryable=False)
