"""Definitions, and the beginning and the end of executions."""

from typing import Any, Literal

from pydantic import AwareDatetime, Field

from handrail_contracts.envelope import ErrorInfo, ExecutionMessage, Identifier, JsonObject, Message, Model


class WorkflowDefined(Message):
    """A saved version of a workflow. The first message of a (workflow_id, version) wins; a version never changes."""

    event_type: Literal["workflow.defined"] = "workflow.defined"
    schema_version: Literal[1] = 1
    workflow_id: Identifier
    version: int = Field(ge=1)
    name: str
    definition: JsonObject
    active: bool = True


class LifecycleMetadata(Model):
    """The figures that lifecycle events carry."""

    task_count: int | None = None
    duration_seconds: float | None = None
    agents_used: tuple[str, ...] = ()


class WorkflowStarted(ExecutionMessage):
    """Asks for an execution. `execution_id` is the caller's choice: the same id twice starts one execution."""

    event_type: Literal["workflow.started"] = "workflow.started"
    schema_version: Literal[2] = 2
    workflow_version: int | None = Field(None, ge=1, description="pins a version; the newest if absent")
    input: Any = Field(None, description="`{{input}}` in the definition; any JSON")
    context: JsonObject = Field({}, description="`{{context.KEY}}` in the definition; handed to agents as it is")
    trigger: JsonObject = Field({}, description="what set the execution off, for people to read")
    session_id: str | None = Field(None, description="groups executions of one conversation")
    metadata: LifecycleMetadata = LifecycleMetadata()


class WorkflowCompleted(ExecutionMessage):
    """How an execution ended. Published after the journal was read back; it may come twice with one id, never falsely."""

    event_type: Literal["workflow.completed", "workflow.failed", "workflow.cancelled", "workflow.timeout"]
    schema_version: Literal[2] = 2
    timestamp: AwareDatetime
    metadata: LifecycleMetadata
    workflow_version: int
    result: Any = None
    error: ErrorInfo | None = None
