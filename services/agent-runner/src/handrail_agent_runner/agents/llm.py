"""Agents that are a language model: instructions, tools, a form for the answer. Words stream as they come.

pydantic-ai speaks to the providers; the loop is ours, since every call is recorded and every tool result is an event.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from functools import cache, cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import orjson
from handrail_contracts.agents import OFFLINE, LlmConfig
from handrail_contracts.codec import first_mistake
from handrail_contracts.ids import derive
from handrail_contracts.steps import AgentRegistered, ModelCall, StepRequested, ToolAsked, ToolResult
from handrail_runtime.settings import Settings
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import ValidationError

from handrail_agent_runner.agents.base import AgentFailure, Progress, refused
from handrail_agent_runner.agents.messages import arguments_of, conversation_of, corrections, heard, message_of, written
from handrail_agent_runner.agents.words import Words
from handrail_agent_runner.conversation import Conversation
from handrail_agent_runner.mcp.descriptors import visible_name
from handrail_agent_runner.tools import Tool, Toolbox

if TYPE_CHECKING:  # see _import
    from openai import AsyncOpenAI
    from pydantic_ai.messages import ModelMessage, ModelRequestPart, ModelResponse, ToolCallPart
    from pydantic_ai.models import Model, ModelRequestParameters

FINAL = "final_answer"
NO_KEY, SHORTEST_KEY = "none", 8
CORRECTIONS = 2
"""How often a model may correct an answer that does not fit its form."""
MOST_BYTES = 512 * 1024
"""What a conversation may hold of tool results: it travels with the step's next attempt."""
TOLD_BYTES = 20_000
"""What is told of a tool's result on the way; the model sees all of it."""


class LlmAgent:
    inline = None

    def __init__(self, name: str, config: LlmConfig, settings: Settings, toolbox: Toolbox) -> None:
        self._name, self._config, self._settings = name, config, settings
        self._limit = settings.result_limit_bytes
        self._clients: list[AsyncOpenAI] = []
        self._toolbox = toolbox
        self._tools: dict[str, Tool] = {}
        self._form = None if config.output_schema is None else Draft202012Validator(config.output_schema)

    async def close(self) -> None:
        """Lets go of its connections."""
        for client in self._clients:
            await client.close()

    @cached_property
    def _models(self) -> "list[Model]":
        names = [self._config.model, *([self._config.fallback_model] if self._config.fallback_model else [])]
        return [model_of(name, self._config, self._settings, self._clients) for name in names]

    def _parameters(self) -> "ModelRequestParameters":
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.tools import ToolDefinition

        tools = [
            ToolDefinition(name=name, parameters_json_schema=tool.parameters, description=tool.description)
            for name, tool in self._tools.items()
        ]
        if self._config.output_schema is None:
            return ModelRequestParameters(function_tools=tools)
        final = ToolDefinition(
            name=FINAL,
            parameters_json_schema=self._config.output_schema,
            kind="output",
            description="Gives the answer.",
        )
        return ModelRequestParameters(
            function_tools=tools, output_tools=[final], output_mode="tool", allow_text_output=False
        )

    async def execute(self, request: StepRequested, progress: Progress) -> Any:
        await asyncio.to_thread(_import)
        from pydantic_ai.messages import ModelRequest

        self._tools = {visible_name(name): await self._toolbox.tool(name, request) for name in self._config.tools}
        conversation = progress.conversation or Conversation(request)
        await conversation.resume()
        instructions = self._config.instructions or None
        messages = conversation_of(request.input, instructions)
        for number, turn in enumerate(conversation.turns):
            response = message_of(turn.said)
            parts = await self._results(conversation, number, response, request, progress)
            messages += [response, ModelRequest(parts=parts, instructions=instructions)]
        most, chances = request.max_iterations or self._config.max_iterations, CORRECTIONS
        for _ in range(most - len(conversation.turns)):
            response = await self._ask(messages, progress, conversation)
            calls, final = response.tool_calls, self._final(response)
            if self._form is None and not calls:
                return response.text or ""
            wrong = self._mistake(final)
            if final is not None and not wrong:
                return arguments_of(final)
            if final is None and calls:
                await self._want(conversation, response, progress)
                parts = await self._results(conversation, len(conversation.turns) - 1, response, request, progress)
            elif chances:
                chances -= 1
                parts = corrections(wrong, final, calls)
            else:
                message = f"agent {self._name} did not give an answer that fits its output_schema: {wrong}"
                raise AgentFailure("AGENT_ERROR", message, retryable=True)
            messages += [response, ModelRequest(parts=parts, instructions=instructions)]
        message = (
            f"agent {self._name} asked its model {most} times and came to no end; raise max_iterations if it needs more"
        )
        raise AgentFailure("AGENT_ERROR", message, retryable=False)

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

    # --- the model --------------------------------------------------------------------------------------------------

    async def _ask(
        self, messages: "Sequence[ModelMessage]", progress: Progress, conversation: Conversation
    ) -> "ModelResponse":
        """The next answer, from the fallback model if the first fails in a way that may pass."""
        *others, last = self._models
        for model in others:
            try:
                return await self._ask_one(model, messages, progress, conversation)
            except AgentFailure as failure:
                if not failure.info.retryable:
                    raise
        return await self._ask_one(last, messages, progress, conversation)

    async def _ask_one(
        self, model: "Model", messages: "Sequence[ModelMessage]", progress: Progress, conversation: Conversation
    ) -> "ModelResponse":
        began = time.perf_counter()
        words = Words(progress, conversation)
        try:
            async with asyncio.timeout(self._config.timeout_seconds):
                response = await self._stream(model, messages, words)
        except Exception as error:
            failure = error if isinstance(error, AgentFailure) else self._failure_of(model, error)
            seconds = time.perf_counter() - began
            progress.model_calls.append(ModelCall(model=model.model_name, seconds=seconds, error=failure.info.message))
            raise failure from error
        finally:
            words.flush()
        words.end()
        progress.model_calls.append(_recorded(model, response, time.perf_counter() - began))
        return response

    def _failure_of(self, model: "Model", error: Exception) -> AgentFailure:
        """A provider may repeat the key that it refuses: nobody else is told."""
        info = failure_of(self._name, model.model_name, error).info
        message = info.message
        for name, value in os.environ.items():
            if (name.endswith("_KEY") or name == self._config.api_key_env) and len(value) >= SHORTEST_KEY:
                message = message.replace(value, "***")
        return AgentFailure(info.code, message, retryable=info.retryable)

    async def _stream(self, model: "Model", messages: "Sequence[ModelMessage]", words: Words) -> "ModelResponse":
        from pydantic_ai.direct import model_request_stream
        from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
        from pydantic_ai.settings import ModelSettings

        settings: ModelSettings = {}
        if self._config.temperature is not None:
            settings["temperature"] = self._config.temperature
        if self._config.max_tokens is not None:
            settings["max_tokens"] = self._config.max_tokens
        async with model_request_stream(
            model, messages, model_settings=settings, model_request_parameters=self._parameters()
        ) as stream:
            async for event in stream:
                text = ""
                if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                    text = event.part.content
                elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                    text = event.delta.content_delta
                words.add(text)
                if words.length > self._limit:
                    message = f"agent {self._name} says more than {self._limit} bytes; pass large data by reference"
                    raise AgentFailure("RESULT_TOO_LARGE", message, retryable=False)
        return stream.get()

    # --- tools ------------------------------------------------------------------------------------------------------

    async def _want(self, conversation: Conversation, response: "ModelResponse", progress: Progress) -> None:
        """Writes down what the model wants of tools, before they are called."""
        asked = []
        for call in response.tool_calls:
            tool = self._tools.get(call.tool_name)
            repeatable = tool is None or tool.repeatable
            asked.append(ToolAsked(call_id=call.tool_call_id, tool=call.tool_name, repeatable=repeatable))
        await conversation.asked(written(response), tuple(asked), progress.model_calls)
        if conversation.weight > MOST_BYTES:
            message = f"the conversation of agent {self._name} holds more than {MOST_BYTES} bytes of tool results"
            raise AgentFailure("RESULT_TOO_LARGE", f"{message}; let tools give less", retryable=False)

    async def _results(
        self,
        conversation: Conversation,
        number: int,
        response: "ModelResponse",
        request: StepRequested,
        progress: Progress,
    ) -> "list[ModelRequestPart]":
        """What the model hears of a turn's calls: those that nobody has carried out yet are carried out now."""
        calls = {call.tool_call_id: call for call in response.tool_calls}
        for asked in conversation.turns[number].open():
            if await conversation.outcome_is_unknown(number, asked):
                raise outcome_unknown(self._name, asked.tool, calls[asked.call_id])
        open_calls = [calls[asked.call_id] for asked in conversation.turns[number].open()]
        await asyncio.gather(*(self._use(conversation, number, call, request, progress) for call in open_calls))
        return [heard(calls[result.call_id], result) for result in conversation.turns[number].results]

    async def _use(
        self, conversation: Conversation, number: int, call: "ToolCallPart", request: StepRequested, progress: Progress
    ) -> None:
        """A mistake of the model's own is told to it, so that it can do better."""
        name, known = call.tool_name, ", ".join(self._tools) or "none"
        progress(
            "tool_call", {"id": call.tool_call_id, "tool": name, "arguments": call.args_as_json_str()[:TOLD_BYTES]}
        )
        keyed = request.model_copy(update={"run_id": derive(request.run_id, number, call.tool_call_id)})
        try:
            tool = self._tools.get(name)
            if tool is None:
                raise AgentFailure("TOOL_ERROR", f"there is no tool {name!r}; there are: {known}", retryable=False)
            content = await tool.call(arguments_of(call), keyed, progress)
            told = {"result": _checked(content, self._limit)}
            result = ToolResult(call_id=call.tool_call_id, content=content)
        except Exception as error:
            told = {"error": f"{error}"[:1000] or type(error).__name__}
            result = ToolResult(call_id=call.tool_call_id, **told)
        progress("tool_result", {"id": call.tool_call_id, "tool": name, **told})
        await conversation.gave(number, result)


def _checked(content: Any, limit: int) -> str:
    """What is told of a result. Raises `AgentFailure` if it is too large."""
    text = orjson.dumps(content).decode()
    if len(text) > limit:
        raise AgentFailure("TOOL_ERROR", f"the result has more than {limit} bytes", retryable=False)
    return text[:TOLD_BYTES]


def outcome_unknown(agent: str, tool: str, call: "ToolCallPart") -> AgentFailure:
    """For a person to settle: never a silent second call."""
    message = (
        f"agent {agent} has begun a call of {tool} that must not be made twice, and was cut off before its result was "
        f"known. Look whether it took effect, then retry the step (with `data` if you know what the call gave) or skip it. "
        f"Its arguments: {call.args_as_json_str()[:500]}"
    )
    return AgentFailure("OUTCOME_UNKNOWN", message, retryable=False)


@cache
def _import() -> None:
    """Takes a second or two: in a thread, so that other agents go on."""
    import_module("pydantic_ai.direct")
    import_module("pydantic_ai.models.openai")


def _recorded(model: "Model", response: "ModelResponse", seconds: float) -> ModelCall:
    usage = response.usage
    try:
        cost = float(response.cost().total_price)
    except Exception:  # no price is known
        cost = None
    return ModelCall(
        model=response.model_name or model.model_name,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=cost,
        seconds=seconds,
        tools=tuple(call.tool_name for call in response.tool_calls if call.tool_name != FINAL),
    )


def model_of(name: str, config: LlmConfig, settings: Settings, clients: "list[AsyncOpenAI]") -> "Model":
    """Adds the client that it makes, if any, to `clients`. Raises `AgentFailure` if it can't be reached as it is described."""
    from openai import AsyncOpenAI
    from pydantic_ai.models import infer_model
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    base_url, key = config.base_url, NO_KEY
    if base_url is None and (name == OFFLINE or name.startswith(f"{OFFLINE}:")):
        base_url, name = settings.offline_model_url, name.removeprefix(f"{OFFLINE}:")
    if config.api_key_env is not None:
        key = os.environ.get(config.api_key_env, "")
        if not key:
            message = f"model {name} needs a key: the runner has no environment variable {config.api_key_env}"
            raise AgentFailure("VALIDATION_ERROR", message, retryable=False)
    if base_url is not None:
        # the step's retry policy repeats, and records that it does; the client must not on its own
        client = AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0)
        clients.append(client)
        return OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))
    try:
        return infer_model(name)
    except Exception as error:
        message = f"model {name!r} can't be used: {error}"
        raise AgentFailure("VALIDATION_ERROR", message, retryable=False) from error


def failure_of(agent: str, model: str, error: Exception) -> AgentFailure:
    """What went wrong with the provider, in our codes. Nothing of a request's headers is told."""
    from pydantic_ai.exceptions import ModelHTTPError

    whose = f"model {model} of agent {agent}"
    if isinstance(error, TimeoutError):
        return AgentFailure("TIMEOUT", f"{whose} did not answer in time", retryable=True)
    if isinstance(error, ModelHTTPError):
        return refused(error.status_code, f"{whose} answered {error.status_code}: {str(error.body)[:300]}")
    return AgentFailure("AGENT_ERROR", f"{whose} failed: {type(error).__name__}: {error}", retryable=True)


def make_llm_agent(registered: AgentRegistered, settings: Settings, toolbox: Toolbox) -> LlmAgent:
    try:
        config = LlmConfig.model_validate(registered.config)
        if config.output_schema is not None:
            Draft202012Validator.check_schema(config.output_schema)
            if config.output_schema.get("type") != "object":
                raise ValueError("output_schema: its type has to be object")
    except ValidationError as error:
        place, why = first_mistake(error)
        message = f"agent {registered.agent} can't be made: config.{place}: {why}"
        raise AgentFailure("VALIDATION_ERROR", message, retryable=False) from error
    except (SchemaError, ValueError) as error:
        text = error.message if isinstance(error, SchemaError) else str(error)
        message = f"agent {registered.agent} can't be made: config.output_schema: {text}"
        raise AgentFailure("VALIDATION_ERROR", message, retryable=False) from error
    return LlmAgent(registered.agent, config, settings, toolbox)
