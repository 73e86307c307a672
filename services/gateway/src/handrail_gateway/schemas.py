"""What the API takes and gives. Answers are written straight from rows; a test holds them to these models."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]
ExecutionStatus = Literal["pending", "running", "waiting", "paused", "completed", "failed", "cancelled", "timeout"]
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
    steps: list[JsonObject] | None = Field(None, max_length=2_000)
    tasks: list[JsonObject] | None = Field(None, max_length=2_000)

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

    def initial_input(self) -> Any:
        if "input" in self.model_fields_set:
            return self.input
        return {name: value for name, value in self.trigger.items() if name != "kind"}


class ControlRequest(Request):
    reason: str = Field("", max_length=2_000)


class SignalRequest(ControlRequest):
    data: Any = None


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
    started_at: datetime
    completed_at: datetime | None


class Step(BaseModel):
    step_id: str
    step_type: str
    status: Literal["running", "waiting", "retrying", "completed", "failed", "skipped", "cancelled"]
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
