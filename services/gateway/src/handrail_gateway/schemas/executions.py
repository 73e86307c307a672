"""Executions: starting, finding, understanding and steering them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from handrail_gateway.schemas.base import Difference, ExecutionStatus, JsonObject, Request, StepError


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
    data: Any = Field(None, description="after OUTCOME_UNKNOWN: what the call gave, for the model to go on with")


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


class Export(BaseModel):
    """All that is needed to go through an execution again: `handrail debug FILE`."""

    format: Literal["handrail-execution/1"]
    execution_id: str
    workflow_id: str
    definitions: dict[str, JsonObject] = Field(description="by version")
    organization_id: str
    project_id: str
    records: list[JsonObject]


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
        "pending", "running", "waiting", "retrying", "blocked", "completed", "failed", "skipped", "cancelled", "rewound"
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
    """Of a step that was skipped, was overdue, or was completed, failed or handed over by hand, only `ended_at` and `outcome` are
    told; of an attempt that goes on, no end."""

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


class ModelCallEntry(BaseModel):
    """One call of a language model, as its provider counts it; no `cost_usd` where no price is known."""

    at: datetime
    step_id: str
    attempt: int
    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    seconds: float
    tools: list[str]
    error: str


class ModelCallTotals(BaseModel):
    """Of the whole execution; `cost_usd` of the calls whose price is known, absent if there is none."""

    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    seconds: float


class ModelCallPage(BaseModel):
    items: list[ModelCallEntry]
    totals: ModelCallTotals
    next_cursor: str | None


class HistoryPage(BaseModel):
    items: list[HistoryEvent]
    next_cursor: str | None


class ControlAccepted(BaseModel):
    execution_id: str
    workflow_id: str
    status: ExecutionStatus
    request_id: str
