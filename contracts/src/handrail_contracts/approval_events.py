"""The journal of approvals: what happened to a gate. Same rules as the scheduler's journal."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field

from handrail_contracts.envelope import JsonObject, Model
from handrail_contracts.gates import GateRules, Origin
from handrail_contracts.journal import Record
from handrail_contracts.notifications import NoticeKind
from handrail_contracts.reviewers import PoolLookedAgain, ReviewEnded, ReviewerSet, ReviewGiven, ReviewQueued


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
    rules: GateRules | None = None
    digest: str = Field("", description="of what people are shown")
    opened_at: AwareDatetime | None = Field(None, description="where rules count from it")


class SuggestionRevised(ApprovalEvent):
    type: Literal["suggestion.revised"] = "suggestion.revised"
    suggestion: Suggested
    digest: str = ""


class ApprovalCommented(ApprovalEvent):
    """`revises` is the revision of a suggestion that the comment sends back to its agent."""

    type: Literal["approval.commented"] = "approval.commented"
    comment_id: str
    author: str
    text: str
    author_type: Literal["human", "agent"] = "human"
    revises: int | None = None
    mentions: tuple[str, ...] = ()


class ApprovalHanded(ApprovalEvent):
    """Other people are asked from now on: `approvers` may decide, of them only the `assignee` if there is one.

    `asks` is the question to the reviewers' pool that is open from now on, `frees` the one that is given back; 0: none.
    """

    type: Literal["approval.handed"] = "approval.handed"
    action: Literal["assigned", "claimed", "released", "delegated", "escalated"]
    approvers: tuple[str, ...] = ()
    assignee: str = ""
    by: str = ""
    to: str = ""
    comment: str = ""
    request_id: str = ""
    level: int = 0
    asks: int = 0
    frees: int = 0
    origin: Origin | None = None


class ApprovalReminded(ApprovalEvent):
    type: Literal["approval.reminded"] = "approval.reminded"
    number: int


class ApprovalVoted(ApprovalEvent):
    """A decision that counts: whose, on whose behalf, from where, and on what (`digest`)."""

    type: Literal["approval.voted"] = "approval.voted"
    submission_id: str
    by: str
    on_behalf_of: str = ""
    decision: Literal["approved", "rejected"]
    comment: str = ""
    digest: str = ""
    origin: Origin | None = None


class ApprovalNotified(ApprovalEvent):
    """What became of telling somebody of the gate."""

    type: Literal["approval.notified"] = "approval.notified"
    notification_id: str
    kind: NoticeKind
    to: tuple[str, ...] = ()
    callback: str = ""
    status: Literal["delivered", "skipped", "failed"]
    attempts: int = 0
    reason: str = ""


class ApprovalRefused(ApprovalEvent):
    """A submission that does not count, and why (not an approver, other tenant, already decided)."""

    type: Literal["approval.refused"] = "approval.refused"
    submission_id: str
    by: str
    reason: str


class ApprovalClosed(ApprovalEvent):
    """How the gate ended: by the vote that settled it (`submission_id`), by policy, by its deadline, or withdrawn."""

    type: Literal["approval.closed"] = "approval.closed"
    decision: Literal["approved", "rejected", "expired", "withdrawn"]
    submission_id: str = ""
    by: str = ""
    comment: str = ""
    revision: int | None = None
    data: JsonObject | None = None


AnyApprovalEvent = Annotated[
    ApprovalOpened
    | SuggestionRevised
    | ApprovalCommented
    | ApprovalHanded
    | ApprovalReminded
    | ApprovalVoted
    | ApprovalNotified
    | ApprovalRefused
    | ApprovalClosed
    | ReviewerSet
    | ReviewQueued
    | ReviewGiven
    | ReviewEnded
    | PoolLookedAgain,
    Field(discriminator="type"),
]


class ApprovalRecord(Record):
    """One journal record: everything that one input made of the gates of one execution, or of a pool of reviewers."""

    events: tuple[AnyApprovalEvent, ...] = ()
