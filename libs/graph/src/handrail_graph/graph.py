"""The one graph that every dialect compiles to. Immutable; the scheduler knows nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from handrail_graph.templates import Condition, Template


class StepType(StrEnum):
    """Further types (tool_call, sub-workflow) get their name here, their parameters in `parameters.py` and their beginning in
    the scheduler's `steps.py`."""

    TRIGGER = "trigger"
    AGENT_EXECUTION = "agent_execution"
    API_CALL = "api_call"
    CONDITION = "condition"
    SWITCH = "switch"
    PARALLEL = "parallel"
    LOOP = "loop"
    DELAY = "delay"
    DATA_TRANSFORM = "data_transform"
    HUMAN_APPROVAL = "human_approval"
    SIGNAL = "signal"


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential back-off. `max_attempts` counts the first attempt."""

    max_attempts: int = 1
    backoff_seconds: float = 1.0
    multiplier: float = 2.0
    max_backoff_seconds: float = 300.0
    jitter: float = 0.1

    def delay(self, attempt: int, fraction: float) -> float:
        """Seconds between the end of `attempt` (from 1) and the next; `fraction` in [0, 1) places it in the jitter."""
        grown = self.backoff_seconds * self.multiplier ** min(attempt - 1, 64)
        return min(grown, self.max_backoff_seconds) * (1 + self.jitter * (2 * fraction - 1))


@dataclass(frozen=True, slots=True)
class TriggerParameters:
    kind: str


@dataclass(frozen=True, slots=True)
class AgentParameters:
    agent: str
    input: Template
    max_iterations: int | None = None


@dataclass(frozen=True, slots=True)
class ApiCallParameters:
    method: str
    url: Template
    headers: Template
    body: Template
    expected_status: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ConditionParameters:
    condition: Condition


@dataclass(frozen=True, slots=True)
class SwitchParameters:
    """The first case that holds is taken, or with `every` all that hold; else the else branch."""

    conditions: tuple[Condition, ...]
    every: bool = False


@dataclass(frozen=True, slots=True)
class ParallelParameters:
    """Its next steps begin together; what joins them says so itself (`Node.join`)."""


@dataclass(frozen=True, slots=True)
class SignalParameters:
    """Waits until somebody sends the signal of that name. `on_timeout`: fail, or continue without data."""

    name: str
    on_timeout: str = "fail"


@dataclass(frozen=True, slots=True)
class LoopParameters:
    """Runs `body` for each item of `over`, `max_parallel` turns at a time; or again and again until `until` holds.

    `until` is asked after each turn; more than `max_turns` fail. A body's steps see `loop.item`, `loop.index` and `loop.last`.
    """

    body: "Graph"
    over: Template | None
    until: Condition | None
    max_parallel: int
    max_turns: int


@dataclass(frozen=True, slots=True)
class DelayParameters:
    seconds: Template


@dataclass(frozen=True, slots=True)
class TransformParameters:
    output: Template


@dataclass(frozen=True, slots=True)
class ApprovalParameters:
    """`on_timeout`: fail, reject or approve. `on_reject`: fail, or continue with the decision as output."""

    approvers: tuple[str, ...]
    message: Template
    show: Template
    timeout_seconds: float | None
    on_timeout: str = "fail"
    on_reject: str = "fail"


Parameters = (
    TriggerParameters
    | AgentParameters
    | ApiCallParameters
    | ConditionParameters
    | SwitchParameters
    | ParallelParameters
    | SignalParameters
    | LoopParameters
    | DelayParameters
    | TransformParameters
    | ApprovalParameters
)


@dataclass(frozen=True, slots=True)
class Node:
    """A step. `next` follows its end; `otherwise` is the else branch of a condition or switch, `cases` a switch's branches.

    `join`: begins as soon as that many incoming edges were taken, and not only when all are decided.
    """

    id: str
    type: StepType
    name: str
    parameters: Parameters
    next: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()
    cases: tuple[tuple[str, ...], ...] = ()
    join: int | None = None
    predecessors: tuple[str, ...] = ()
    retry: Retry = Retry()
    timeout_seconds: float | None = None
    targets: tuple[str, ...] = field(init=False)
    """Every edge that leaves it, whatever takes it."""

    def __post_init__(self) -> None:
        of_cases = tuple(target for case in self.cases for target in case)
        object.__setattr__(self, "targets", self.next + self.otherwise + of_cases)


@dataclass(frozen=True, slots=True)
class Graph:
    """Acyclic. A step starts when each incoming edge is taken or dead and one at least was taken; with none, it is skipped.

    A step with `join` starts as soon as that many were taken, too. `incoming` counts edges per step (an edge from both
    branches of one condition counts twice), `order` is topological. Both tables know the instances of steps in loops, too.
    """

    name: str
    dialect: str
    nodes: Mapping[str, Node]
    order: tuple[str, ...]
    entry: tuple[str, ...]
    sinks: tuple[str, ...]
    incoming: Mapping[str, int]
    agents: frozenset[str]
    timeout_seconds: float | None = None
    description: str = ""
