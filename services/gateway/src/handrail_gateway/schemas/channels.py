"""What goes over `/ws`, in both directions."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, TypeAdapter

from handrail_gateway.schemas.base import Request
from handrail_gateway.schemas.people import ApprovalSummary

CHANNEL = r"^(workflows|tasks|agents|suggestions|approvals|desk|execution:[^\s\x00]{1,200})$"
Channel = Annotated[str, StringConstraints(pattern=CHANNEL)]
Name = Annotated[str, Field(description="of a channel", json_schema_extra={"pattern": CHANNEL})]
"""As asked for: one that there is not is answered as such."""
Position = Annotated[str, Field(max_length=400, description="as it was told; of this channel")]
TaskStatus = Literal["pending", "in_progress", "waiting", "completed", "failed", "cancelled", "skipped"]


class Subscribe(Request):
    """Begin to tell; with `after`, what was missed since that position first."""

    type: Literal["subscribe"]
    channel: Name | None = None
    channels: list[Name] = []
    after: Position | None = None
    positions: dict[Name, Position] = Field({}, description="several channels, each with its own `after`")


class Unsubscribe(Request):
    type: Literal["unsubscribe"]
    channel: Name | None = None
    channels: list[Name] = []


class Ping(Request):
    type: Literal["ping"]


class Authenticate(Request):
    """Go on with a newer token of the same person, in the same tenant."""

    type: Literal["authenticate"]
    token: str = Field(max_length=8192)


Asked = Annotated[Subscribe | Unsubscribe | Ping | Authenticate, Field(discriminator="type")]
ASKED: TypeAdapter[Subscribe | Unsubscribe | Ping | Authenticate] = TypeAdapter(Asked)


class Subscribed(BaseModel):
    """From this position on, whatever changes is told. Lists that are read from now on show all that was before."""

    type: Literal["subscribed"]
    channel: Channel
    position: Position | None = Field(None, description="of an execution that is told from its beginning, none")


class Unsubscribed(BaseModel):
    type: Literal["unsubscribed"]
    channel: Channel
    reason: Literal["asked", "complete"] = Field(description="complete: the execution has ended")


class Pong(BaseModel):
    type: Literal["pong"]
    positions: dict[str, str] = Field(description="by channel: how far it has been told, also if nothing has happened")


class Authenticated(BaseModel):
    type: Literal["authenticated"]
    expires_at: datetime


class ChannelError(BaseModel):
    """`code` is for programs, `message` a sentence for a person."""

    type: Literal["error"]
    code: str
    message: str
    channel: str | None = None
    position: str | None = Field(None, description="from which on it is told all the same")
    positions: dict[str, str] | None = Field(None, description="before the connection is closed: where to go on")


class AgentAtWork(BaseModel):
    id: str
    status: Literal["executing_task", "waiting", "idle"]
    current_task: str | None


class WorkflowState(BaseModel):
    id: str
    status: str
    progress: int = Field(ge=0, le=100)
    agents: list[AgentAtWork]


class Told(BaseModel):
    channel: Channel
    position: Position


class WorkflowUpdate(Told):
    """An execution of the workflow has come further."""

    type: Literal["workflow_update"]
    data: WorkflowState
    execution_id: str
    at: datetime


class InquiryState(BaseModel):
    id: str = Field(description="of the inquiry, which is an execution")
    desk: str
    customer_id: str
    status: Literal["open", "waiting", "answered", "failed"]
    timestamp: datetime


class DeskUpdate(Told):
    """An inquiry has come further; read it for what it was answered."""

    type: Literal["desk_update"]
    data: InquiryState


class TaskState(BaseModel):
    id: str = Field(description="of the step run")
    status: TaskStatus
    progress: int = Field(ge=0, le=100)
    agent_id: str | None
    timestamp: datetime


class TaskUpdate(Told):
    type: Literal["task_update"]
    data: TaskState
    execution_id: str
    step_id: str


class AgentState(BaseModel):
    agent_id: str
    status: Literal["executing_task", "idle", "offline"]
    current_task: str | None
    progress: int
    timestamp: datetime


class AgentUpdate(Told):
    type: Literal["agent_status"]
    data: AgentState


class SuggestionState(BaseModel):
    id: str
    task_id: str
    agent_id: str
    action: str
    confidence: float
    created_at: datetime


class SuggestionCreated(Told):
    """An agent suggests something, or, after a person sent it back, something else (`revision`)."""

    type: Literal["suggestion_created"]
    data: SuggestionState
    revision: int
    status: str
    execution_id: str


class ApprovalUpdate(Told):
    type: Literal["approval_update"]
    data: ApprovalSummary


class ExecutionFrame(Told):
    """What the event stream of one execution says: the event's name and data. `position` is its id; some have none."""

    type: str
    data: dict[str, Any]
    position: Position | None = None  # type: ignore[assignment]


CLIENT_MESSAGES = (Subscribe, Unsubscribe, Ping, Authenticate)
SERVER_MESSAGES = (
    Subscribed, Unsubscribed, Pong, Authenticated, ChannelError, WorkflowUpdate, TaskUpdate, AgentUpdate, SuggestionCreated,
    ApprovalUpdate, ExecutionFrame,
)  # fmt: skip
