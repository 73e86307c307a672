"""What a record changes: names only. How it is now, the read models say once they have come that far. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from handrail_contracts.topics import AGENT_REGISTERED, APPROVAL_EVENTS, RUNNER_STATUS

Json = Mapping[str, Any]
Tenant = tuple[str, str]
"""Organization and project."""

UNSEEN = frozenset({"step.models_called", "step.advanced", "signal.received", "approval.refused"})
"""Events that change nothing that a channel tells."""
BEGINNINGS = frozenset({"execution.started", "execution.rejected"})
SUGGESTED = frozenset({"approval.opened", "suggestion.revised"})


@dataclass(slots=True)
class Touched:
    """An execution to be looked at, the steps that changed in it, and when the latest change was."""

    at: str
    steps: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Gate:
    execution_id: str
    at: str
    suggested: bool
    """Whether there is a suggestion that nobody has heard of."""


@dataclass(slots=True)
class Changes:
    executions: dict[str, Touched] = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)
    agents: dict[str, str] = field(default_factory=dict)
    """By name; when."""
    steps: int = 0

    def __bool__(self) -> bool:
        return bool(self.executions or self.gates or self.agents)

    @property
    def size(self) -> int:
        """How many objects there are to look at."""
        return len(self.executions) + self.steps + len(self.gates) + len(self.agents)

    def merge(self, other: "Changes") -> None:
        """`other` is later, or at the same time."""
        for execution_id, change in other.executions.items():
            mine = self.executions.setdefault(execution_id, Touched(change.at))
            mine.at = change.at
            self.steps -= len(mine.steps)
            mine.steps |= change.steps
            self.steps += len(mine.steps)
        for approval_id, gate in other.gates.items():
            seen = self.gates.get(approval_id)
            suggested = gate.suggested or (seen is not None and seen.suggested)
            self.gates[approval_id] = Gate(gate.execution_id, gate.at, suggested)
        self.agents |= other.agents

    def of(self, executions: set[str]) -> "Changes":
        """Those of these executions; agents belong to none."""
        return Changes(
            {name: change for name, change in self.executions.items() if name in executions},
            {name: gate for name, gate in self.gates.items() if gate.execution_id in executions},
        )

    @property
    def stories(self) -> set[str]:
        """The executions that it is about."""
        return {*self.executions, *(gate.execution_id for gate in self.gates.values())}


def changes_of(topic: str, value: bytes | None) -> tuple[Changes, Tenant | None]:
    """What a record changes, and whose it is if it says so. Raises for what is not as its contract says."""
    body = orjson.loads(value or b"{}")
    if topic == AGENT_REGISTERED:
        return Changes(agents={body["agent"]: body["occurred_at"]}), None
    if topic == RUNNER_STATUS and "agent" in body:  # one that works by itself
        return Changes(agents={body["agent"]: body["occurred_at"]}), None
    if topic == RUNNER_STATUS:
        return Changes(agents=dict.fromkeys(_said(body), body["occurred_at"])), None
    execution_id, at, events = body.get("execution_id", ""), body["at"], body.get("events", ())
    if topic == APPROVAL_EVENTS:
        return Changes(gates=_gates(execution_id, at, events)), None
    owner = next((_tenant(event) for event in events if event["type"] in BEGINNINGS), None)
    seen = [event for event in events if event["type"] not in UNSEEN]
    return Changes({execution_id: Touched(at, set(_steps(seen)))} if seen else {}), owner


def _said(status: Json) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for each in (*status.get("agents", ()), *status.get("chosen", ())):
        found.setdefault(each["agent"], []).append(each)
    return found


class Beats:
    """Runners say again and again how agents are; this knows what is new in it."""

    def __init__(self) -> None:
        self._before: dict[str, dict[str, list[Json]]] = {}

    def news(self, value: bytes | None) -> Changes:
        status = orjson.loads(value or b"{}")
        if "agent" in status:
            return changes_of(RUNNER_STATUS, value)[0]
        said, before = _said(status), self._before.pop(status["runner_id"], {})
        if not status.get("stopped"):
            self._before[status["runner_id"]] = said
        changed = [name for name in {*said, *before} if said.get(name) != before.get(name)]
        return Changes(agents=dict.fromkeys(changed, status["occurred_at"]))


def _tenant(event: Json) -> Tenant:
    return event["organization_id"], event["project_id"]


def _steps(events: Iterable[Json]) -> Iterable[str]:
    for event in events:
        if event.get("step_id"):
            yield event["step_id"]
        yield from event.get("step_ids", ())
        yield from (task["step_id"] for task in event.get("tasks", ()))


def _gates(execution_id: str, at: str, events: Iterable[Json]) -> dict[str, Gate]:
    found: dict[str, Gate] = {}
    for event in events:
        if event["type"].startswith(("approval.", "suggestion.")) and event["type"] not in UNSEEN:
            name = event["approval_id"]
            before = name in found and found[name].suggested
            suggested = event["type"] in SUGGESTED and event.get("suggestion") is not None
            found[name] = Gate(execution_id, at, before or suggested)
    return found
