"""The first platform's endpoints."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from handrail_gateway.schemas.base import Name


class CompatTask(BaseModel):
    model_config = ConfigDict(extra="allow")

    agent: str = Field(min_length=1, max_length=200)
    input: Any = None


class CompatCreate(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: Name
    tasks: list[CompatTask] = Field(min_length=1, max_length=2_000)


class CompatCreated(BaseModel):
    workflow_id: str
    name: str
    status: Literal["pending"]
    task_count: int


class CompatStarted(BaseModel):
    workflow_id: str
    status: Literal["running"]
    message: str


CompatStatus = Literal["pending", "running", "completed", "failed"]


class CompatTaskState(BaseModel):
    agent: str
    status: str


class CompatResult(BaseModel):
    step: int
    output: Any


class CompatWorkflow(BaseModel):
    workflow_id: str
    name: str
    status: CompatStatus
    tasks: list[CompatTaskState]
    results: list[CompatResult]


class CompatItem(BaseModel):
    workflow_id: str
    name: str
    status: CompatStatus
    task_count: int


class CompatList(BaseModel):
    workflows: list[CompatItem]
    next_cursor: str | None
