"""Workflows, their versions and figures."""

from datetime import datetime
from typing import Annotated, Literal

from handrail_graph import MAX_STEPS
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from handrail_gateway.problems import ONE, SEVERAL
from handrail_gateway.schemas.base import Difference, ErrorDetail, ExecutionStatus, JsonObject, Name, Request
from handrail_gateway.schemas.tasks import Given


class Document(BaseModel):
    """A workflow definition, in any of the four dialects. The rest is the compiler's to judge."""

    model_config = ConfigDict(extra="allow")

    id: Given | None = Field(None, description="what you call it")
    name: Name
    description: str = Field("", max_length=10_000)
    steps: list[JsonObject] | None = Field(None, max_length=MAX_STEPS)
    tasks: list[JsonObject] | None = Field(None, max_length=MAX_STEPS)

    def document(self) -> JsonObject:
        """As it was sent, so that it compiles here as it will in the scheduler."""
        return self.model_dump(mode="json", exclude_unset=True)

    def has_no_steps_yet(self) -> bool:
        return self.id is not None and self.steps is None and self.tasks is None


NewWorkflows = Annotated[
    Annotated[Document, Tag(ONE)] | Annotated[list[Document], Field(min_length=1, max_length=200), Tag(SEVERAL)],
    Discriminator(lambda body: SEVERAL if isinstance(body, list) else ONE),
]
"""One, or a list of them."""


class WorkflowSummary(BaseModel):
    id: str
    name: str
    description: str
    status: Literal["active"] | ExecutionStatus = Field(description="of its latest execution; active without one")
    progress: int = Field(description="of its latest execution, in percent")
    version: int
    created_at: datetime
    updated_at: datetime


class Workflow(WorkflowSummary):
    definition: JsonObject


class RolloutRequest(Request):
    """Of the starts that name no version, `percent` get the canary and the others the stable one."""

    stable: int = Field(ge=1, le=2**31 - 1)
    canary: int = Field(ge=1, le=2**31 - 1)
    percent: float = Field(ge=0, le=100)


class Rollout(BaseModel):
    stable: int | None
    canary: int | None
    percent: float
    updated_at: datetime | None


class VersionSummary(BaseModel):
    version: int
    name: str
    active: bool
    saved_by: str
    saved_at: datetime


class VersionPage(BaseModel):
    items: list[VersionSummary]
    next_cursor: str | None


class Differences(BaseModel):
    changes: list[Difference]


class StepStats(BaseModel):
    step_id: str
    completed: int
    failed: int
    skipped: int
    p50_seconds: float | None
    p95_seconds: float | None


class WorkflowStats(BaseModel):
    """`executions` by status; `success_rate` of those that ended by themselves; durations of those that completed."""

    executions: dict[str, int]
    success_rate: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    steps: list[StepStats]


class WorkflowPage(BaseModel):
    items: list[WorkflowSummary]
    next_cursor: str | None


class CardPage(BaseModel):
    """Cards of the A2A protocol."""

    items: list[JsonObject]
    next_cursor: str | None


class Validation(BaseModel):
    valid: bool
    errors: list[ErrorDetail]
