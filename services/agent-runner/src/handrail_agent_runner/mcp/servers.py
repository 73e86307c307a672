"""The servers that are registered, their tools, and calling these."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from handrail_contracts.agents import McpServerConfig
from handrail_contracts.codec import first_mistake
from handrail_contracts.envelope import JsonObject, utc
from handrail_contracts.ids import derive
from handrail_contracts.steps import AgentRegistered, StepRequested
from handrail_runtime.settings import Settings
from prometheus_client import Gauge
from pydantic import ValidationError

from handrail_agent_runner.agents.base import AgentFailure, Progress
from handrail_agent_runner.mcp.descriptors import SERVER, STATE, Descriptor, Pin, compared
from handrail_agent_runner.mcp.links import Secrets, is_forgotten, link, secrets_of
from handrail_agent_runner.mcp.results import ask, failure_of, lost, output_of
from handrail_agent_runner.mcp.session import Session, Unreachable
from handrail_agent_runner.registrations import Arrivals, may_use

if TYPE_CHECKING:  # see Session
    from mcp import Client

log = structlog.get_logger()

CONNECTED = Gauge("handrail_mcp_connected", "Whether this runner is connected to a server of tools", ["server"])

Announce = Callable[[AgentRegistered], None]


@dataclass(frozen=True, slots=True)
class Server:
    """One registration of a server. A new one gets a new `Server`."""

    name: str
    config: McpServerConfig
    secrets: Secrets
    session: Session


class Servers:
    """Follows `agent.registered`: servers, their tools, and what was last said of the connection to each."""

    def __init__(self, settings: Settings, announce: Announce) -> None:
        self._settings, self._announce = settings, announce
        self._registered: dict[str, AgentRegistered] = {}
        self._commands: dict[str, McpServerConfig] = {}
        self._pins: dict[str, Pin] = {}
        self._states: dict[str, JsonObject] = {}
        self._made: dict[str, Server] = {}
        self._new: set[str] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._arrivals = Arrivals()

    # --- what is registered -----------------------------------------------------------------------------------------

    def own(self, entry: AgentRegistered) -> AgentRegistered:
        """Of an entry of the operator's file, what everybody may know: a command stays in the file, and here.

        Raises `ValueError` for a mistaken one.
        """
        config, name = _config(entry), entry.agent.removeprefix(SERVER)
        if not re.fullmatch(r"mcp/[A-Za-z0-9][A-Za-z0-9._-]*", entry.agent):
            raise ValueError(f"a server is named mcp/NAME, of letters, digits, '.', '_' and '-', not {entry.agent!r}")
        if config.transport != "stdio":
            return entry
        if not config.command:
            raise ValueError(f"server {name}: the transport `stdio` needs `command`")
        self._commands[name] = config
        public = {"transport": "stdio", "timeout_seconds": config.timeout_seconds}
        return entry.model_copy(update={"config": public})

    def add(self, message: AgentRegistered) -> None:
        match message.kind:
            case "mcp":
                self._add_server(message.agent.removeprefix(SERVER), message)
            case "mcp_state":
                self._states[message.agent.removeprefix(STATE)] = message.config
            case "tool" if (pin := Pin.of(message)) is not None:
                self._add_pin(pin, message.removed)
        self._arrivals.tell()

    def _add_server(self, name: str, message: AgentRegistered) -> None:
        known = self._registered.get(name)
        if known is not None and known.event_id == message.event_id and not message.removed:
            return
        self._close(name)
        if not message.removed:
            self._registered[name] = message
            self._new.add(name)
        elif (gone := self._registered.pop(name, None)) is not None:
            for pin in [pin for pin in self._pins.values() if pin.server == name]:
                self._announce(pin.message(gone, utc(time.time()), removed=True))

    def _add_pin(self, pin: Pin, removed: bool) -> None:
        """Of two runners that saw different tools at the same registration, the first to say so is believed; one that has
        not heard of the latest registration is not."""
        known = self._current(pin.name)
        if known is not None and (known.registration != pin.registration or known.hash != pin.hash):
            return
        if removed:
            self._pins.pop(pin.name, None)
        else:
            self._pins[pin.name] = pin

    def _current(self, name: str) -> Pin | None:
        """The tool as its server's latest registration has it."""
        pin = self._pins.get(name)
        server = None if pin is None else self._registered.get(pin.server)
        return pin if pin is not None and server is not None and server.event_id == pin.registration else None

    def discover(self) -> None:
        """Connects to servers that are newly registered and that nobody has reached yet."""
        new, self._new = self._new, set()
        for name in new & self._registered.keys():
            state, registration = self._states.get(name, {}), self._registered[name].event_id
            if state.get("registration") != registration or state.get("state") != "connected":
                try:
                    self._server(name).session.want()
                except AgentFailure as failure:
                    self._say(self._registered[name], failure.info.message)

    async def close(self) -> None:
        for name in list(self._made):
            self._close(name)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _close(self, name: str) -> None:
        made = self._made.pop(name, None)
        if made is not None:
            task = asyncio.create_task(made.session.close(), name=f"mcp-{name}-closes")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            CONNECTED.remove(name)

    # --- connections ------------------------------------------------------------------------------------------------

    def _server(self, name: str) -> Server:
        """Raises `AgentFailure` if it can't be connected to as it is registered."""
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = self._make(name, self._registered[name])
        return made

    def _make(self, name: str, registered: AgentRegistered) -> Server:
        try:
            config = _config(registered)
        except ValueError as error:
            raise AgentFailure("VALIDATION_ERROR", str(error), retryable=False) from error
        if config.transport == "stdio":
            if name not in self._commands or registered.organization_id:
                message = f"server {name} is a command, and this runner's agents file does not name it"
                raise AgentFailure("TOOL_ERROR", message, retryable=False)
            config = self._commands[name]
        secrets = secrets_of(config, self._settings, trusted=not registered.organization_id)
        CONNECTED.labels(name).set(0)
        session = Session(
            name,
            partial(link, config, secrets, self._settings),
            partial(self._learn, name, registered),
            lambda reason: self._say(registered, secrets.masked(reason)),
        )
        return Server(name, config, secrets, session)

    def _learn(self, name: str, registered: AgentRegistered, offered: list[JsonObject]) -> None:
        """Pins what is new, disables what has changed, takes away what an earlier registration had."""
        tools = []
        for raw in offered:
            tool = Descriptor.of(raw)
            if tool is None:
                log.warning("mcp_tool_unusable", server=name, tool=str(raw.get("name"))[:200])
            else:
                tools.append(tool)
        pinned = [pin for pin in self._pins.values() if pin.server == name]
        now, registration = utc(time.time()), registered.event_id
        for pin in compared(name, registration, tools, pinned):
            if pin.disabled:
                log.warning("mcp_tool_disabled", tool=pin.name, reason=pin.disabled)
            self._tell(pin.message(registered, now))
        names = {tool.name for tool in tools}
        for pin in pinned:
            if pin.registration != registration and pin.tool not in names:
                self._tell(pin.message(registered, now, removed=True))

    def _say(self, registered: AgentRegistered, reason: str) -> None:
        """Tells when the connection has come or gone, and when the reason is another one."""
        name = registered.agent.removeprefix(SERVER)
        state = {"state": "unreachable" if reason else "connected", "registration": registered.event_id}
        if name in self._made:
            CONNECTED.labels(name).set(0 if reason else 1)
        known, now = self._states.get(name, {}), utc(time.time())
        same = all(known.get(field) == value for field, value in state.items())
        if same and known["reason"] == reason[:1000]:
            return
        log.info("mcp_server", server=name, state=state["state"], reason=reason)
        since = known["since"] if same else now.isoformat()
        config: JsonObject = {**state, "reason": reason[:1000], "since": since}
        config["registered_at"] = registered.occurred_at.isoformat()
        self._tell(
            AgentRegistered(
                event_id=derive("mcp_state", registered.event_id, now.isoformat()),
                occurred_at=now,
                user_id=registered.user_id,
                organization_id=registered.organization_id,
                project_id=registered.project_id,
                agent=f"{STATE}{name}",
                kind="mcp_state",
                config=config,
            )
        )

    def _tell(self, message: AgentRegistered) -> None:
        self.add(message)
        self._announce(message)

    # --- calls ------------------------------------------------------------------------------------------------------

    async def pin(self, name: str, request: StepRequested) -> Pin:
        """A tool that the request's tenant may use. Raises `AgentFailure` with TOOL_ERROR if there is none that can be called."""
        server = name.partition(":")[0]
        await self._until_registered(server, request)
        if self._current(name) is None:
            async with self._using(self._server(server)):
                pass  # once connected, its tools are known
        found = self._current(name)
        if found is None:
            names = [pin.tool for pin in self._pins.values() if pin.server == server and self._current(pin.name)]
            tools = ", ".join(sorted(names)) or "none"
            raise _failure(f"server {server} has no tool {name.partition(':')[2]!r}; it has {tools}")
        if found.disabled:
            anew = f"look at it, and register the server anew (PUT /api/v1/mcps/{server})"
            raise _failure(f"tool {name} is disabled: {found.disabled}; {anew}")
        return found

    def asks_first(self, name: str) -> bool:
        """Whether its registration says that a person has to allow the tool."""
        server, _, tool = name.partition(":")
        return tool in self._server(server).config.ask_first

    async def call(self, name: str, request: StepRequested, progress: Progress) -> Any:
        pin = await self.pin(name, request)
        server = self._server(pin.server)
        try:
            async with asyncio.timeout(server.config.timeout_seconds):
                output = await self._call(server, pin, request, progress)
        except TimeoutError as error:
            raise lost("TIMEOUT", name, f"within {server.config.timeout_seconds:g} s", pin.repeatable) from error
        except AgentFailure as failure:
            info = failure.info
            raise AgentFailure(info.code, server.secrets.masked(info.message), retryable=info.retryable) from failure
        return server.secrets.masked(output)

    async def _call(self, server: Server, pin: Pin, request: StepRequested, progress: Progress) -> Any:
        """Once more if the server has forgotten the session: then it has not done anything."""
        from mcp import MCPError

        if not isinstance(request.input, dict):
            message = f"tool {pin.name} can't be called so: its arguments have to be an object"
            raise AgentFailure("VALIDATION_ERROR", message, retryable=False)
        for last in (False, True):
            async with self._using(server) as client:
                pin = await self.pin(pin.name, request)
                try:
                    return output_of(pin.name, await ask(client, pin.tool, request, progress))
                except MCPError as error:
                    server.session.lose(client, error.message) if is_forgotten(error) else server.session.doubt()
                    if last or not is_forgotten(error):
                        raise failure_of(pin.name, error, repeatable=pin.repeatable) from error
        raise AssertionError("the second time returns or raises")

    @asynccontextmanager
    async def _using(self, server: Server) -> "AsyncIterator[Client]":
        try:
            async with server.session.using() as client:
                yield client
        except Unreachable as error:
            message = f"server {server.name} can't be reached: {server.secrets.masked(str(error))}"
            raise AgentFailure("TOOL_ERROR", message, retryable=True) from error

    async def _until_registered(self, name: str, request: StepRequested) -> None:
        """Gives a registration that is on its way a moment."""

        def look() -> AgentRegistered | None:
            registered = self._registered.get(name)
            return registered if registered is not None and may_use(request, registered) else None

        if await self._arrivals.soon(look) is None:
            raise _failure(f"there is no server {name!r}; register it (PUT /api/v1/mcps/{name})")


def _config(registered: AgentRegistered) -> McpServerConfig:
    try:
        return McpServerConfig.model_validate(registered.config)
    except ValidationError as error:
        place, why = first_mistake(error)
        where = f"config.{place}" if place else "config"
        raise ValueError(f"server {registered.agent.removeprefix(SERVER)}: {where}: {why}") from error


def _failure(message: str) -> AgentFailure:
    return AgentFailure("TOOL_ERROR", message, retryable=False)
