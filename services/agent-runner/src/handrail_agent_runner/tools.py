"""The tools of a runner. Native ones are functions of installed packages (entry points of the group `handrail.tools`), typed
by their signature; those of servers are named `server:tool`."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, cast

import structlog
from handrail_contracts.approvals import Suggestion
from handrail_contracts.codec import first_mistake
from handrail_contracts.envelope import JsonObject, utc
from handrail_contracts.ids import derive
from handrail_contracts.steps import AgentRegistered, StepRequested
from handrail_runtime.settings import Settings
from pydantic import TypeAdapter, ValidationError, validate_call

from handrail_agent_runner.agents.base import Agent, AgentFailure, Progress, Suggests
from handrail_agent_runner.agents.python import PythonAgent
from handrail_agent_runner.mcp.servers import Servers
from handrail_agent_runner.once import once

log = structlog.get_logger()

GROUP = "handrail.tools"
KEY = "idempotency_key"
"""A tool's parameter that the runner fills, the same for the same call: the tool then sees to it that it counts once."""


def read_only(function: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a tool that changes nothing, so that it may be called as often as one likes."""
    function.__handrail_read_only__ = True  # type: ignore[attr-defined]
    return function


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as a model is told of it. A `repeatable` one is called again when nobody knows whether a call took effect."""

    description: str
    parameters: JsonObject
    repeatable: bool
    agent: Agent
    ask_first: bool = False

    async def call(self, arguments: JsonObject, request: StepRequested, progress: Progress) -> Any:
        """Arguments by name. Raises `AgentFailure` if they don't fit. `request.run_id` is the call's idempotency key."""
        return await self.agent.execute(request.model_copy(update={"input": arguments}), progress)

    async def call_once(self, name: str, request: StepRequested, progress: Progress) -> Any:
        """With the request's input, again only if it is repeatable. Raises like `call` and like `once`."""
        if self.repeatable:
            return await self.agent.execute(request, progress)
        return await once(f"a call of {name}", request, progress, lambda: self.agent.execute(request, progress))


class AskFirst:
    """In place of a tool that a person has to allow."""

    inline = None

    async def execute(self, request: StepRequested, progress: Progress) -> Any:
        given = request.input if isinstance(request.input, dict) else {"input": request.input}
        why = f"step {request.step_id} calls {request.agent}, which asks a person first"
        wish = Suggestion(action=request.agent, reasoning=why, confidence=0, suggested_data=given)
        raise Suggests(wish, request.step_id)


class Toolbox:
    """The tools of this runner by name: native ones are made when they are first needed, the others are their servers'."""

    def __init__(self, settings: Settings, servers: Servers) -> None:
        self._settings, self._servers = settings, servers
        self._made: dict[str, Tool] = {}

    async def tool(self, name: str, request: StepRequested) -> Tool:
        """Raises `AgentFailure` with the code TOOL_ERROR if there is none of that name that the request's tenant may use."""
        if ":" not in name:
            return self._native(name)
        pin = await self._servers.pin(name, request)
        agent, asks = _ServerTool(name, self._servers), self._servers.asks_first(name)
        return Tool(pin.description, pin.parameters, pin.repeatable, agent, asks)

    def agent(self, name: str) -> Agent:
        """What a step that calls the tool is carried out by. Raises like `tool`, of a server's not before it is called."""
        if ":" not in name and (tool := self._native(name)).repeatable:
            return tool.agent
        return _Step(name, self)

    def _native(self, name: str) -> Tool:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = _tool(name, _function(name), self._settings)
        return made


def _tool(name: str, function: Callable[..., Any], settings: Settings) -> Tool:
    return Tool(
        description=inspect.getdoc(function) or "",
        parameters=parameters_schema(function),
        repeatable=hasattr(function, "__handrail_read_only__") or KEY in inspect.signature(function).parameters,
        agent=_NativeTool(name, function, settings.runner_concurrency),
    )


def _function(name: str) -> Callable[..., Any]:
    found = entry_points(group=GROUP, name=name)
    if not found:
        known = ", ".join(sorted(point.name for point in entry_points(group=GROUP)))
        message = f"there is no tool {name!r}; there are {known}. A package offers one by an entry point of {GROUP}"
        raise AgentFailure("TOOL_ERROR", message, retryable=False)
    loaded: Callable[..., Any] = next(iter(found)).load()
    return loaded


class _Step:
    """Whether a server's tool may be called again is known once there is a request, whose tenant may use it."""

    inline = None

    def __init__(self, name: str, toolbox: Toolbox) -> None:
        self._name, self._toolbox = name, toolbox

    async def execute(self, request: StepRequested, progress: Progress) -> Any:
        tool = await self._toolbox.tool(self._name, request)
        if tool.ask_first and not request.granted:
            return await AskFirst().execute(request, progress)
        return await tool.call_once(self._name, request, progress)


class _ServerTool:
    inline = None

    def __init__(self, name: str, servers: Servers) -> None:
        self._name, self._servers = name, servers

    async def execute(self, request: StepRequested, progress: Progress) -> Any:
        return await self._servers.call(self._name, request, progress)


class _NativeTool(PythonAgent):
    def __init__(self, name: str, function: Callable[..., Any], most_threads: int) -> None:
        super().__init__(_called_by_name(name, function), most_threads)
        self._takes_key = KEY in inspect.signature(function).parameters

    async def execute(self, request: StepRequested, progress: Progress) -> Any:
        if self._takes_key and isinstance(request.input, dict):
            request = request.model_copy(update={"input": {**request.input, KEY: request.run_id}})
        return await super().execute(request, progress)


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
    """JSON Schema of a tool's arguments, from its signature; what the runner fills is left out."""
    adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, function))
    schema = adapter.json_schema()
    if schema.get("properties", {}).pop(KEY, None) is not None:
        schema["required"] = [name for name in schema.get("required", ()) if name != KEY]
    return schema


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
