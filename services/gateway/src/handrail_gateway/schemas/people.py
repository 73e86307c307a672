"""Approvals, registrations of agents, dead letters."""

from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from handrail_contracts.agents import A2aConfig, BreakerConfig, LlmConfig
from handrail_contracts.codec import first_mistake
from handrail_contracts.gates import Priority
from handrail_contracts.reviewers import Absence, WorkingHours
from handrail_runtime.models import schema_mistake
from pydantic import (
    AwareDatetime,
    BaseModel,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)

from handrail_gateway.problems import ONE, SEVERAL
from handrail_gateway.schemas.base import ApprovalStatus, JsonObject, Request
from handrail_gateway.schemas.tasks import Given

AGENT_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
CONFIGS: dict[str, type[BaseModel]] = {"llm": LlmConfig, "a2a": A2aConfig}
"""What `config` has to be, by kind."""


class DecisionRequest(Request):
    decision: Literal["approved", "rejected"]
    comment: str = Field("", max_length=10_000)
    revision: int | None = Field(None, ge=1, description="of a suggestion: the one that you have seen")
    data: JsonObject | None = Field(None, description="of a suggestion: what you made of its data")
    digest: str = Field(
        "", max_length=64, description="`digest` of what you have seen: shown otherwise by now, it is not decided on"
    )


class OneDecision(DecisionRequest):
    id: str = Field(min_length=1, max_length=200)


class DecisionsRequest(Request):
    decisions: list[OneDecision] = Field(min_length=1, max_length=100)


class DecisionResult(BaseModel):
    id: str
    status: int = Field(description="as if it had been sent alone")
    code: str = ""
    detail: str = ""
    approval: "ApprovalSummary | None" = None


class DecisionResults(BaseModel):
    items: list[DecisionResult]


class NoteRequest(Request):
    comment: str = Field("", max_length=10_000)


class DelegateRequest(NoteRequest):
    to: str = Field(min_length=1, max_length=320)


class ApproveRequest(Request):
    notes: str = Field("", max_length=10_000)
    revision: int | None = Field(None, ge=1, description="the one that you have seen")
    suggested_data: JsonObject | None = Field(
        None, description="what you made of it; what the agent suggested, if absent"
    )


class RejectRequest(Request):
    notes: str = Field("", max_length=10_000)


class CommentRequest(Request):
    text: str = Field(min_length=1, max_length=10_000)
    revise: bool = Field(True, description="whether it sends a suggestion back to its agent")


AgentKind = Literal["http", "python", "scripted", "llm", "a2a", "external"]


class AgentHistory(Request):
    """Figures of before, which the agent brings along: those that are computed here add to them."""

    total_tasks: int = Field(0, ge=0, le=10**12)
    failed_tasks: int = Field(0, ge=0, le=10**12)
    success_rate: float | None = Field(None, ge=0, le=1, description="where no task was counted")
    last_seen: AwareDatetime | None = None
    metrics: JsonObject = {}


class Registration(Request):
    kind: str
    name: str = Field("", max_length=255)
    description: str = Field("", max_length=10_000)
    capabilities: list[Annotated[str, StringConstraints(min_length=1, max_length=200)]] = Field([], max_length=100)
    config: JsonObject = {}
    history: AgentHistory | None = None


class AgentRequest(Registration):
    kind: AgentKind

    @model_validator(mode="after")
    def _reachable(self) -> "AgentRequest":
        if self.kind == "http" and not str(self.config.get("url", "")).startswith(("http://", "https://")):
            raise ValueError("an agent of kind `http` needs `config.url`, beginning with http:// or https://")
        if self.kind in CONFIGS:
            self._check(CONFIGS[self.kind], self.config, "config")
            if self.kind == "llm" and (mistake := schema_mistake(self.config.get("output_schema"))):
                raise ValueError(f"`config.output_schema`: {mistake}")
        elif self.config.get("breaker") not in (None, False):
            self._check(BreakerConfig, self.config["breaker"], "config.breaker")
        limit = self.config.get("rate_limit")
        if limit is not None:
            numbers = [limit.get("count"), limit.get("per_seconds", 1)] if isinstance(limit, dict) else [None]
            if not all(isinstance(number, int | float) and number > 0 for number in numbers):
                raise ValueError('`config.rate_limit` is {"count": 10, "per_seconds": 60}, both above 0')
        return self

    @staticmethod
    def _check(model: type[BaseModel], given: Any, path: str) -> None:
        try:
            model.model_validate(given)
        except ValidationError as error:
            place, why = first_mistake(error)
            raise ValueError(f"`{'.'.join(filter(None, (path, place)))}`: {why}") from error


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
    priority: Priority
    assignee: str = Field(description="who alone decides, if anybody has it")
    digest: str = Field(description="SHA-256 of what is shown")
    rules: JsonObject | None = Field(description="how it is decided, where not by the first who may")
    escalations: int


class Vote(BaseModel):
    by: str
    on_behalf_of: str
    decision: Literal["approved", "rejected"]
    comment: str
    at: datetime


class ApprovalEvent(BaseModel):
    at: datetime
    event: JsonObject


class Approval(ApprovalSummary):
    votes: list[Vote]
    history: list[ApprovalEvent]


class AuditEntry(ApprovalEvent):
    approval_id: str
    execution_id: str
    workflow_id: str
    step_id: str
    partition: int
    offset: int
    link: str = Field(description="of the journal's hash chain, after the record that the event is in")


class AuditPage(BaseModel):
    items: list[AuditEntry]
    next_cursor: str | None


class ReviewerRequest(Request):
    """Who is asked. Without `hours` always on duty; `absences` have a substitute who may decide meanwhile."""

    name: str = Field("", max_length=255)
    email: str = Field("", max_length=320)
    specialties: list[Annotated[str, StringConstraints(min_length=1, max_length=200)]] = Field([], max_length=100)
    capacity: int = Field(10, ge=0, le=10_000, description="how many gates at one time")
    hours: WorkingHours | None = None
    absences: list[Absence] = Field([], max_length=50)

    @model_validator(mode="after")
    def _usable(self) -> "ReviewerRequest":
        if self.hours is not None and self.hours.timezone not in available_timezones():
            raise ValueError(f"there is no time zone {self.hours.timezone!r}; write one such as Europe/Berlin")
        if any(absence.end <= absence.start for absence in self.absences):
            raise ValueError("an absence has to end after it has begun")
        return self


class Reviewer(BaseModel):
    id: str
    name: str
    email: str
    specialties: list[str]
    capacity: int
    hours: WorkingHours | None
    absences: list[Absence]
    load: int = Field(description="gates that are assigned now")
    updated_at: datetime


class CallbackSecret(BaseModel):
    secret: str


class ReviewerPage(BaseModel):
    items: list[Reviewer]
    next_cursor: str | None


class ApprovalPage(BaseModel):
    items: list[ApprovalSummary]
    next_cursor: str | None


class Comment(BaseModel):
    id: str
    approval_id: str
    author: str
    text: str
    created_at: datetime


class SuggestionSummary(BaseModel):
    id: str
    task_id: str = Field(description="the step run that waits for it")
    agent_id: str
    action: str
    reasoning: str
    confidence: float
    suggested_data: JsonObject
    revision: int
    status: ApprovalStatus
    execution_id: str
    workflow_id: str
    step_id: str
    approvers: list[str]
    deadline: datetime | None
    created_at: datetime
    decided_data: JsonObject | None = Field(description="what was approved, if a person had changed it")
    approved_by: str = Field(description="who has decided")
    notes: str
    decided_at: datetime | None


class NewSuggestion(Request):
    """What an agent that works by itself suggests on its task. Again with the same id: its next revision, if people sent it back.

    How it was decided elsewhere is taken, and not kept: a decision is its approver's own.
    """

    id: Given | None = None
    task_id: str = Field(min_length=1, max_length=200)
    agent_id: str | None = Field(None, max_length=200, description="the task's, if absent")
    action: str = Field(min_length=1, max_length=200)
    reasoning: str = Field("", max_length=10_000)
    confidence: float = Field(ge=0, le=1)
    suggested_data: JsonObject = {}
    comment: str = Field("", max_length=10_000, description="to those who sent the last revision back")
    revision: int = Field(1, ge=1)
    approvers: list[str] = Field([], max_length=100, description="who may decide; anyone, if empty")
    created_at: Any = None
    status: Any = None
    approved_at: Any = None
    approved_by: Any = None
    notes: Any = None


NewSuggestions = Annotated[
    Annotated[NewSuggestion, Tag(ONE)]
    | Annotated[list[NewSuggestion], Field(min_length=1, max_length=200), Tag(SEVERAL)],
    Discriminator(lambda body: SEVERAL if isinstance(body, list) else ONE),
]
"""One, or a list of them."""


class SuggestionPage(BaseModel):
    items: list[SuggestionSummary]
    next_cursor: str | None


class Revision(BaseModel):
    revision: int
    action: str
    reasoning: str
    confidence: float
    suggested_data: JsonObject
    created_at: datetime
    changes: list[JsonObject] = Field(description="in the data, against the revision before")


class SuggestionRemark(BaseModel):
    id: str
    author_id: str
    author_type: Literal["human", "agent"]
    text: str
    sends_back: bool
    created_at: datetime


class ActionResult(BaseModel):
    type: str
    timestamp: datetime
    details: Any


class Suggestion(SuggestionSummary):
    revisions: list[Revision]
    comments: list[SuggestionRemark]
    result: ActionResult | None = Field(description="once its action has been carried out")


class SuggestionDecision(ApprovalSummary):
    suggestion_id: str
    approved_by: str = Field(description="who has decided")
    notes: str


class SuggestionComment(BaseModel):
    id: str
    suggestion_id: str
    task_id: str
    author: str
    author_id: str
    author_type: Literal["human", "agent"]
    text: str
    created_at: datetime


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
