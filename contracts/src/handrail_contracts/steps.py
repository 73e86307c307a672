"""Steps and the agents that run them."""

from typing import Any, Literal

from pydantic import Field

from handrail_contracts.envelope import ErrorInfo, ExecutionMessage, Identifier, JsonObject, Message, Model


class StepRequested(ExecutionMessage):
    """Run one attempt of a step.

    `run_id` belongs to the step run and is the same for every attempt: it goes to the agent as `Idempotency-Key`.
    `event_id` belongs to the attempt: a runner drops one that it runs or has just answered.
    The answer goes to partition `partition` of `agent.executed`.
    """

    event_type: Literal["step.requested"] = "step.requested"
    schema_version: Literal[1] = 1
    partition: int = Field(ge=0)
    step_id: Identifier
    run_id: Identifier
    attempt: int = Field(ge=1)
    kind: Literal["agent", "api_call", "tool"] = "agent"
    agent: str
    input: Any = None
    context: JsonObject = {}
    session_id: str | None = None
    timeout_seconds: float | None = Field(None, gt=0)
    max_iterations: int | None = None


class ModelCall(Model):
    """One call of a language model, as its provider counts it. `cost_usd` is absent where no price is known."""

    model: str
    input_tokens: int = Field(0, ge=0)
    output_tokens: int = Field(0, ge=0)
    cost_usd: float | None = None
    seconds: float = Field(ge=0)
    tools: tuple[str, ...] = Field((), description="tools that it asked for")
    error: str = ""


class AgentExecuted(ExecutionMessage):
    """The answer to one attempt: an output, or an error with a code."""

    event_type: Literal["agent.executed"] = "agent.executed"
    schema_version: Literal[1] = 1
    step_id: Identifier
    run_id: Identifier
    attempt: int = Field(ge=1)
    agent: str
    status: Literal["completed", "failed"]
    output: Any = None
    error: ErrorInfo | None = None
    duration_ms: float = Field(0, ge=0)
    model_calls: tuple[ModelCall, ...] = ()


class StepProgressed(ExecutionMessage):
    """Something a running step has to tell before it ends: shown live, never part of the state."""

    event_type: Literal["step.progressed"] = "step.progressed"
    schema_version: Literal[1] = 1
    step_id: Identifier
    run_id: Identifier
    attempt: int = Field(ge=1)
    kind: Literal["delta", "tool_call", "tool_result", "progress"]
    index: int = Field(ge=0, description="counts from 0 within the attempt; order of display")
    data: JsonObject


class AgentRegistered(Message):
    """How an agent is reached. The latest message per `agent` counts; `removed` takes it away.

    `llm` is a language model with instructions and tools; what its `config` holds is at `agents/llm.py` of the runner.
    Of the kind `tool` it is a tool of the runners: a native one, named `tool/NAME`, or one of a server, named
    `tool/SERVER:NAME`; `config.parameters` is its JSON Schema. Of the kind `mcp` it is such a server, named `mcp/SERVER`;
    of the kind `mcp_state`, what a runner says of its connection to it, named `mcp_state/SERVER`.
    """

    event_type: Literal["agent.registered"] = "agent.registered"
    schema_version: Literal[1] = 1
    agent: Identifier
    kind: Literal["http", "python", "scripted", "llm", "tool", "mcp", "mcp_state"]
    name: str = ""
    description: str = ""
    capabilities: tuple[str, ...] = ()
    config: JsonObject = {}
    removed: bool = False
