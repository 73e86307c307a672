"""One attempt of a step: whatever happens in an agent becomes an outcome."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from handrail_contracts import topics
from handrail_contracts.codec import MAX_RECORD_BYTES, cloud_event_headers, encode
from handrail_contracts.envelope import ErrorInfo, JsonObject, utc
from handrail_contracts.ids import derive
from handrail_contracts.steps import AgentExecuted, ModelCall, StepProgressed, StepRequested, run_of
from handrail_runtime.writer import Parcel

from handrail_agent_runner.agents import AgentFailure
from handrail_agent_runner.agents.base import InlineFunction, LeftOpen, Progress, Suggests
from handrail_agent_runner.conversation import SOURCE, Overtaken, TooLarge
from handrail_agent_runner.registry import Registry

HoldBack = Callable[[StepRequested], Awaitable[None]]
ENVELOPE_BYTES = 4096
"""What an answer may weigh besides its output."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """An output, an error, or what a person has to allow first."""

    seconds: float
    output: Any = None
    error: ErrorInfo | None = None
    model_calls: tuple[ModelCall, ...] = ()
    call_id: str = ""
    suggested: bool = False

    @property
    def status(self) -> Literal["completed", "failed", "suggested"]:
        return "suggested" if self.suggested else "completed" if self.error is None else "failed"


def carry_out_inline(function: InlineFunction, request: StepRequested) -> Outcome:
    began = time.perf_counter()
    try:
        output = function(request.input, request.context)
    except (Exception, SystemExit) as error:
        return Outcome(time.perf_counter() - began, error=_told(request, error))
    return Outcome(time.perf_counter() - began, output)


async def carry_out(
    registry: Registry, request: StepRequested, progress: Progress, hold_back: HoldBack | None = None
) -> Outcome:
    """Never raises, except `Overtaken` and `LeftOpen`, and `CancelledError` when the caller itself is cancelled.

    `hold_back` returns once it may begin.
    """
    began = time.perf_counter()
    limit = asyncio.timeout(request.timeout_seconds)
    try:
        async with limit:
            agent = await registry.wait_for(request)
            if hold_back is not None:
                await hold_back(request)
            output = await agent.execute(request, progress)
    except (Overtaken, LeftOpen):
        raise
    except Suggests as wish:
        wanted = wish.suggestion.model_dump()
        return Outcome(time.perf_counter() - began, wanted, None, tuple(progress.model_calls), wish.call_id, True)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return Outcome(time.perf_counter() - began, None, _told(request, error), tuple(progress.model_calls))
    except (Exception, SystemExit) as error:
        told = _too_late(request) if limit.expired() and isinstance(error, TimeoutError) else _told(request, error)
        return Outcome(time.perf_counter() - began, None, told, tuple(progress.model_calls))
    return Outcome(time.perf_counter() - began, output, None, tuple(progress.model_calls))


def _too_late(request: StepRequested) -> ErrorInfo:
    message = f"agent {request.agent} took longer than {request.timeout_seconds:g} s in step {request.step_id}"
    return ErrorInfo(code="TIMEOUT", message=message, retryable=True)


def _told(request: StepRequested, error: BaseException) -> ErrorInfo:
    if isinstance(error, AgentFailure):
        return error.info
    if isinstance(error, TooLarge):
        return ErrorInfo(code="RESULT_TOO_LARGE", message=str(error))
    try:
        said = str(error)
    except Exception:
        said = "it can't say why"
    message = f"agent {request.agent} failed in step {request.step_id}: {type(error).__name__}: {said}"
    text = message[:2000].encode("utf-8", "backslashreplace").decode()
    return ErrorInfo(code="AGENT_ERROR", message=text, retryable=True)


def answer_of(request: StepRequested, outcome: Outcome, limit: int) -> Parcel:
    """The `agent.executed` of an outcome; one that is no JSON or weighs too much becomes an error."""
    message, value = _encoded(request, outcome)
    if len(value) > min(limit + ENVELOPE_BYTES, MAX_RECORD_BYTES):
        text = f"the answer of agent {request.agent} is larger than {limit} bytes; pass large data by reference"
        error = ErrorInfo(code="RESULT_TOO_LARGE", message=text)
        message, value = _encoded(request, replace(outcome, output=None, error=error, call_id="", suggested=False))
    headers = cloud_event_headers(message, SOURCE)
    return Parcel(topics.AGENT_EXECUTED, request.execution_id, value, headers, request.partition)


def progress_of(request: StepRequested, index: int, kind: str, data: JsonObject) -> Parcel:
    message = StepProgressed(
        event_id=derive(request.event_id, "progress", index),
        occurred_at=utc(time.time()),
        **run_of(request),
        kind=kind,
        index=index,
        data=data,
    )
    headers = cloud_event_headers(message, SOURCE)
    return Parcel(topics.STEP_PROGRESSED, request.execution_id, encode(message), headers, request.partition)


def _encoded(request: StepRequested, outcome: Outcome) -> tuple[AgentExecuted, bytes]:
    message = AgentExecuted(
        event_id=derive(request.event_id, "answer"),
        occurred_at=utc(time.time()),
        **run_of(request),
        agent=request.agent,
        duration_ms=round(outcome.seconds * 1000, 3),
        status=outcome.status,
        output=outcome.output,
        error=outcome.error,
        model_calls=outcome.model_calls,
        call_id=outcome.call_id,
    )
    try:
        return message, encode(message)
    except Exception as problem:
        text = f"agent {request.agent} answered something that is not JSON: {problem}"
        error = ErrorInfo(code="AGENT_ERROR", message=text[:2000].encode("utf-8", "backslashreplace").decode())
        message = message.model_copy(update={"status": "failed", "output": None, "error": error})
        return message, encode(message)
