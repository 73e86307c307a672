"""What people and programs may ask of a running execution."""

from typing import Any, Literal

from pydantic import Field

from handrail_contracts.envelope import ExecutionMessage


class ExecutionControlled(ExecutionMessage):
    """A wish; it counts once the scheduler has journaled it. `user_id` says who."""

    event_type: Literal["execution.controlled"] = "execution.controlled"
    schema_version: Literal[1] = 1
    action: Literal["cancel", "pause", "resume", "signal"]
    reason: str = ""
    signal: str = Field("", description="which signal, for the action `signal`")
    data: Any = Field(None, description="what the signal carries")
