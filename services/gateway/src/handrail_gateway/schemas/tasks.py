"""Tasks: step runs as people see them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from handrail_contracts.gates import Priority
from pydantic import AwareDatetime, BaseModel, Discriminator, Field, StringConstraints, Tag, model_validator

from handrail_gateway.given import GIVEN_ID, MOST_GIVEN
from handrail_gateway.problems import ONE, SEVERAL
from handrail_gateway.schemas.base import JsonObject, Request, StepError

TaskStatus = Literal["pending", "in_progress", "waiting", "completed", "failed", "cancelled", "skipped"]
Given = Annotated[str, StringConstraints(pattern=GIVEN_ID, min_length=1, max_length=MOST_GIVEN)]
TaskId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", min_length=1, max_length=100)]


class TaskSummary(BaseModel):
    id: str = Field(description="what it was posted with, or the id of its step run")
    workflow_id: str
    name: str
    description: str
    agent_id: str | None
    assignee: str | None = Field(description="the person who has it")
    status: TaskStatus
    priority: Priority
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    duration_seconds: float | None
    due_date: datetime | None
    overdue: bool
    progress: int
    depends_on: list[str]
    metadata: JsonObject
    comments: int
    execution_id: str
    step_id: str


class Task(TaskSummary):
    input: Any = Field(description="what its agent is given")
    output: Any
    error: StepError | JsonObject | None


class TaskPage(BaseModel):
    items: list[TaskSummary]
    next_cursor: str | None


class NewTask(Request):
    """Its id is its step's in the execution that begins. `status` and `progress` are what it begins with."""

    id: TaskId | None = None
    workflow_id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    name: str = Field("", max_length=200)
    description: str = Field("", max_length=10_000)
    agent_id: str | None = Field(None, max_length=200)
    capabilities: list[str] | None = None
    status: Literal["pending", "in_progress", "completed", "failed"] = "pending"
    priority: Priority = "medium"
    created_at: AwareDatetime | None = None
    started_at: AwareDatetime | None = None
    completed_at: AwareDatetime | None = None
    duration_seconds: float | None = Field(None, ge=0)
    due_date: AwareDatetime | None = None
    due_in_seconds: float | None = Field(None, ge=0)
    progress: int | None = Field(None, ge=0, le=100)
    depends_on: str | list[str] = []
    metadata: JsonObject = {}
    input: Any = None
    output: Any = Field(None, description="of one that is completed")
    reason: str = Field("", max_length=1000, description="of one that failed")
    retry: JsonObject | None = None
    timeout_seconds: float | None = Field(None, gt=0)
    suggestion: Any = Field(None, description="rules of its suggestions, as in a step")

    def before(self) -> list[str]:
        return [self.depends_on] if isinstance(self.depends_on, str) else self.depends_on


NewTasks = Annotated[
    Annotated[NewTask, Tag(ONE)] | Annotated[list[NewTask], Field(min_length=1, max_length=1000), Tag(SEVERAL)],
    Discriminator(lambda body: SEVERAL if isinstance(body, list) else ONE),
]
"""One, or a list of them."""


class TaskChange(Request):
    """What is absent stays as it is."""

    status: Literal["in_progress", "completed", "failed"] | None = None
    output: Any = Field(None, description="of a completed one: what its next steps are given")
    reason: str = Field("", max_length=1000)
    agent_id: str | None = Field(None, min_length=1, max_length=200, description="who has it from now on")
    assignee: str | None = Field(None, min_length=1, max_length=200, description="or the person who has it")
    priority: Priority | None = None
    due_date: AwareDatetime | None = None
    progress: int | None = Field(None, ge=0, le=100)
    metadata: JsonObject | None = None
    description: str | None = Field(None, max_length=10_000)

    @model_validator(mode="after")
    def _sensible(self) -> "TaskChange":
        if self.agent_id is not None and self.assignee is not None:
            raise ValueError("a task has an agent_id or an assignee; leave one of them out")
        if not self.model_fields_set - {"reason"}:
            raise ValueError("say what is to change, such as status")
        return self

    def said(self) -> JsonObject:
        """Of the task, and not of its course."""
        names = {"priority", "due_date", "progress", "metadata", "description"}
        return self.model_dump(mode="json", include=names, exclude_none=True)


class TaskCommentRequest(Request):
    text: str = Field(min_length=1, max_length=10_000)
    author_type: Literal["human", "agent"] = "human"
    author_id: str | None = Field(None, max_length=200, description="the agent, if it is one; a person is who asks")
    author_name: str = Field("", max_length=255)


class TaskComment(BaseModel):
    id: str
    task_id: str
    author_id: str
    author_type: Literal["human", "agent"]
    author_name: str
    text: str
    created_at: datetime


class TaskCommentPage(BaseModel):
    items: list[TaskComment]
    next_cursor: str | None
