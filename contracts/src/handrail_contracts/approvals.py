"""Gates, decisions, comments and suggestions."""

from typing import Any, Literal

from pydantic import AwareDatetime, Field

from handrail_contracts.envelope import ExecutionMessage, Identifier, JsonObject, Model
from handrail_contracts.gates import GateRules, Origin

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
    rules: GateRules | None = None


class ApprovalWithdrawn(ExecutionMessage):
    """The execution no longer waits for this gate (it was cancelled, failed or timed out)."""

    event_type: Literal["approval.withdrawn"] = "approval.withdrawn"
    schema_version: Literal[1] = 1
    approval_id: Identifier
    reason: str = ""


class ApprovalSubmitted(ExecutionMessage):
    """A person's decision. Of two that exclude each other the one that approvals journals first counts; `user_id` says who.

    `digest` is of what the person has seen: what is shown otherwise by now is not decided on. On a suggestion the decision
    may name the `revision`, and correct the suggested `data`. `on_behalf_of` is the approver whose substitute has decided.
    """

    event_type: Literal["approval.submitted"] = "approval.submitted"
    schema_version: Literal[1] = 1
    approval_id: Identifier
    decision: Decision
    comment: str = Field("", max_length=10_000)
    revision: int | None = Field(None, ge=1)
    data: JsonObject | None = None
    digest: str = Field("", max_length=64)
    on_behalf_of: str = Field("", max_length=320)
    origin: Origin | None = None


class ApprovalDirected(ExecutionMessage):
    """Somebody takes a gate for themselves, gives it back, or passes it on to another (`to`)."""

    event_type: Literal["approval.directed"] = "approval.directed"
    schema_version: Literal[1] = 1
    approval_id: Identifier
    action: Literal["claim", "release", "delegate"]
    to: str = Field("", max_length=320)
    comment: str = Field("", max_length=10_000)
    origin: Origin | None = None


class ApprovalDecided(ExecutionMessage):
    """How a gate ended. Published after the journal was read back; it may come twice with one id, never falsely."""

    event_type: Literal["approval.decided"] = "approval.decided"
    schema_version: Literal[1] = 1
    approval_id: Identifier
    step_id: Identifier
    decision: Literal["approved", "rejected", "expired"]
    decided_by: str = ""
    comment: str = ""
    data: JsonObject | None = Field(None, description="of a suggestion, if the person has corrected it")
    revision: int | None = Field(None, description="of a suggestion: the one that was decided on")


class CommentAdded(ExecutionMessage):
    """A comment on a gate or a suggestion. On a suggestion it sends it back to its agent, if `revise`."""

    event_type: Literal["comment.added"] = "comment.added"
    schema_version: Literal[1] = 1
    approval_id: str = ""
    suggestion_id: str = ""
    author_type: Literal["human", "agent"] = "human"
    text: str = Field(min_length=1, max_length=10_000)
    revise: bool = True


class Suggestion(Model):
    """An action that an agent proposes: what it answers in a step that suggests."""

    action: Identifier
    reasoning: str = Field("", max_length=10_000)
    confidence: float = Field(ge=0, le=1, description="0 of one that does not say how sure it is")
    suggested_data: JsonObject = {}
    comment: str = Field("", max_length=10_000, description="what the agent says to those who sent it back")


class SuggestionCreated(ExecutionMessage):
    """An agent proposes an action for a person to correct and approve; again, with a higher `revision`, once sent back.

    An empty `approvers` means anyone of the tenant. At `auto_approve_above` or more of confidence it needs nobody.
    """

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
    task_id: str = Field("", description="the step run that waits for it")
    comment: str = ""
    approvers: tuple[str, ...] = ()
    message: str = ""
    deadline: AwareDatetime | None = None
    auto_approve_above: float | None = None
    rules: GateRules | None = None
    revisable: bool = Field(True, description="whether there is somebody who can be asked for another one")


class SuggestionRevisionRequested(ExecutionMessage):
    """A comment sends a suggestion back to its agent; `user_id` says whose."""

    event_type: Literal["suggestion.revision_requested"] = "suggestion.revision_requested"
    schema_version: Literal[1] = 1
    suggestion_id: Identifier
    agent: Identifier
    revision: int = Field(ge=1, description="the one that the comment is about")
    comment: str
    step_id: str = ""
