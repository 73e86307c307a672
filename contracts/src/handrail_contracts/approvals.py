"""Gates, decisions, comments and suggestions."""

from typing import Any, Literal

from pydantic import AwareDatetime, Field

from handrail_contracts.envelope import ExecutionMessage, Identifier, JsonObject

Decision = Literal["approved", "rejected"]


class ApprovalRequested(ExecutionMessage):
    """Open a gate. An empty `approvers` means anyone of the tenant. Past `deadline` it ends as expired."""

    event_type: Literal["approval.requested"] = "approval.requested"
    schema_version: Literal[1] = 1
    approval_id: Identifier
    step_id: Identifier
    approvers: tuple[str, ...] = ()
    message: str = ""
    show: Any = None
    deadline: AwareDatetime | None = None


class ApprovalWithdrawn(ExecutionMessage):
    """The execution no longer waits for this gate (it was cancelled, failed or timed out)."""

    event_type: Literal["approval.withdrawn"] = "approval.withdrawn"
    schema_version: Literal[1] = 1
    approval_id: Identifier
    reason: str = ""


class ApprovalSubmitted(ExecutionMessage):
    """A person's decision. The first one that approvals journals is the one that counts; `user_id` says who."""

    event_type: Literal["approval.submitted"] = "approval.submitted"
    schema_version: Literal[1] = 1
    approval_id: Identifier
    decision: Decision
    comment: str = Field("", max_length=10_000)


class ApprovalDecided(ExecutionMessage):
    """How a gate ended. Published after the journal was read back; it may come twice with one id, never falsely."""

    event_type: Literal["approval.decided"] = "approval.decided"
    schema_version: Literal[1] = 1
    approval_id: Identifier
    step_id: Identifier
    decision: Literal["approved", "rejected", "expired"]
    decided_by: str = ""
    comment: str = ""


class CommentAdded(ExecutionMessage):
    """A comment on a gate or a suggestion."""

    event_type: Literal["comment.added"] = "comment.added"
    schema_version: Literal[1] = 1
    approval_id: str = ""
    suggestion_id: str = ""
    author_type: Literal["human", "agent"] = "human"
    text: str = Field(min_length=1, max_length=10_000)


class SuggestionCreated(ExecutionMessage):
    """An agent proposes an action for a person to correct and approve."""

    event_type: Literal["suggestion_created"] = "suggestion_created"
    schema_version: Literal[1] = 1
    suggestion_id: Identifier
    step_id: Identifier
    agent: Identifier
    action: Identifier
    reasoning: str = ""
    confidence: float = Field(ge=0, le=1)
    suggested_data: JsonObject = {}
    revision: int = Field(1, ge=1)


class SuggestionRevisionRequested(ExecutionMessage):
    """A comment sends a suggestion back to its agent."""

    event_type: Literal["suggestion.revision_requested"] = "suggestion.revision_requested"
    schema_version: Literal[1] = 1
    suggestion_id: Identifier
    agent: Identifier
    revision: int = Field(ge=1)
    comment: str
