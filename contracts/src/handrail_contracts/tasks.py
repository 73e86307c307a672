"""Tasks: step runs as people see them, with a priority and a due date."""

from typing import Literal

from pydantic import AwareDatetime, Field

from handrail_contracts.envelope import ExecutionMessage, Identifier, JsonObject, Model
from handrail_contracts.gates import Priority

POSTED_PREFIX = "tasks-"
"""What the ids of executions begin with whose steps were posted as tasks: their step ids are the tasks' ids."""


class TaskChanges(Model):
    """What somebody says of a task; what is absent stays as it is."""

    description: str | None = Field(None, max_length=10_000)
    priority: Priority | None = None
    due_date: AwareDatetime | None = None
    progress: int | None = Field(None, ge=0, le=100)
    metadata: JsonObject | None = None


class PlannedTask(Model):
    """A step that its definition describes as a task, before it begins. `brought`: times that it was posted with."""

    step_id: str
    step_type: str
    run_id: str
    name: str
    description: str = ""
    agent: str | None = None
    priority: Priority | None = None
    due_date: AwareDatetime | None = None
    depends_on: tuple[str, ...] = ()
    metadata: JsonObject = {}
    brought: JsonObject = {}


class TaskCommented(ExecutionMessage):
    """A remark on a task. Nothing follows from it; `user_id` says whose it is."""

    event_type: Literal["task.commented"] = "task.commented"
    schema_version: Literal[1] = 1
    task_id: Identifier
    step_id: Identifier
    author_type: Literal["human", "agent"] = "human"
    author_id: str = ""
    author_name: str = Field("", max_length=255)
    text: str = Field(min_length=1, max_length=10_000)
