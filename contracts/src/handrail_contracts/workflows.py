"""Definitions, and the beginning and the end of executions."""

from typing import Any, Literal

from pydantic import AwareDatetime, Field

from handrail_contracts.envelope import ErrorInfo, ExecutionMessage, Identifier, JsonObject, Message, Model
from handrail_contracts.ids import fraction


class WorkflowDefined(Message):
    """A saved version of a workflow. The first message of a (workflow_id, version) wins; a version never changes."""

    event_type: Literal["workflow.defined"] = "workflow.defined"
    schema_version: Literal[1] = 1
    workflow_id: Identifier
    version: int = Field(ge=1)
    name: str
    definition: JsonObject
    active: bool = True


def rolled_out(execution_id: str, stable: int | None, canary: int, percent: float) -> int | None:
    """The version that a rollout gives an execution: the same for the same one, whoever asks."""
    return canary if fraction(execution_id, "rollout", 0) * 100 < percent else stable


class RolloutSet(Message):
    """How starts that name no version are shared between two; the latest message of a workflow counts.

    Without `canary` they get the newest version again.
    """

    event_type: Literal["workflow.rollout_set"] = "workflow.rollout_set"
    schema_version: Literal[1] = 1
    workflow_id: Identifier
    stable: int | None = Field(None, ge=1)
    canary: int | None = Field(None, ge=1)
    percent: float = Field(0, ge=0, le=100, description="of executions that get the canary")

    def version_for(self, execution_id: str) -> int | None:
        return None if self.canary is None else rolled_out(execution_id, self.stable, self.canary, self.percent)


class LifecycleMetadata(Model):
    """The figures that lifecycle events carry."""

    task_count: int | None = None
    duration_seconds: float | None = None
    agents_used: tuple[str, ...] = ()


class Parent(Model):
    """Who asked for an execution and hears how it ends: an execution's step, or a schedule."""

    execution_id: Identifier
    step_id: str = ""
    run_id: str = ""
    attempt: int = 1
    depth: int = Field(1, ge=1, description="1 for a child of an execution that has no parent")


class Origin(Model):
    """The recorded execution that this one goes on from, and what is taken over from it instead of being done again.

    `outputs` are those of the steps that count as done, `skipped` the steps that count as skipped; steps in `stubs` are
    given that output when their turn comes, and nothing is asked of anybody.
    """

    execution_id: Identifier
    outputs: JsonObject = {}
    skipped: tuple[str, ...] = ()
    stubs: JsonObject = {}


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
    attributes: JsonObject = Field({}, description="what people search executions by; any flat JSON")
    priority: int = Field(0, ge=-100, le=100, description="of those that wait for a place, the higher begin first")
    parent: Parent | None = Field(None, description="for the scheduler's own use: who hears how it ends")
    origin: Origin | None = Field(None, description="a recorded execution to go on from")


class WorkflowCompleted(ExecutionMessage):
    """How an execution ended. Published after the journal was read back; it may come twice with one id, never falsely."""

    event_type: Literal["workflow.completed", "workflow.failed", "workflow.cancelled", "workflow.timeout"]
    schema_version: Literal[2] = 2
    timestamp: AwareDatetime
    metadata: LifecycleMetadata
    workflow_version: int
    result: Any = None
    error: ErrorInfo | None = None


class ChildEnded(ExecutionMessage):
    """How a child ended, for its parent: `execution_id` is the parent's, so that it lands beside the parent's story."""

    event_type: Literal["child.ended"] = "child.ended"
    schema_version: Literal[1] = 1
    child_id: Identifier
    step_id: str = ""
    run_id: str = ""
    attempt: int = 1
    status: Literal["completed", "failed", "cancelled", "timeout"]
    result: Any = None
    error: ErrorInfo | None = None
