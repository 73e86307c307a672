"""One attempt of an agent that is a language model: asks, calls tools, asks again, until there is an answer."""

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from handrail_contracts.agents import LlmConfig
from handrail_contracts.approvals import Suggestion
from handrail_contracts.envelope import JsonObject
from handrail_contracts.ids import derive
from handrail_contracts.steps import ModelCall, StepRequested, ToolAsked, ToolResult
from jsonschema import Draft202012Validator

from handrail_agent_runner.agents.base import AgentFailure, Progress, Suggests
from handrail_agent_runner.agents.messages import arguments_of, conversation_of, corrections, heard, message_of, written
from handrail_agent_runner.agents.words import Words
from handrail_agent_runner.conversation import Conversation
from handrail_agent_runner.once import failed_call, outcome_unknown
from handrail_agent_runner.tools import Tool

if TYPE_CHECKING:  # imported when the first agent of the kind runs
    from pydantic_ai.messages import ModelMessage, ModelRequestPart, ModelResponse, ToolCallPart
    from pydantic_ai.models import ModelRequestParameters

FINAL = "final_answer"
CORRECTIONS = 2
"""How often a model may correct an answer that does not fit its form."""
MOST_BYTES = 512 * 1024
"""What a conversation may hold of tool results: it travels with the step's next attempt."""
TOLD_BYTES = 20_000
"""What is told of a tool's result on the way; the model sees all of it."""


class Ask(Protocol):
    """Asks the agent's model, and its fallback model if that fails; each call is noted in `calls`."""

    async def __call__(
        self, messages: "list[ModelMessage]", parameters: "ModelRequestParameters", words: Words, calls: list[ModelCall]
    ) -> "ModelResponse": ...


class Talk:
    """`limit`: bytes of one tool's result. What a model asks of tools and what they give is kept in the conversation."""

    def __init__(
        self,
        agent: str,
        config: LlmConfig,
        tools: Mapping[str, Tool],
        ask: Ask,
        request: StepRequested,
        progress: Progress,
        limit: int,
    ) -> None:
        self._agent, self._config, self._tools, self._ask = agent, config, tools, ask
        self._request, self._progress, self._limit = request, progress, limit
        self._conversation = progress.conversation or Conversation(request)
        self._began, self._told_calls = time.monotonic(), list[ModelCall]()
        self._schema = request.answer_schema or config.output_schema
        self._form = None if self._schema is None else Draft202012Validator(self._schema)

    async def run(self) -> Any:
        from pydantic_ai.messages import ModelRequest

        conversation, parameters = self._conversation, self._parameters()
        await conversation.resume()
        instructions = self._config.instructions or None
        messages = conversation_of(self._request.input, instructions)
        for number, turn in enumerate(conversation.turns):
            response = message_of(turn.said)
            parts = await self._results(number, response)
            messages += [response, ModelRequest(parts=parts, instructions=instructions)]
        most, chances = self._request.max_iterations or self._config.max_iterations, CORRECTIONS
        for _ in range(len(conversation.turns), most):
            self._check_allowance()
            words = Words(self._progress, conversation)
            response = await self._ask(messages, parameters, words, self._progress.model_calls)
            calls, final = response.tool_calls, self._final(response)
            if self._form is None and not calls:
                return response.text or ""
            wrong = self._mistake(final)
            if final is not None and not wrong:
                return arguments_of(final)
            if final is None and calls:
                await self._want(response)
                parts = await self._results(len(conversation.turns) - 1, response)
            elif chances:
                chances -= 1
                parts = corrections(wrong, final, calls)
            else:
                message = f"agent {self._agent} did not give an answer that fits its output_schema: {wrong}"
                raise AgentFailure("AGENT_ERROR", message, retryable=True)
            messages += [response, ModelRequest(parts=parts, instructions=instructions)]
        message = f"agent {self._agent} asked its model {most} times and came to no end"
        raise AgentFailure("AGENT_ERROR", f"{message}; raise max_iterations if it needs more", retryable=False)

    def _check_allowance(self) -> None:
        """Before each call of a model. What was used by then is for the attempt's budgets to know, and so is what is left."""
        allowance = self._request.allowance
        if allowance is None:
            return
        calls = [*self._told_calls, *self._progress.model_calls]
        used = {
            "tokens": sum(call.input_tokens + call.output_tokens for call in calls),
            "cost_usd": sum(call.cost_usd or 0 for call in calls),
            "calls": len(calls),
            "seconds": time.monotonic() - self._began,
        }
        for name, amount in used.items():
            allowed = getattr(allowance, name)
            if allowed is not None and amount >= allowed:
                message = f"agent {self._agent} has used the {allowed:g} {name} that this attempt was allowed"
                raise AgentFailure("BUDGET_SPENT", message, retryable=False)

    # --- the answer -------------------------------------------------------------------------------------------------

    def _parameters(self) -> "ModelRequestParameters":
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.tools import ToolDefinition

        tools = [
            ToolDefinition(name=name, parameters_json_schema=tool.parameters, description=tool.description)
            for name, tool in self._tools.items()
        ]
        if self._schema is None:
            return ModelRequestParameters(function_tools=tools)
        told = "Gives the answer."
        final = ToolDefinition(name=FINAL, parameters_json_schema=self._schema, kind="output", description=told)
        return ModelRequestParameters(
            function_tools=tools, output_tools=[final], output_mode="tool", allow_text_output=False
        )

    def _final(self, response: "ModelResponse") -> "ToolCallPart | None":
        if self._form is None:
            return None
        return next((call for call in response.tool_calls if call.tool_name == FINAL), None)

    def _mistake(self, final: "ToolCallPart | None") -> str:
        """Why that is no answer; empty if it is one."""
        if self._form is None or final is None:
            return f"answer by calling {FINAL}"
        try:
            answer = arguments_of(final)
        except ValueError as error:
            return f"the answer is no JSON: {error}"
        found = next(iter(self._form.iter_errors(answer)), None)
        return "" if found is None else f"{found.json_path}: {found.message}"[:500]

    # --- tools ------------------------------------------------------------------------------------------------------

    async def _want(self, response: "ModelResponse") -> None:
        """Writes down what the model wants of tools, before they are called."""
        asked = []
        for call in response.tool_calls:
            tool = self._tools.get(call.tool_name)
            repeatable = tool is None or tool.repeatable
            ask = tool is not None and tool.ask_first
            asked.append(ToolAsked(call_id=call.tool_call_id, tool=call.tool_name, repeatable=repeatable, ask=ask))
        self._told_calls += self._progress.model_calls
        await self._conversation.asked(written(response), tuple(asked), self._progress.model_calls)
        if self._conversation.weight > MOST_BYTES:
            message = f"the conversation of agent {self._agent} holds more than {MOST_BYTES} bytes of tool results"
            raise AgentFailure("RESULT_TOO_LARGE", f"{message}; let tools give less", retryable=False)

    async def _results(self, number: int, response: "ModelResponse") -> "list[ModelRequestPart]":
        """What the model hears of a turn's calls: those that nobody has carried out yet are carried out now."""
        conversation = self._conversation
        calls = {call.tool_call_id: call for call in response.tool_calls}
        for asked in conversation.turns[number].open():
            if await conversation.outcome_is_unknown(number, asked):
                arguments = calls[asked.call_id].args_as_json_str()
                raise outcome_unknown(f"agent {self._agent}", f"a call of {asked.tool}", arguments)
        ready = [asked for asked in conversation.turns[number].open() if not asked.ask or asked.granted is not None]
        await asyncio.gather(*(self._use(number, asked, calls[asked.call_id]) for asked in ready))
        for asked in conversation.turns[number].open():
            raise Suggests(_wish(asked, calls[asked.call_id], response.text or ""), asked.call_id)
        return [heard(calls[result.call_id], result) for result in conversation.turns[number].results]

    async def _use(self, number: int, asked: ToolAsked, call: "ToolCallPart") -> None:
        """A mistake of the model's own is told to it, so that it can do better."""
        name, call_id = call.tool_name, call.tool_call_id
        told = call.args_as_json_str() if asked.granted is None else orjson.dumps(asked.granted).decode()
        self._progress("tool_call", {"id": call_id, "tool": name, "arguments": told[:TOLD_BYTES]})
        if asked.granted is not None:
            await self._conversation.begins(number, asked)
        try:
            content = await self._call(number, call, asked.granted)
            outcome = {"result": self._checked(content)}
            result = ToolResult(call_id=call_id, content=content)
        except Exception as error:
            failed = failed_call(call_id, error)
            if failed is None:
                raise  # the model might call again
            result, outcome = failed, {"error": failed.error}
        self._progress("tool_result", {"id": call_id, "tool": name, **outcome})
        await self._conversation.gave(number, result)

    async def _call(self, number: int, call: "ToolCallPart", granted: JsonObject | None) -> Any:
        tool = self._tools.get(call.tool_name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            message = f"there is no tool {call.tool_name!r}; there are: {known}"
            raise AgentFailure("TOOL_ERROR", message, retryable=False)
        key = derive(self._request.run_id, number, call.tool_call_id)
        keyed = self._request.model_copy(update={"run_id": key})
        return await tool.call(arguments_of(call) if granted is None else granted, keyed, self._progress)

    def _checked(self, content: Any) -> str:
        """What is told of a result. Raises `AgentFailure` if it is too large."""
        text = orjson.dumps(content).decode()
        if len(text) > self._limit:
            raise AgentFailure("TOOL_ERROR", f"the result has more than {self._limit} bytes", retryable=False)
        return text[:TOLD_BYTES]


def _wish(asked: ToolAsked, call: "ToolCallPart", words: str) -> Suggestion:
    """What a person is asked to allow. Arguments that are no object are told as what they are, and can't be called with."""
    try:
        arguments = arguments_of(call)
    except ValueError:
        arguments = {"arguments": call.args_as_json_str()}
    return Suggestion(action=asked.tool, reasoning=words[:10_000], confidence=0, suggested_data=arguments)
