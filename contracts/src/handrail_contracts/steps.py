"""Steps and the agents that run them."""

from typing import Any, Literal, TypedDict

from pydantic import Field

from handrail_contracts.budgets import Limits
from handrail_contracts.envelope import ErrorInfo, ExecutionMessage, Identifier, JsonObject, Message, Model


class ToolAsked(Model):
    """A call of a tool that a model asked for. A `repeatable` one may be called again if nobody knows of its result.

    One that is to `ask` a person waits until it is `granted`, with the arguments that the person approved; then the one who
    says first that he has `begun` carries it out.
    """

    call_id: str
    tool: str
    repeatable: bool
    ask: bool = False
    granted: JsonObject | None = None
    begun: str = Field("", description="the holder who carries it out, of one that was granted")


class ToolResult(Model):
    """What a call of a tool gave, or why it gave nothing."""

    call_id: str
    content: Any = None
    error: str = ""


class Turn(Model):
    """One turn of an agent's conversation with its model: what was asked of tools, and what they gave."""

    holder: str = Field(description="who asked for it: runners that go on with one conversation have different names")
    said: JsonObject = Field(description="the model's message, as the runner's library keeps it")
    asked: tuple[ToolAsked, ...]
    results: tuple[ToolResult, ...] = ()

    def open(self) -> tuple[ToolAsked, ...]:
        """The calls whose results nobody has told yet."""
        known = {result.call_id for result in self.results}
        return tuple(call for call in self.asked if call.call_id not in known)

    def give(self, result: ToolResult | None) -> "Turn | None":
        """With a result; none if the call has one already, or there is no such call."""
        if result is None or all(call.call_id != result.call_id for call in self.open()):
            return None
        return self.model_copy(update={"results": (*self.results, result)})

    def begin(self, call_id: str, holder: str) -> "Turn | None":
        """With a granted call begun; none if it is not there to be begun."""
        if all(call.call_id != call_id or call.granted is None or call.begun for call in self.open()):
            return None
        return self._changed(call_id, begun=holder)

    def grant(self, call_id: str, arguments: JsonObject) -> "Turn":
        return self.without_result(call_id)._changed(call_id, granted=arguments)

    def without_result(self, call_id: str) -> "Turn":
        kept = tuple(result for result in self.results if result.call_id != call_id)
        return self.model_copy(update={"results": kept})

    def _changed(self, call_id: str, **fields: Any) -> "Turn":
        changed = [call.model_copy(update=fields) if call.call_id == call_id else call for call in self.asked]
        return self.model_copy(update={"asked": tuple(changed)})


class Action(Model):
    """How an approved action is carried out: by an e-mail, by a call of `url`, by `tool`."""

    type: Literal["email", "webhook", "tool"]
    url: str = ""
    tool: str = ""


class Choice(Model):
    """How the runner chooses among the agents that have the capabilities. Equals are told apart by name."""

    strategy: Literal["least_loaded", "round_robin"] = Field(
        "least_loaded", description="who has least to do on the runner; or whose turn there was longest ago"
    )
    prefer: str = Field(
        "", description="the field of the input that names further capabilities: who has them goes first"
    )


class StepRequested(ExecutionMessage):
    """Run one attempt of a step.

    `run_id` belongs to the step run and is the same for every attempt: it goes to the agent as `Idempotency-Key`.
    `event_id` belongs to the attempt: a runner drops one that it runs or has just answered.
    The answer goes to partition `partition` of `agent.executed`. Of the kind `action` it carries out what a person has
    approved, as `action` says, with `input`. With `answer_schema` the answer has to fit that. With `capabilities`, `agent`
    is empty: the runner chooses one that has all of them, as `choice` says, and its answer says which.
    """

    event_type: Literal["step.requested"] = "step.requested"
    schema_version: Literal[1] = 1
    partition: int = Field(ge=0)
    step_id: Identifier
    run_id: Identifier
    attempt: int = Field(ge=1)
    kind: Literal["agent", "api_call", "tool", "action"] = "agent"
    agent: str
    capabilities: tuple[str, ...] = ()
    choice: Choice | None = Field(None, description="absent: the least loaded, whatever the input says")
    input: Any = None
    context: JsonObject = {}
    session_id: str | None = None
    timeout_seconds: float | None = Field(None, gt=0)
    max_iterations: int | None = None
    turns: tuple[Turn, ...] = Field((), description="of the agent's conversation, from the attempts before")
    answer_schema: JsonObject | None = None
    ask_first: bool = Field(False, description="of a tool: a person has to allow it")
    granted: bool = Field(False, description="of a tool: a person has allowed it, with this input")
    action: Action | None = None
    allowance: Limits | None = Field(
        None, description="what the attempt may use: an agent that has used it up stops there"
    )


class RunFields(TypedDict):
    """What every word about an attempt repeats of its request."""

    execution_id: str
    workflow_id: str
    user_id: str
    organization_id: str
    project_id: str
    step_id: str
    run_id: str
    attempt: int


def run_of(request: StepRequested) -> RunFields:
    return RunFields(
        execution_id=request.execution_id,
        workflow_id=request.workflow_id,
        user_id=request.user_id,
        organization_id=request.organization_id,
        project_id=request.project_id,
        step_id=request.step_id,
        run_id=request.run_id,
        attempt=request.attempt,
    )


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
    """The answer to one attempt: an output, an error with a code, or a call of a tool that a person has to allow."""

    event_type: Literal["agent.executed"] = "agent.executed"
    schema_version: Literal[1] = 1
    step_id: Identifier
    run_id: Identifier
    attempt: int = Field(ge=1)
    agent: str
    status: Literal["completed", "failed", "suggested"] = Field(
        description="`suggested`: a person has to allow `call_id` first; `output` says what"
    )
    output: Any = None
    error: ErrorInfo | None = None
    call_id: str = ""
    duration_ms: float = Field(0, ge=0)
    model_calls: tuple[ModelCall, ...] = ()


class AgentAdvanced(ExecutionMessage):
    """A conversation has come further: a model wants tools called (`said` and `asked`), or a tool has answered (`result`).

    Said before the tools are called. Of two that follow the same turn, the first in the log's order counts: see `advanced`.
    """

    event_type: Literal["agent.advanced"] = "agent.advanced"
    schema_version: Literal[1] = 1
    step_id: Identifier
    run_id: Identifier
    attempt: int = Field(ge=1)
    agent: str
    turn: int = Field(ge=0)
    holder: str
    follows: str = Field("", description="the holder of the turn before")
    said: JsonObject | None = None
    asked: tuple[ToolAsked, ...] = ()
    result: ToolResult | None = None
    begun: str = Field("", description="the granted call that the holder carries out now")
    model_calls: tuple[ModelCall, ...] = ()


def advanced(turns: tuple[Turn, ...], message: AgentAdvanced) -> tuple[Turn, ...] | None:
    """The turns with what the message adds; none if it does not go on from there and changes nothing."""
    if message.said is not None:
        before = turns[-1].holder if turns else ""
        if message.turn != len(turns) or message.follows != before:
            return None
        return (*turns, Turn(holder=message.holder, said=message.said, asked=message.asked))
    if message.turn >= len(turns):
        return None
    turn = turns[message.turn]
    done = turn.begin(message.begun, message.holder) if message.begun else turn.give(message.result)
    return None if done is None else (*turns[: message.turn], done, *turns[message.turn + 1 :])


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
    `a2a` is an agent elsewhere that speaks the A2A protocol. `external` is one that nobody calls: it fetches its tasks and
    answers them by itself. `history` are figures of before, which it brings along.
    Of the kind `tool` it is a tool of the runners: a native one, named `tool/NAME`, or one of a server, named
    `tool/SERVER:NAME`; `config.parameters` is its JSON Schema. Of the kind `mcp` it is such a server, named `mcp/SERVER`;
    of the kind `mcp_state`, what a runner says of its connection to it, named `mcp_state/SERVER`.
    """

    event_type: Literal["agent.registered"] = "agent.registered"
    schema_version: Literal[1] = 1
    agent: Identifier
    kind: Literal["http", "python", "scripted", "llm", "a2a", "external", "tool", "mcp", "mcp_state"]
    name: str = ""
    description: str = ""
    capabilities: tuple[str, ...] = ()
    config: JsonObject = {}
    history: JsonObject = {}
    removed: bool = False
