"""The one graph that every dialect compiles to. Immutable; the scheduler knows nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from handrail_contracts.budgets import Limits
from handrail_contracts.steps import Choice
from handrail_contracts.triggers import Timetable

from handrail_graph.suggestions import SuggestionRules
from handrail_graph.templates import Condition, Template
from handrail_graph.terms import TaskTerms


class StepType(StrEnum):
    """A further type gets its name here, its parameters in `parameters.py` and its beginning in the scheduler's `steps.py`."""

    TRIGGER = "trigger"
    AGENT_EXECUTION = "agent_execution"
    TOOL_CALL = "tool_call"
    API_CALL = "api_call"
    SUB_WORKFLOW = "sub_workflow"
    CONDITION = "condition"
    SWITCH = "switch"
    PARALLEL = "parallel"
    LOOP = "loop"
    DELAY = "delay"
    DATA_TRANSFORM = "data_transform"
    HUMAN_APPROVAL = "human_approval"
    SIGNAL = "signal"


EDITABLE = (
    StepType.AGENT_EXECUTION,
    StepType.TOOL_CALL,
    StepType.API_CALL,
    StepType.SUB_WORKFLOW,
    StepType.HUMAN_APPROVAL,
    StepType.DELAY,
)
"""Steps that take another input while they are under way."""
CHOOSING = (StepType.CONDITION, StepType.SWITCH)
"""Steps that choose a branch: they have an else, and nobody can skip one without choosing for it."""

WORK = (StepType.AGENT_EXECUTION, StepType.TOOL_CALL)
"""Steps that people see as tasks."""


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
    """How the workflow starts. `timetable` of a schedule; `event`, `source` and `condition` of an event on the bus."""

    kind: str
    timetable: Timetable | None = None
    overlap: str = "skip"
    missed: str = "run_once"
    input: Any = None
    event: str = ""
    source: str = ""
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class AgentParameters:
    """Who is asked: `agent` by name, or, where that is empty, one that has all the `capabilities`, by `choice`."""

    agent: str
    input: Template
    max_iterations: int | None = None
    suggestion: SuggestionRules | None = None
    capabilities: tuple[str, ...] = ()
    choice: Choice | None = None


@dataclass(frozen=True, slots=True)
class ToolParameters:
    """`tool` is the name of a native tool, or `server:tool` of one that a server offers. `ask_first`: who has to allow it."""

    tool: str
    arguments: Template
    ask_first: SuggestionRules | None = None


@dataclass(frozen=True, slots=True)
class SubWorkflowParameters:
    """Runs another workflow of the same tenant, its newest version unless one is named; its result is the output."""

    workflow_id: str
    version: int | None
    input: Template


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
    """Its next steps begin together; what joins them says so itself (`Node.join`).

    `error_policy`, when a step of one branch fails for good: `fail_fast` ends the execution at once, `wait_all` when the
    other branches are done, `ignore` ends that branch only.
    """

    error_policy: str = "fail_fast"


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
    """`on_timeout`: fail, reject or approve. `on_reject`: fail, or continue with the decision as output.

    `rules` become the contracts' `GateRules`.
    """

    approvers: tuple[str, ...]
    message: Template
    show: Template
    timeout_seconds: float | None
    on_timeout: str = "fail"
    on_reject: str = "fail"
    rules: Template | None = None


Parameters = (
    TriggerParameters
    | AgentParameters
    | ToolParameters
    | SubWorkflowParameters
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

    `join`: begins as soon as that many incoming edges were taken, and not only when all are decided; `rest` are the steps
    that nobody needs from then on. `on_error` is what its failure for good means: fail (the execution), continue, or wait
    for a person; `catch` are the steps that begin instead of `next`. `compensation` undoes it if the execution ends badly.
    `branch` is the parallel step in whose branch a failure stays; of that parallel step, `members` are all such steps.
    `task` is what people are told of it before it begins.
    """

    id: str
    type: StepType
    name: str
    parameters: Parameters
    next: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()
    cases: tuple[tuple[str, ...], ...] = ()
    join: int | None = None
    rest: tuple[str, ...] = ()
    on_error: str = "fail"
    catch: tuple[str, ...] = ()
    compensation: str | None = None
    branch: str | None = None
    members: tuple[str, ...] = ()
    predecessors: tuple[str, ...] = ()
    retry: Retry = Retry()
    timeout_seconds: float | None = None
    task: TaskTerms | None = None
    targets: tuple[str, ...] = field(init=False)
    """Every edge that leaves it, whatever takes it."""

    def __post_init__(self) -> None:
        of_cases = tuple(target for case in self.cases for target in case)
        object.__setattr__(self, "targets", self.next + self.otherwise + of_cases + self.catch)


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `limit` executions at a time, of the workflow, or with a `key` of those whose key is the same."""

    limit: int
    key: Template | None
    on_conflict: str = "queue"


@dataclass(frozen=True, slots=True)
class Graph:
    """Acyclic. A step starts when each incoming edge is taken or dead and one at least was taken; with none, it is skipped.

    A step with `join` starts as soon as that many were taken, too. `incoming` counts edges per step (an edge from both
    branches of one condition counts twice), `order` is topological and leaves out compensations, which are in `nodes`
    alone. `nodes` and `incoming` know the instances of steps in loops, too. `planned` are the steps with terms of a task.
    """

    name: str
    dialect: str
    nodes: Mapping[str, Node]
    order: tuple[str, ...]
    entry: tuple[str, ...]
    sinks: tuple[str, ...]
    incoming: Mapping[str, int]
    agents: frozenset[str]
    trigger: TriggerParameters | None = None
    concurrency: Concurrency | None = None
    timeout_seconds: float | None = None
    description: str = ""
    budget: Limits | None = None
    planned: tuple[str, ...] = ()
