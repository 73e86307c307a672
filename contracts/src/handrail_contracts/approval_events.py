"""The journal of approvals: what happened to a gate. Same rules as the scheduler's journal."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field

from handrail_contracts.envelope import JsonObject, Model
from handrail_contracts.journal import Record


class ApprovalEvent(Model):
    approval_id: str


class Suggested(Model):
    """What an agent suggests, as people are shown it."""

    agent: str
    action: str
    reasoning: str
    confidence: float
    suggested_data: JsonObject
    revision: int
    task_id: str = ""
    revisable: bool = True


class ApprovalOpened(ApprovalEvent):
    type: Literal["approval.opened"] = "approval.opened"
    step_id: str
    user_id: str
    organization_id: str
    project_id: str
    approvers: tuple[str, ...] = ()
    message: str = ""
    show: Any = None
    deadline: AwareDatetime | None = None
    suggestion: Suggested | None = None


class SuggestionRevised(ApprovalEvent):
    type: Literal["suggestion.revised"] = "suggestion.revised"
    suggestion: Suggested


class ApprovalCommented(ApprovalEvent):
    """`revises` is the revision of a suggestion that the comment sends back to its agent."""

    type: Literal["approval.commented"] = "approval.commented"
    comment_id: str
    author: str
    text: str
    author_type: Literal["human", "agent"] = "human"
    revises: int | None = None


class ApprovalRefused(ApprovalEvent):
    """A submission that does not count, and why (not an approver, other tenant, already decided)."""

    type: Literal["approval.refused"] = "approval.refused"
    submission_id: str
    by: str
    reason: str


class ApprovalClosed(ApprovalEvent):
    """The effective decision: the first that was journaled."""

    type: Literal["approval.closed"] = "approval.closed"
    decision: Literal["approved", "rejected", "expired", "withdrawn"]
    submission_id: str = ""
    by: str = ""
    comment: str = ""
    revision: int | None = None
    data: JsonObject | None = None


AnyApprovalEvent = Annotated[
    ApprovalOpened | SuggestionRevised | ApprovalCommented | ApprovalRefused | ApprovalClosed,
    Field(discriminator="type"),
]


class ApprovalRecord(Record):
    """One journal record: everything that one input made of the gates of one execution."""

    events: tuple[AnyApprovalEvent, ...] = ()
