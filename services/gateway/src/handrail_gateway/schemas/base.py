"""What the models of all routes are made of."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]


ExecutionStatus = Literal[
    "pending", "queued", "running", "waiting", "paused", "compensating", "completed", "failed", "cancelled", "timeout"
]


ApprovalStatus = Literal["pending", "approved", "rejected", "expired", "withdrawn"]


JsonObject = dict[str, Any]


class Request(BaseModel):
    """A body: fields that we do not know are refused rather than silently ignored."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetail(BaseModel):
    path: str
    message: str
    code: str = ""


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[ErrorDetail] = []
    draft: Any = Field(None, description="only where a workflow could not be generated: the model's last attempt")


class StepError(BaseModel):
    code: str
    message: str
    retryable: bool = False


class Difference(BaseModel):
    """In `path`, steps and tasks are named by their id: `steps[review].parameters.message`."""

    path: str
    kind: Literal["added", "removed", "changed"]
    before: Any
    after: Any
