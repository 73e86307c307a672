"""The state of one execution, and how it is packed while nothing but people and timers can move it."""

import zlib
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import orjson


class StepStatus(StrEnum):
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class Status(StrEnum):
    NEW = "new"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
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
class Execution:
    """Changed by `evolve` alone. `n` is the number of the last event; times are seconds since the epoch.

    `unresolved` counts, for each step that some edges have reached, the incoming edges still open; `reached` are the
    steps that at least one taken edge has reached, and `taken` counts those edges for steps with a join of their own.
    `turns` says of each loop that runs how many turns have begun and how many are done. `signals` are those that no step
    has taken yet, oldest first.
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
    turns: dict[str, list[int]] = field(default_factory=dict)
    working: int = 0
    idle: int = 0

    def pack(self) -> bytes:
        """A few hundred bytes for a parked execution of ordinary size."""
        raw = asdict(self)
        raw["reached"] = sorted(self.reached)
        return zlib.compress(orjson.dumps(raw), 1)

    @staticmethod
    def unpack(data: bytes) -> "Execution":
        raw = orjson.loads(zlib.decompress(data))
        raw["reached"] = set(raw["reached"])
        raw["status"] = Status(raw["status"])
        raw["steps"] = {
            step_id: Step(status=StepStatus(step.pop("status")), **step) for step_id, step in raw["steps"].items()
        }
        return Execution(**raw)
