"""What every message on the bus carries."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

JsonObject = dict[str, Any]
Identifier = Annotated[str, Field(min_length=1, max_length=200)]


class Model(BaseModel):
    """A frozen value. Unknown fields are ignored, so that an older reader takes what a newer writer adds."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True, ser_json_inf_nan="null")


class Tenant(Model):
    """Whose it is. Every read, stream and topic-fed view is filtered by the organization and the project."""

    user_id: str = Field("", description="on whose behalf")
    organization_id: str = ""
    project_id: str = ""


def tenant_of(source: Any) -> dict[str, str]:
    """The fields of `Tenant`, of anything that has them."""
    return {name: getattr(source, name) for name in Tenant.model_fields}


class Message(Tenant):
    """The envelope. `event_id` is deterministic: the same thing said twice has the same id, and readers drop the second."""

    event_id: Identifier = Field(description="deterministic: the same thing said twice has the same id")
    occurred_at: AwareDatetime = Field(description="with an offset, such as 2026-02-18T10:30:00Z")


class ExecutionMessage(Message):
    """A message about one execution: keyed by `execution_id`, so the whole story is in one partition."""

    execution_id: Identifier = Field(description="one run of a workflow; also the record's key")
    workflow_id: Identifier


class ErrorInfo(Model):
    """What went wrong. `code` is one of the public codes (VALIDATION_ERROR, AGENT_ERROR, TIMEOUT, ...)."""

    code: str
    message: str
    retryable: bool = False


def utc(seconds: float) -> datetime:
    """Seconds since the epoch as an aware datetime (the core counts in seconds; messages say dates)."""
    return datetime.fromtimestamp(seconds, UTC)
