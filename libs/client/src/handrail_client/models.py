"""What the API gives, as far as this client uses it: a test holds all of it to the API's own document.

A field that a newer gateway adds is kept, as an attribute without a type. Statuses are plain texts, so a new one breaks nobody.
"""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

Json = dict[str, Any]

ENDED = frozenset({"completed", "failed", "cancelled", "timeout"})
"""The statuses of an execution that nothing happens to any more."""


class Answer(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class StepError(Answer):
    code: str
    message: str
    retryable: bool = False


class ExecutionSummary(Answer):
    id: str
    workflow_id: str
    workflow_version: int | None
    user_id: str
    session_id: str | None
    status: str
    attributes: Json
    parent_id: str | None
    origin_id: str | None
    started_at: datetime
    completed_at: datetime | None


class Step(Answer):
    step_id: str
    step_type: str
    status: str
    agent: str | None
    attempt: int
    waits_for: str | None
    started_at: datetime | None
    completed_at: datetime | None
    input: Any
    result: Any
    error: StepError | None


class Execution(ExecutionSummary):
    trigger: Json | None
    input: Any
    context: Json | None
    steps: list[Step]
    result: Any
    error: StepError | None


class Accepted(Answer):
    """What was asked for is in the log. `execution_id` is another one's where the execution had ended, and a new one goes on."""

    execution_id: str
    workflow_id: str
    status: str


class HistoryEvent(Answer):
    n: int
    at: datetime
    type: str


class Why(Answer):
    execution_id: str
    status: str
    why: str


class Approval(Answer):
    """`status` is `submitted` while it is not known whether the decision counts."""

    id: str
    execution_id: str
    workflow_id: str
    step_id: str
    status: str
    approvers: list[str]
    message: str
    show: Any
    deadline: datetime | None
    decided_by: str
    comment: str
    created_at: datetime
    decided_at: datetime | None


class Comment(Answer):
    id: str
    author: str
    text: str
    created_at: datetime


class SuggestionSummary(Answer):
    id: str
    task_id: str
    agent_id: str
    action: str
    reasoning: str
    confidence: float
    suggested_data: Json
    revision: int
    status: str
    execution_id: str
    workflow_id: str
    step_id: str
    approvers: list[str]
    deadline: datetime | None
    created_at: datetime
    decided_data: Json | None
    approved_by: str
    notes: str
    decided_at: datetime | None


class Remark(Answer):
    id: str
    author_id: str
    author_type: str
    text: str
    sends_back: bool
    created_at: datetime


class Revision(Answer):
    revision: int
    action: str
    reasoning: str
    confidence: float
    suggested_data: Json
    created_at: datetime
    changes: list[Json]


class ActionResult(Answer):
    type: str
    timestamp: datetime
    details: Any


class Suggestion(SuggestionSummary):
    revisions: list[Revision]
    comments: list[Remark]
    result: ActionResult | None


class WorkflowSummary(Answer):
    id: str
    name: str
    description: str
    version: int
    created_at: datetime
    updated_at: datetime


class Workflow(WorkflowSummary):
    definition: Json


class AgentSummary(Answer):
    id: str
    kind: str
    name: str
    description: str
    capabilities: list[str]
    shared: bool
    status: str
    success_rate: float | None
    total_tasks: int
    failed_tasks: int
    last_seen: datetime | None
    problem: str


class Agent(AgentSummary):
    config: Json


class DeskTier(Answer):
    name: str
    agents: int
    specialties: list[str]


class DeskSettings(Answer):
    tiers: list[DeskTier]
    strategy: str
    confidence_threshold: float
    routing: list[Json]
    classifier: bool
    model: str
    instructions: str
    sla: Json
    history: int
    human: Json


class DeskAgent(Answer):
    id: str
    name: str
    tier: str
    specialties: list[str]


class DeskConfiguration(DeskSettings):
    name: str
    workflow_id: str
    version: int
    agents: list[DeskAgent]


class AgentLoad(Answer):
    id: str
    name: str
    tier: str
    open: int
    answered: int
    average_seconds: float | None


class DeskStats(Answer):
    open: int
    waiting: int
    answered: int
    failed: int
    escalated: int
    breached: int
    agents: list[AgentLoad]


class InquirySla(Answer):
    first_answer_due: datetime
    resolution_due: datetime
    breached: list[str]


class Inquiry(Answer):
    """`status`: `open`, `waiting` for a person, `answered` or `failed`. `escalations` are the tiers that passed it on.

    `response` is empty until it is answered; `agent` is who has it or has answered, `person` where that is one.
    """

    id: str
    customer_id: str
    inquiry: str
    topic: str
    priority: str
    status: str
    response: str
    agent: str
    tier: str
    escalated: bool
    escalations: list[str]
    reviewer: str
    confidence: float | None
    error: str
    created_at: datetime
    answered_at: datetime | None
    sla: InquirySla


class Escalation(Approval):
    """`assignee` is who alone answers it; empty where anybody of the reviewers may."""

    priority: str
    assignee: str


class Reviewer(Answer):
    id: str
    name: str
    email: str
    specialties: list[str]
    capacity: int
    load: int


class IssuedKey(Answer):
    id: str
    name: str
    key: str | None


class Nothing(Answer):
    """Of an answer without a body."""


class EventAccepted(Answer):
    event_id: str
