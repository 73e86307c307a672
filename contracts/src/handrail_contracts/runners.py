"""What runners say of themselves: that they live, and how the agents are that they ask."""

from typing import Literal

from pydantic import AwareDatetime, Field

from handrail_contracts.envelope import Identifier, Message, Model


class BreakerState(Model):
    """A breaker that is not closed. `failures` counts since it was closed last; `half_open` while one attempt tries."""

    state: Literal["open", "half_open"]
    since: AwareDatetime
    failures: int = Field(ge=0)
    retry_at: AwareDatetime


class AgentState(Model):
    """An agent that the runner does not simply ask: its breaker is not closed, or, by `error`, it can't be made."""

    agent: Identifier
    breaker: BreakerState | None = None
    error: str = ""


class ChosenRun(Model):
    """A step that asked for capabilities, and the agent that works on it now."""

    agent: Identifier
    execution_id: Identifier
    step_id: Identifier


class AgentHeartbeat(Message):
    """An agent that works by itself says how it is. With `every_seconds`, a word that is three times older is none any more."""

    event_type: Literal["agent.heartbeat"] = "agent.heartbeat"
    schema_version: Literal[1] = 1
    agent: Identifier
    status: Literal["online", "busy", "offline"]
    every_seconds: float | None = Field(None, gt=0)


class RunnerStatus(Message):
    """A runner lives, and says so again after `every_seconds`. Agents that it does not name can be asked there.

    The latest message per runner counts; `stopped` is its last one. At most the newest hundreds of `agents` and `chosen`.
    """

    event_type: Literal["runner.status"] = "runner.status"
    schema_version: Literal[1] = 1
    runner_id: Identifier
    every_seconds: float = Field(gt=0)
    running: int = Field(0, ge=0, description="attempts under way")
    agents: tuple[AgentState, ...] = ()
    chosen: tuple[ChosenRun, ...] = ()
    stopped: bool = False
