"""The stream of an execution: typed events, without a gap and without a repetition, however often the connection is cut."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx2
from httpx2 import EventSource, ServerSentEvent

from handrail_client.calls import STREAM
from handrail_client.errors import ApiError, Unreachable
from handrail_client.models import Answer, StepError
from handrail_client.transport import AGAIN, Backoff, Transport, filled

SILENCE_SECONDS = 45.0
"""A gateway says something every 15 s at least: three missed beats, and the connection is dead."""


class StreamEvent(Answer):
    """`id` is where a later stream can go on (`after=`); what is only said live, such as `delta`, may have none."""

    type: str = ""
    id: str | None = None
    step: str | None = None


class Status(StreamEvent):
    status: str


class StepStarted(StreamEvent):
    step_type: str | None = None
    attempt: int | None = None
    agent: str | None = None


class StepEnded(StreamEvent):
    """`status`: completed, failed, skipped or cancelled."""

    status: str
    result: Any = None
    error: StepError | None = None
    reason: str | None = None


class Trouble(StreamEvent):
    """An attempt or the execution failed; with `retry_at`, it will be tried again."""

    code: str | None
    message: str | None
    retryable: bool
    retry_at: str | None = None


class Delta(StreamEvent):
    """Some more of what an agent says."""

    content: str = ""


class ToolCalled(StreamEvent): ...


class ToolAnswered(StreamEvent): ...


class Ended(StreamEvent):
    """The last one."""

    status: str
    result: Any = None
    error: StepError | None = None
    by: str | None = None
    reason: str | None = None


KINDS: dict[str, type[StreamEvent]] = {
    "status": Status,
    "step_start": StepStarted,
    "step_complete": StepEnded,
    "error": Trouble,
    "delta": Delta,
    "tool_call": ToolCalled,
    "tool_result": ToolAnswered,
    "complete": Ended,
}
ABOUT_THE_CONNECTION = frozenset({"connected", "heartbeat"})


def event_of(sse: ServerSentEvent) -> StreamEvent | None:
    """None for what is only about the connection. A kind that a newer gateway adds is a plain `StreamEvent`."""
    if sse.event in ABOUT_THE_CONNECTION:
        return None
    data: Any = sse.json()
    return KINDS.get(sse.event, StreamEvent).model_validate({**data, "type": sse.event, "id": sse.id or None})


async def follow(
    transport: Transport, execution_id: str, after: str | None = None
) -> AsyncGenerator[StreamEvent, None]:
    """Everything after that id (or from the beginning), then what happens, to the end.

    Connects again when the connection is cut or silent; raises `Unreachable` when nothing was heard for `retry_seconds`.
    """
    backoff = Backoff(transport.retry_seconds)
    while True:
        wanted: float | None = None
        try:
            async with aclosing(_connection(transport, execution_id, after)) as connection:
                async for sse in connection:
                    backoff.reset()
                    if event := event_of(sse):
                        after = event.id or after
                        yield event
                        if isinstance(event, Ended):
                            return
        except _NothingMore:
            return
        except httpx2.TransportError as error:
            why: Exception | None = error
        except ApiError as error:
            if error.status not in AGAIN:
                raise
            why, wanted = error, error.retry_after
        else:
            why = None  # the gateway stops, or we were too slow
        if not await backoff.wait(wanted):
            raise Unreachable(f"the stream of execution {execution_id} stays away: {why!r}") from why


class _NothingMore(Exception):
    """The execution has ended, and `after` names its last event."""


async def _connection(
    transport: Transport, execution_id: str, after: str | None
) -> AsyncGenerator[ServerSentEvent, None]:
    path = filled(STREAM[1], {"execution_id": execution_id})
    headers = {} if after is None else {"Last-Event-ID": after}
    async with transport.stream(path, headers, SILENCE_SECONDS) as response:
        if response.status_code == 204:
            raise _NothingMore
        async for sse in EventSource(response):
            yield sse
