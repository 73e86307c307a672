"""What the API takes and gives. Answers are written straight from rows; a test holds them to these models."""

from datetime import datetime
from typing import Annotated, Any, Literal

from handrail_contracts.triggers import Missed, Overlap
from handrail_graph import MAX_STEPS
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]
ExecutionStatus = Literal[
    "pending", "queued", "running", "waiting", "paused", "compensating", "completed", "failed", "cancelled", "timeout"
]
ApprovalStatus = Literal["pending", "approved", "rejected", "expired", "withdrawn"]
JsonObject = dict[str, Any]


class Request(BaseModel):
    """A body: fields that we do not know are refused rather than silently ignored."""

    model_config = ConfigDict(extra="forbid")


class Document(BaseModel):
    """A workflow definition, in any of the four dialects. The rest is the compiler's to judge."""

    model_config = ConfigDict(extra="allow")

    name: Name
    description: str = Field("", max_length=10_000)
    steps: list[JsonObject] | None = Field(None, max_length=MAX_STEPS)
    tasks: list[JsonObject] | None = Field(None, max_length=MAX_STEPS)

    def document(self) -> JsonObject:
        """As it was sent, so that it compiles here as it will in the scheduler."""
        return self.model_dump(mode="json", exclude_unset=True)


class ExecuteRequest(Request):
    """Seed 002's body. `input` is what expressions see; without it, it is the trigger without its `kind`."""

    trigger: JsonObject = {}
    user_id: str | None = Field(None, max_length=200)
    session_id: str | None = Field(None, max_length=200)
    context: JsonObject = {}
    input: Any = None
    attributes: dict[str, str | int | float | bool] = Field({}, max_length=50, description="to search executions by")
    priority: int = Field(0, ge=-100, le=100, description="of those that wait for a place, the higher begin first")

    def initial_input(self) -> Any:
        if "input" in self.model_fields_set:
            return self.input
        return {name: value for name, value in self.trigger.items() if name != "kind"}


class ControlRequest(Request):
    reason: str = Field("", max_length=2_000)


class SignalRequest(ControlRequest):
    data: Any = None


class StepRequest(ControlRequest):
    step_id: str = Field(min_length=1, max_length=500)


class RetryRequest(ControlRequest):
    step_id: str | None = Field(None, max_length=500, description="which step; without it, the one that can be retried")


class SkipRequest(StepRequest):
    output: Any = Field(None, description="what the step counts as having given")


class EditRequest(StepRequest):
    input: Any = Field(description="what the step begins again with")


class MigrateRequest(ControlRequest):
    version: int = Field(ge=1, le=2**31 - 1)
    dry_run: bool = Field(False, description="only say whether it could")


class ForkRequest(Request):
    """A new execution that goes on from a recorded one."""

    step_id: str | None = Field(None, max_length=500, description="the step to begin again with; without it, the first")
    version: int | None = Field(None, ge=1, le=2**31 - 1, description="of the workflow; the recorded one if absent")
    input: Any = Field(None, description="another input; the recorded one if absent")
    stub: bool = Field(
        False, description="give agents, tools and gates their recorded outputs instead of asking anybody"
    )
    reason: str = Field("", max_length=2_000)


class Filter(Request):
    """Which executions. Everything that is given must hold."""

    workflow_id: str | None = Field(None, max_length=200)
    status: ExecutionStatus | None = None
    version: int | None = Field(None, ge=1, le=2**31 - 1)
    started_after: AwareDatetime | None = None
    started_before: AwareDatetime | None = None
    text: str | None = Field(None, min_length=1, max_length=200, description="in the input, whatever the case")
    attributes: dict[str, Any] | None = Field(None, description="those that the execution must have")
    session_id: str | None = Field(None, max_length=200)
    parent_id: str | None = Field(None, max_length=200)
    origin_id: str | None = Field(None, max_length=200)
    execution_ids: list[Annotated[str, StringConstraints(min_length=1, max_length=200)]] | None = Field(
        None, max_length=10_000
    )


BulkAction = Literal["cancel", "terminate", "pause", "resume", "signal", "retry", "skip", "rewind", "migrate", "fork"]


class BulkRequest(Request):
    """One action for all executions that match. A filter that names nothing is refused: it would match everything."""

    action: BulkAction
    filter: Filter
    dry_run: bool = Field(False, description="only count and show")
    limit: int = Field(1_000, ge=1, le=10_000)
    step_id: str = Field("", max_length=500)
    signal: str = Field("", max_length=100)
    version: int | None = Field(None, ge=1, le=2**31 - 1)
    data: Any = None
    stub: bool = False
    reason: str = Field("", max_length=2_000)


class BulkRefusal(BaseModel):
    execution_id: str
    code: str
    detail: str


class BulkAnswer(BaseModel):
    """`matched` counts all that match, `accepted` those that the action was sent to; `new_executions` by origin."""

    dry_run: bool
    matched: int
    accepted: int
    refused: list[BulkRefusal]
    new_executions: dict[str, str]
    more: bool


class Forked(BaseModel):
    execution_id: str
    workflow_id: str
    workflow_version: int
    origin_id: str
    status: ExecutionStatus
    kept: list[str] = Field(description="steps whose recorded outputs are taken over")


class Migration(BaseModel):
    execution_id: str
    workflow_id: str
    status: ExecutionStatus
    request_id: str
    version: int
    possible: bool
    problems: list[str]


class ScheduleRequest(Request):
    workflow_id: str = Field(min_length=1, max_length=200)
    workflow_version: int | None = Field(None, ge=1, le=2**31 - 1)
    cron: str = Field("", max_length=200)
    timezone: str = Field("UTC", max_length=100)
    every_seconds: float | None = Field(None, ge=1, le=10 * 366 * 86_400)
    start_at: AwareDatetime | None = None
    end_at: AwareDatetime | None = None
    input: Any = None
    context: JsonObject = {}
    overlap: Overlap = "skip"
    missed: Missed = "run_once"
    paused: bool = False
    note: str = Field("", max_length=1000)


class Schedule(BaseModel):
    id: str
    workflow_id: str
    workflow_version: int | None
    timetable: JsonObject
    input: Any
    context: JsonObject | None
    overlap: Overlap
    missed: Missed
    paused: bool
    note: str
    updated_at: datetime
    next_due: datetime | None
    last_due: datetime | None
    last_outcome: str | None
    last_execution_id: str | None
    last_reason: str | None
    fired: int
    skipped: int


class SchedulePage(BaseModel):
    items: list[Schedule]
    next_cursor: str | None


class Upcoming(BaseModel):
    due: list[datetime]


class EventRequest(Request):
    type: str = Field(min_length=1, max_length=200)
    source: str = Field("", max_length=200)
    data: Any = None
    event_id: str | None = Field(None, min_length=1, max_length=150, description="the same id starts nothing twice")


class EventAccepted(BaseModel):
    event_id: str


class Webhook(BaseModel):
    """`secret` signs: `HMAC-SHA256(secret, "<t>." + body)` in `X-Handrail-Signature: t=<t>,v1=<hex>`, or as GitHub does."""

    url: str
    secret: str


class StepTypes(BaseModel):
    step_types: dict[str, JsonObject] = Field(description="JSON Schema of each type's parameters")
    common: JsonObject = Field(description="JSON Schema of what every step has besides")


class Export(BaseModel):
    """All that is needed to go through an execution again: `handrail debug FILE`."""

    format: Literal["handrail-execution/1"]
    execution_id: str
    workflow_id: str
    definitions: dict[str, JsonObject] = Field(description="by version")
    organization_id: str
    project_id: str
    records: list[JsonObject]


class Converted(BaseModel):
    document: JsonObject | None
    lost: list[str] = Field(description="what the other dialect has no words for")


class Position(Request):
    x: float = Field(ge=-1e6, le=1e6)
    y: float = Field(ge=-1e6, le=1e6)


class CanvasNode(BaseModel):
    id: str
    type: str
    name: str
    position: Position
    step: JsonObject


class CanvasEdge(BaseModel):
    id: str
    source: str
    target: str
    kind: Literal["next", "else", "case", "error", "compensation"]
    label: str


class Canvas(BaseModel):
    workflow_id: str
    version: int
    nodes: list[CanvasNode]
    edges: list[CanvasEdge]


class CanvasRequest(Request):
    positions: dict[str, Position] = Field(max_length=MAX_STEPS)


class StepAdded(Request):
    step: JsonObject
    after: str | None = Field(None, max_length=200, description="a step that then leads to the new one")


class StepReplaced(Request):
    step: JsonObject


class Reorder(Request):
    step_ids: list[str] = Field(min_length=1, max_length=MAX_STEPS)


class Connection(Request):
    target: str = Field(min_length=1, max_length=200)
    kind: Literal["next", "else", "error"] = "next"
    connected: bool = Field(True, description="false takes the connection away")


class CopyRequest(Request):
    name: Name | None = None


class DecisionRequest(Request):
    decision: Literal["approved", "rejected"]
    comment: str = Field("", max_length=10_000)


class CommentRequest(Request):
    text: str = Field(min_length=1, max_length=10_000)


class AgentRequest(Request):
    kind: Literal["http", "python", "scripted"]
    name: str = Field("", max_length=255)
    description: str = Field("", max_length=10_000)
    capabilities: list[Annotated[str, StringConstraints(min_length=1, max_length=200)]] = Field([], max_length=100)
    config: JsonObject = {}

    @model_validator(mode="after")
    def _reachable(self) -> "AgentRequest":
        if self.kind == "http" and not str(self.config.get("url", "")).startswith(("http://", "https://")):
            raise ValueError("an agent of kind `http` needs `config.url`, beginning with http:// or https://")
        limit = self.config.get("rate_limit")
        if limit is not None:
            numbers = [limit.get("count"), limit.get("per_seconds", 1)] if isinstance(limit, dict) else [None]
            if not all(isinstance(number, int | float) and number > 0 for number in numbers):
                raise ValueError('`config.rate_limit` is {"count": 10, "per_seconds": 60}, both above 0')
        return self


class ErrorDetail(BaseModel):
    path: str
    message: str
    code: str = ""


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[ErrorDetail] = []


class StepError(BaseModel):
    code: str
    message: str
    retryable: bool = False


class WorkflowSummary(BaseModel):
    id: str
    name: str
    description: str
    status: Literal["active"]
    version: int
    created_at: datetime
    updated_at: datetime


class Workflow(WorkflowSummary):
    definition: JsonObject


class RolloutRequest(Request):
    """Of the starts that name no version, `percent` get the canary and the others the stable one."""

    stable: int = Field(ge=1, le=2**31 - 1)
    canary: int = Field(ge=1, le=2**31 - 1)
    percent: float = Field(ge=0, le=100)


class Rollout(BaseModel):
    stable: int | None
    canary: int | None
    percent: float
    updated_at: datetime | None


class VersionSummary(BaseModel):
    version: int
    name: str
    active: bool
    saved_by: str
    saved_at: datetime


class VersionPage(BaseModel):
    items: list[VersionSummary]
    next_cursor: str | None


class Difference(BaseModel):
    """In `path`, steps and tasks are named by their id: `steps[review].parameters.message`."""

    path: str
    kind: Literal["added", "removed", "changed"]
    before: Any
    after: Any


class Differences(BaseModel):
    changes: list[Difference]


class StepStats(BaseModel):
    step_id: str
    completed: int
    failed: int
    skipped: int
    p50_seconds: float | None
    p95_seconds: float | None


class WorkflowStats(BaseModel):
    """`executions` by status; `success_rate` of those that ended by themselves; durations of those that completed."""

    executions: dict[str, int]
    success_rate: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    steps: list[StepStats]


class WorkflowPage(BaseModel):
    items: list[WorkflowSummary]
    next_cursor: str | None


class Validation(BaseModel):
    valid: bool
    errors: list[ErrorDetail]


class ExecutionAccepted(BaseModel):
    execution_id: str
    workflow_id: str
    status: ExecutionStatus
    started_at: datetime


class ExecutionSummary(BaseModel):
    id: str
    workflow_id: str
    workflow_version: int | None
    user_id: str
    session_id: str | None
    status: ExecutionStatus
    attributes: JsonObject
    parent_id: str | None = Field(description="of a sub-workflow, or of a schedule's run")
    origin_id: str | None = Field(description="the recorded execution that this one goes on from")
    started_at: datetime
    completed_at: datetime | None


class Step(BaseModel):
    step_id: str
    step_type: str
    status: Literal[
        "running", "waiting", "retrying", "blocked", "completed", "failed", "skipped", "cancelled", "rewound"
    ]
    agent: str | None
    attempt: int
    waits_for: str | None
    started_at: datetime | None
    completed_at: datetime | None
    wake_at: datetime | None
    deadline: datetime | None
    input: Any
    result: Any
    error: StepError | None


class Execution(ExecutionSummary):
    trigger: JsonObject | None
    input: Any
    context: JsonObject | None
    steps: list[Step]
    result: Any
    error: StepError | None


class ExecutionPage(BaseModel):
    items: list[ExecutionSummary]
    next_cursor: str | None


class Comparison(BaseModel):
    """What differs between two executions: status, result, and each step's status, input and result."""

    left: str
    right: str
    changes: list[Difference]


class HistoryEvent(BaseModel):
    """An event of the scheduler's journal, with the time of its record. Other fields depend on `type`."""

    model_config = ConfigDict(extra="allow")

    n: int
    at: datetime
    type: str


class Wait(BaseModel):
    """`for`: agent, approval, signal, timer, loop, retry or scheduler."""

    step: str
    for_: str = Field(alias="for")
    since: datetime | None
    until: datetime | None
    sentence: str


class Why(BaseModel):
    execution_id: str
    status: ExecutionStatus
    why: str
    waits: list[Wait]


class Attempt(BaseModel):
    """Of a step that was skipped only `ended_at` and `outcome` are told; of one that goes on, no end."""

    step: str
    step_type: str | None
    attempt: int
    waits_for: str | None
    agent: str | None
    started_at: datetime | None
    ended_at: datetime | None
    seconds: float | None
    outcome: str | None


class Timeline(BaseModel):
    execution_id: str
    status: ExecutionStatus
    seconds: float
    attempts: list[Attempt]


class HistoryPage(BaseModel):
    items: list[HistoryEvent]
    next_cursor: str | None


class ControlAccepted(BaseModel):
    execution_id: str
    workflow_id: str
    status: ExecutionStatus
    request_id: str


class ApprovalSummary(BaseModel):
    id: str
    execution_id: str
    workflow_id: str
    step_id: str
    status: ApprovalStatus | Literal["submitted"]
    approvers: list[str]
    message: str
    show: Any
    deadline: datetime | None
    decided_by: str
    comment: str
    created_at: datetime
    decided_at: datetime | None


class ApprovalEvent(BaseModel):
    at: datetime
    event: JsonObject


class Approval(ApprovalSummary):
    history: list[ApprovalEvent]


class ApprovalPage(BaseModel):
    items: list[ApprovalSummary]
    next_cursor: str | None


class Comment(BaseModel):
    id: str
    approval_id: str
    author: str
    text: str
    created_at: datetime


class AgentSummary(BaseModel):
    agent: str
    kind: str
    name: str
    description: str
    capabilities: list[str]
    shared: bool = Field(description="belongs to the platform, not to a tenant")
    registered_at: datetime


class Agent(AgentSummary):
    config: JsonObject


class AgentPage(BaseModel):
    items: list[AgentSummary]
    next_cursor: str | None


class Tool(BaseModel):
    name: str
    description: str
    parameters: JsonObject | None


class ToolList(BaseModel):
    items: list[Tool]


class Server(BaseModel):
    name: str
    tools: list[Tool]


class ServerList(BaseModel):
    items: list[Server]


class DeadLetter(BaseModel):
    id: str
    service: str
    code: str
    reason: str
    topic: str
    partition: int
    offset: int
    execution_id: str
    occurred_at: datetime


class DeadLetterPage(BaseModel):
    items: list[DeadLetter]
    next_cursor: str | None


class CompatTask(BaseModel):
    model_config = ConfigDict(extra="allow")

    agent: str = Field(min_length=1, max_length=200)
    input: Any = None


class CompatCreate(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: Name
    tasks: list[CompatTask] = Field(min_length=1, max_length=2_000)


class CompatCreated(BaseModel):
    workflow_id: str
    name: str
    status: Literal["pending"]
    task_count: int


class CompatStarted(BaseModel):
    workflow_id: str
    status: Literal["running"]
    message: str


CompatStatus = Literal["pending", "running", "completed", "failed"]


class CompatTaskState(BaseModel):
    agent: str
    status: str


class CompatResult(BaseModel):
    step: int
    output: Any


class CompatWorkflow(BaseModel):
    workflow_id: str
    name: str
    status: CompatStatus
    tasks: list[CompatTaskState]
    results: list[CompatResult]


class CompatItem(BaseModel):
    workflow_id: str
    name: str
    status: CompatStatus
    task_count: int


class CompatList(BaseModel):
    workflows: list[CompatItem]
    next_cursor: str | None
