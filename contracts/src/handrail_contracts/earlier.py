"""Versions that nobody writes any more, as models: for their schemas, and for the tests that keep them readable.

Readers never see them: `upcasters` brings such messages to the newest version first.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, Field

from handrail_contracts.envelope import Identifier, Model
from handrail_contracts.workflows import LifecycleMetadata

Version1 = Annotated[int, Field(ge=1, le=1)]


class LifecycleV1(Model):
    """A lifecycle event of the first platform. It has no execution and no id: both are derived from its content."""

    schema_version: Version1 = 1
    workflow_id: Identifier
    user_id: str | int = ""
    timestamp: AwareDatetime
    metadata: LifecycleMetadata = LifecycleMetadata()


class WorkflowStartedV1(LifecycleV1):
    """Asks for an execution, in the shape of the first platform."""

    event_type: Literal["workflow.started"]


class WorkflowCompletedV1(LifecycleV1):
    """How an execution ended, in the shape of the first platform."""

    event_type: Literal["workflow.completed", "workflow.failed", "workflow.cancelled", "workflow.timeout"]


EARLIER: Mapping[tuple[str, int], type[BaseModel]] = {
    ("WorkflowStarted", 1): WorkflowStartedV1,
    ("WorkflowCompleted", 1): WorkflowCompletedV1,
}
