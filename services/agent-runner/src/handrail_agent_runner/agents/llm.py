"""Agents that are a language model: instructions, tools, a form for the answer. Words stream as they come.

pydantic-ai speaks to the providers; the loop is ours, since every call is recorded and every tool result is an event.
"""

import asyncio
import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from handrail_contracts.agents import LlmConfig
from handrail_contracts.steps import AgentRegistered, ModelCall, StepRequested
from handrail_runtime.models import ModelUnusable, load_library, model_of, schema_mistake, without_keys
from handrail_runtime.settings import Settings

from handrail_agent_runner.agents.base import AgentFailure, Progress, config_of, refused
from handrail_agent_runner.agents.talk import FINAL, Talk
from handrail_agent_runner.agents.words import Words
from handrail_agent_runner.mcp.descriptors import visible_name
from handrail_agent_runner.tools import Tool, Toolbox

if TYPE_CHECKING:  # see load_library
    from openai import AsyncOpenAI
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import Model, ModelRequestParameters


class LlmAgent:
    inline = None

    def __init__(self, name: str, config: LlmConfig, settings: Settings, toolbox: Toolbox, *, trusted: bool) -> None:
        self._name, self._config, self._settings, self._trusted = name, config, settings, trusted
        self._limit = settings.result_limit_bytes
        self._toolbox = toolbox
        self._clients: list[AsyncOpenAI] = []

    async def close(self) -> None:
        """Lets go of its connections."""
        for client in self._clients:
            await client.close()

    @cached_property
    def _models(self) -> "list[Model]":
        names = [self._config.model, *([self._config.fallback_model] if self._config.fallback_model else [])]
        where = {"base_url": self._config.base_url, "api_key_env": self._config.api_key_env}
        try:
            return [model_of(name, self._settings, self._clients, **where, trusted=self._trusted) for name in names]
        except ModelUnusable as error:
            raise AgentFailure("VALIDATION_ERROR", str(error), retryable=False) from error

    async def execute(self, request: StepRequested, progress: Progress) -> Any:
        await asyncio.to_thread(load_library)
        tools = {visible_name(name): await self._tool(name, request) for name in self._config.tools}
        return await Talk(self._name, self._config, tools, self._ask, request, progress, self._limit).run()

    async def _tool(self, name: str, request: StepRequested) -> Tool:
        """Marked here if a person has to allow it: the model knows it by another name than the registration."""
        tool = await self._toolbox.tool(name, request)
        return replace(tool, ask_first=True) if name in self._config.ask_first else tool

    async def _ask(
        self, messages: "list[ModelMessage]", parameters: "ModelRequestParameters", words: Words, calls: list[ModelCall]
    ) -> "ModelResponse":
        *others, last = self._models
        for model in others:
            try:
                return await self._ask_one(model, messages, parameters, words, calls)
            except AgentFailure as failure:
                if not failure.info.retryable:
                    raise
                words.again()
        return await self._ask_one(last, messages, parameters, words, calls)

    async def _ask_one(
        self,
        model: "Model",
        messages: "list[ModelMessage]",
        parameters: "ModelRequestParameters",
        words: Words,
        calls: list[ModelCall],
    ) -> "ModelResponse":
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._config.timeout_seconds):
                response = await self._stream(model, messages, parameters, words)
        except Exception as error:
            failure = error if isinstance(error, AgentFailure) else self._failure_of(model, error)
            seconds = time.perf_counter() - began
            calls.append(ModelCall(model=model.model_name, seconds=seconds, error=failure.info.message))
            raise failure from error
        finally:
            words.flush()
        words.end()
        calls.append(_recorded(model, response, time.perf_counter() - began))
        return response

    def _failure_of(self, model: "Model", error: Exception) -> AgentFailure:
        info = failure_of(self._name, model.model_name, error).info
        message = without_keys(info.message, self._config.api_key_env)
        return AgentFailure(info.code, message, retryable=info.retryable)

    async def _stream(
        self, model: "Model", messages: "list[ModelMessage]", parameters: "ModelRequestParameters", words: Words
    ) -> "ModelResponse":
        from pydantic_ai.direct import model_request_stream
        from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
        from pydantic_ai.settings import ModelSettings

        settings: ModelSettings = {}
        if self._config.temperature is not None:
            settings["temperature"] = self._config.temperature
        if self._config.max_tokens is not None:
            settings["max_tokens"] = self._config.max_tokens
        async with model_request_stream(
            model, messages, model_settings=settings, model_request_parameters=parameters
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
    config = config_of(registered, LlmConfig)
    if mistake := schema_mistake(config.output_schema):
        message = f"agent {registered.agent} can't be made: config.output_schema: {mistake}"
        raise AgentFailure("VALIDATION_ERROR", message, retryable=False)
    return LlmAgent(registered.agent, config, settings, toolbox, trusted=not registered.organization_id)
