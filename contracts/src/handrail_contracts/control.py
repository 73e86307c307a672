"""What people and programs may ask of a running execution."""

from typing import Any, Literal

from pydantic import Field

from handrail_contracts.envelope import ExecutionMessage
from handrail_contracts.tasks import TaskChanges


class ExecutionControlled(ExecutionMessage):
    """A wish; it counts once the scheduler has journaled it. `user_id` says who."""

    event_type: Literal["execution.controlled"] = "execution.controlled"
    schema_version: Literal[1] = 1
    action: Literal[
        "cancel", "terminate", "pause", "resume", "signal", "retry", "rewind", "skip", "edit", "migrate", "complete", "fail",
        "reassign", "annotate",
    ]  # fmt: skip
    reason: str = ""
    signal: str = Field("", description="which signal, for the action `signal`")
    step_id: str = Field("", description="which step, for all that is about one")
    version: int | None = Field(None, ge=1, description="which version of the workflow, for migrate")
    data: Any = Field(
        None, description="what the signal carries, a skipped or completed step's output, an edited step's input"
    )
    agent: str = Field(
        "",
        description="for reassign: who has it from now on; for complete and fail: the agent, if it answers for itself",
    )
    assignee: str = Field("", description="for reassign: the person who has it from now on")
    changes: TaskChanges | None = Field(None, description="for annotate")
    parent_id: str = Field(
        "", description="for the scheduler's own use: the execution that its child is cancelled with"
    )
