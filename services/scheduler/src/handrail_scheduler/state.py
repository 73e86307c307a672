"""The state of one execution, and how it is packed while nothing but people and timers can move it."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson
from handrail_graph import turn_of

from handrail_scheduler.identifiers import run_id


class StepStatus(StrEnum):
    RUNNING = "running"
    RETRYING = "retrying"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


UNDER_WAY = (StepStatus.RUNNING, StepStatus.RETRYING, StepStatus.BLOCKED)
IDLE = ("approval", "suggestion", "raise", "timer", "signal", "loop", "workflow", "person")
"""What a step may wait for without work under way: only people and time can move it."""
SETTLED = (StepStatus.COMPLETED, StepStatus.SKIPPED, StepStatus.FAILED, StepStatus.CANCELLED)


class Status(StrEnum):
    NEW = "new"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    COMPENSATING = "compensating"
    ENDED = "ended"


@dataclass(slots=True)
class Step:
    """A step that has begun or been settled; one that has not is not in the table."""

    status: StepStatus
    attempt: int = 0
    waits_for: str | None = None
    started_at: float = 0.0
    input: Any = None
    deadline: float | None = None
    wake_at: float | None = None
    output: Any = None


@dataclass(slots=True)
class Turns:
    """Of a loop that runs: how many turns have begun and are done, and what those that are done gave.

    Of a loop with a condition only the latest turn's output is kept. The steps of a turn that is done are forgotten,
    unless one of them can be undone: a loop of a hundred thousand turns weighs no more than what they gave.
    """

    begun: int = 0
    done: int = 0
    outputs: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """How an execution will end once what it did is undone; `undo` are the steps that undo, in order."""

    kind: str
    undo: list[str]
    step_id: str | None = None
    error: dict[str, Any] | None = None
    by: str = ""
    reason: str = ""


_NONE: dict[str, Any] = {"part": ()}


@dataclass(slots=True)
class Execution:
    """Changed by `evolve` alone. `n` is the number of the last event; times are seconds since the epoch.

    `unresolved` counts, for each step that some edges have reached, the incoming edges still open; `reached` are the
    steps that at least one taken edge has reached, and `taken` counts those edges for steps with a join of their own.
    `signals` are those that no step has taken yet, oldest first. `attempts` are those that a step had before the
    execution was rewound to a place before it. `failures` say what the failure of a step meant. `failing` says of a
    parallel step that waits for its other branches which step failed, and why. `undoable` are completed steps that can be
    undone, oldest first. `conversations` are the turns of agents that talk to models, by step, as
    `handrail_contracts.steps.Turn` has them; `suggestions` is what has become of those that steps made (`suggestions.py`).
    `queues` are those that it still has to be admitted by, the one that it has asked first; `places` are those that it has
    asked, and whether it gives its place back while it waits. `requests` are the latest controls that counted, so that none
    counts twice. `allowances` say of steps what they ask of budgets, and may use; `returned` is what the latest event has
    given back. `forgiven` are attempts since a rewind that were no tries: up to the latest that led to a suggestion, and those
    that stopped where they had used up what they were allowed. `chosen` are the agents that answered for capabilities.
    `assigned` says of steps that were handed over to which agent or person, `due` of tasks when they are, until that was told.
    """

    execution_id: str
    workflow_id: str = ""
    version: int = 0
    user_id: str = ""
    organization_id: str = ""
    project_id: str = ""
    session_id: str | None = None
    trigger: dict[str, Any] = field(default_factory=dict)
    input: Any = None
    context: dict[str, Any] = field(default_factory=dict)
    status: Status = Status.NEW
    n: int = 0
    started_at: float = 0.0
    deadline: float | None = None
    steps: dict[str, Step] = field(default_factory=dict)
    unresolved: dict[str, int] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    taken: dict[str, int] = field(default_factory=dict)
    signals: list[tuple[str, Any]] = field(default_factory=list)
    turns: dict[str, Turns] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    failing: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    undoable: list[str] = field(default_factory=list)
    outcome: Outcome | None = None
    parent: dict[str, Any] | None = None
    conversations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    suggestions: dict[str, dict[str, Any]] = field(default_factory=dict)
    allowances: dict[str, dict[str, Any]] = field(default_factory=dict)
    returned: list[dict[str, Any]] = field(default_factory=list)
    forgiven: dict[str, int] = field(default_factory=dict)
    queues: list[dict[str, Any]] = field(default_factory=list)
    places: dict[str, bool] = field(default_factory=dict)
    stubs: dict[str, Any] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    assigned: dict[str, dict[str, str]] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)
    working: int = 0
    idle: int = 0

    def run_id(self, step_id: str) -> str:
        if not self.attempts and "]" not in step_id and not self.suggestions:
            return run_id(self.execution_id, step_id)
        part = self.suggestions.get(step_id, _NONE)["part"]
        return run_id(self.execution_id, step_id, *self._attempts_before(step_id), *part)

    def tries(self, step_id: str) -> int:
        """Attempts of what is being tried now, without those before a rewind and those that count for nothing."""
        return self.steps[step_id].attempt - self.attempts.get(step_id, 0) - self.forgiven.get(step_id, 0)

    def _attempts_before(self, step_id: str) -> Iterator[int]:
        if before := self.attempts.get(step_id):
            yield before
        while (place := turn_of(step_id)) is not None:
            step_id = place[0]
            loop = self.steps.get(step_id)
            if loop is not None and loop.attempt > 1:
                yield loop.attempt

    def stop_work(self, step_id: str, status: StepStatus) -> Step:
        """Whatever the step waited for, it waits no more."""
        step = self.steps[step_id]
        if step.status is StepStatus.RETRYING or (step.status is StepStatus.RUNNING and step.waits_for not in IDLE):
            self.working -= 1
        elif step.status in (StepStatus.RUNNING, StepStatus.BLOCKED):
            self.idle -= 1
        step.status, step.input, step.deadline, step.wake_at = status, None, None, None
        return step

    def pack(self) -> bytes:
        """A few hundred bytes for a parked execution of ordinary size."""
        return zlib.compress(orjson.dumps(self, default=sorted), 1)

    @staticmethod
    def unpack(data: bytes) -> "Execution":
        raw = orjson.loads(zlib.decompress(data))
        raw["reached"] = set(raw["reached"])
        raw["status"] = Status(raw["status"])
        raw["steps"] = {
            step_id: Step(status=StepStatus(step.pop("status")), **step) for step_id, step in raw["steps"].items()
        }
        raw["turns"] = {loop_id: Turns(**turns) for loop_id, turns in raw["turns"].items()}
        raw["outcome"] = None if raw["outcome"] is None else Outcome(**raw["outcome"])
        return Execution(**raw)
