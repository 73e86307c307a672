"""What people and programs outside are told of a gate, by e-mail and by webhook."""

from typing import Any, Literal

from pydantic import AwareDatetime, Field

from handrail_contracts.envelope import ExecutionMessage, Identifier

NoticeKind = Literal["asked", "reminder", "escalated", "mention", "decided"]


class NotificationRequested(ExecutionMessage):
    """Somebody is to be told: `to` by e-mail, or `callback` by a signed webhook. Carried out at least once; the id stays."""

    event_type: Literal["notification.requested"] = "notification.requested"
    schema_version: Literal[1] = 1
    approval_id: Identifier
    kind: NoticeKind
    step_id: str = ""
    to: tuple[str, ...] = ()
    callback: str = ""
    title: str = ""
    text: str = ""
    deadline: AwareDatetime | None = None
    decidable: bool = Field(False, description="whether the e-mail gets links to decide with")
    body: Any = Field(None, description="what the webhook says")


class NotificationDelivered(ExecutionMessage):
    """How it ended: `delivered`, `skipped` (nobody has an address) or `failed`, for good."""

    event_type: Literal["notification.delivered"] = "notification.delivered"
    schema_version: Literal[1] = 1
    approval_id: Identifier
    notification_id: Identifier
    kind: NoticeKind
    to: tuple[str, ...] = ()
    callback: str = ""
    status: Literal["delivered", "skipped", "failed"]
    attempts: int = 0
    reason: str = ""
