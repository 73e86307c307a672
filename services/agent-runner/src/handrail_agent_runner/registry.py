"""The agents that are known: from the agents file, and from `agent.registered`, where the latest word counts."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import orjson
from handrail_contracts.codec import first_mistake
from handrail_contracts.envelope import utc
from handrail_contracts.ids import derive
from handrail_contracts.steps import AgentRegistered, StepRequested
from handrail_runtime.errors import RuntimeFault
from handrail_runtime.settings import Settings
from pydantic import ValidationError

from handrail_agent_runner.agents import MAKERS, Agent, AgentFailure, Maker
from handrail_agent_runner.agents.actions import Actions
from handrail_agent_runner.agents.api_call import ApiCall
from handrail_agent_runner.agents.llm import make_llm_agent
from handrail_agent_runner.mcp.servers import Announce, Servers
from handrail_agent_runner.registrations import Arrivals, may_use
from handrail_agent_runner.tools import AskFirst, Toolbox


class AgentsFileError(RuntimeFault):
    """The agents file is not as it must be."""


class Registry:
    """Agents by name; an agent is made when it is first needed, and again when its registration changes."""

    def __init__(self, settings: Settings, announce: Announce = lambda message: None) -> None:
        self._settings = settings
        self.servers = Servers(settings, announce)
        self._registered: dict[str, AgentRegistered] = {}
        self._able: dict[str, dict[str, AgentRegistered]] = {}
        self._made: dict[str, Agent] = {}
        self.broken: dict[str, str] = {}
        """Agents that can't be made of their registrations, and why."""
        self.arrivals = Arrivals()
        self._api_call = ApiCall(settings)
        self._toolbox = Toolbox(settings, self.servers)
        self._actions = Actions(settings, self._toolbox, self._api_call)
        self._makers: dict[str, Maker] = {**MAKERS, "llm": partial(make_llm_agent, toolbox=self._toolbox)}

    def add(self, registered: AgentRegistered) -> None:
        if registered.kind in ("mcp", "mcp_state", "tool"):
            self.servers.add(registered)
        self._made.pop(registered.agent, None)
        self.broken.pop(registered.agent, None)
        before = self._registered.pop(registered.agent, None)
        for capability in () if before is None else before.capabilities:
            self._able[capability].pop(registered.agent, None)
        if not registered.removed:
            self._registered[registered.agent] = registered
            for capability in registered.capabilities:
                self._able.setdefault(capability, {})[registered.agent] = registered
        self.arrivals.tell()

    def own(self, entries: list[AgentRegistered]) -> list[AgentRegistered]:
        """Entries of the operator's file, as everybody may know them. Raises `AgentsFileError` for a mistaken server."""
        try:
            return [self.servers.own(entry) if entry.kind == "mcp" else entry for entry in entries]
        except ValueError as error:
            raise AgentsFileError(f"the agents file {self._settings.agents_file}: {error}") from error

    def registered(self, name: str) -> AgentRegistered | None:
        return self._registered.get(name)

    def able(self, request: StepRequested) -> Iterator[AgentRegistered]:
        """The agents that have all the capabilities, of those that the step's tenant can see and that can be made."""
        first, *others = request.capabilities
        for name, registered in self._able.get(first, {}).items():
            if registered.kind in ("tool", "external") or not may_use(request, registered):
                continue
            if all(name in self._able.get(other, ()) for other in others):
                yield from (registered,) if self._can_be_made(registered) else ()

    def _can_be_made(self, registered: AgentRegistered) -> bool:
        if registered.agent in self._made or registered.agent in self.broken:
            return registered.agent in self._made
        try:
            self._made[registered.agent] = self._make(registered)
        except AgentFailure:
            return False
        return True

    def find(self, request: StepRequested) -> Agent | None:
        """The agent of a request if it is known. Raises `AgentFailure` if it can't be made."""
        if request.kind == "api_call":
            return self._api_call
        if request.kind == "tool":
            asks = request.ask_first and not request.granted
            return AskFirst() if asks else self._toolbox.agent(request.agent)
        if request.kind == "action":
            return self._actions
        made = self._made.get(request.agent)
        if made is None and (registered := self._registered.get(request.agent)) is not None:
            made = self._made[request.agent] = self._make(registered)
        return made

    def _make(self, registered: AgentRegistered) -> Agent:
        try:
            made = self._makers[registered.kind](registered, self._settings)
            self.broken.pop(registered.agent, None)
            return made
        except AgentFailure as failure:
            self.broken[registered.agent] = failure.info.message
            raise
        except (Exception, SystemExit) as error:
            message = f"agent {registered.agent} can't be made of its registration: {type(error).__name__}: {error}"
            self.broken[registered.agent] = message
            raise AgentFailure("AGENT_ERROR", message, retryable=False) from error

    async def wait_for(self, request: StepRequested) -> Agent:
        """Like `find`, but gives a registration that is on its way a moment. Raises `AgentFailure` if none comes."""
        if request.capabilities and not request.agent:
            message = f"no agent has the capabilities {', '.join(request.capabilities)}; register one that has them all"
            raise AgentFailure("NO_CAPABLE_AGENT", message, retryable=False)
        agent = await self.arrivals.soon(lambda: self.find(request))
        if agent is None:
            message = f"no agent {request.agent!r} is registered; register it (PUT /api/v1/agents/{request.agent})"
            raise AgentFailure("UNKNOWN_AGENT", message, retryable=False)
        return agent


def agents_of_file(path: Path, now: float) -> list[AgentRegistered]:
    """The registrations of an agents file: a JSON list of objects with `agent`, `kind` and `config`.

    Raises `AgentsFileError` with the entry and the field that are wrong.
    """
    try:
        entries = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise AgentsFileError(f"the agents file {path} can't be read: {error}") from error
    if not isinstance(entries, list):
        raise AgentsFileError(f"the agents file {path} holds {type(entries).__name__}, not a list of agents")
    return [_registration(path, number, entry, now) for number, entry in enumerate(entries)]


def _registration(path: Path, number: int, entry: object, now: float) -> AgentRegistered:
    if not isinstance(entry, dict):
        raise AgentsFileError(f"entry {number} of the agents file {path} is no object")
    own = {"event_id": derive("agents_file", orjson.dumps(entry)), "occurred_at": utc(now)}
    try:
        return AgentRegistered.model_validate({**entry, **own})
    except ValidationError as error:
        place, why = first_mistake(error)
        raise AgentsFileError(f"entry {number} of the agents file {path}: {place}: {why}") from error
