"""How executions of one concurrency key take turns: they ask a queue, the queue answers, and they tell it when they end."""

from typing import Any, Literal

from pydantic import Field

from handrail_contracts.envelope import ExecutionMessage, Identifier, Model

QUEUE_PREFIX = "queue:"

OnConflict = Literal["queue", "cancel_old", "reject"]


class Admission(Model):
    """What an execution asks a queue for: one of `limit` places, the higher `priority` first.

    With `while_working` it gives its place back whenever nothing but people, timers and children can move it.
    """

    queue_id: Identifier
    key: Any = None
    limit: int = Field(ge=1)
    on_conflict: OnConflict = "queue"
    priority: int = 0
    while_working: bool = False


class AdmissionRequested(ExecutionMessage):
    """`execution_id` is the queue's; the same execution asking twice has one place."""

    event_type: Literal["admission.requested"] = "admission.requested"
    schema_version: Literal[1] = 1
    requester_id: Identifier
    admission: Admission


class AdmissionReleased(ExecutionMessage):
    """The execution has ended: its place, or its place in the queue, is free."""

    event_type: Literal["admission.released"] = "admission.released"
    schema_version: Literal[1] = 1
    requester_id: Identifier


class AdmissionDecided(ExecutionMessage):
    """To the execution: it may begin, or is refused because all places are taken."""

    event_type: Literal["admission.decided"] = "admission.decided"
    schema_version: Literal[1] = 1
    queue_id: Identifier
    admitted: bool
    reason: str = ""


class QueueEvent(Model):
    n: int = Field(ge=1)


class QueueEntered(QueueEvent):
    """An execution asked and was not refused; it waits until it is admitted."""

    type: Literal["queue.entered"] = "queue.entered"
    requester_id: str
    user_id: str
    organization_id: str
    project_id: str
    limit: int
    priority: int
    cancelled: tuple[str, ...] = ()


class QueueRefused(QueueEvent):
    type: Literal["queue.refused"] = "queue.refused"
    requester_id: str
    user_id: str
    organization_id: str
    project_id: str
    reason: str


class QueueAdmitted(QueueEvent):
    type: Literal["queue.admitted"] = "queue.admitted"
    requester_id: str


class QueueLeft(QueueEvent):
    """The execution ended, whether it had been admitted or not."""

    type: Literal["queue.left"] = "queue.left"
    requester_id: str


AnyQueueEvent = QueueEntered | QueueRefused | QueueAdmitted | QueueLeft
