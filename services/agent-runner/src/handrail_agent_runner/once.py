"""Carrying something out that must not happen twice, whatever crashes on the way."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from handrail_contracts.steps import StepRequested, ToolAsked, ToolResult

from handrail_agent_runner.agents.base import AgentFailure, Progress
from handrail_agent_runner.conversation import Conversation


async def once(what: str, request: StepRequested, progress: Progress, do: Callable[[], Awaitable[Any]]) -> Any:
    """What `do` gives, now or in an attempt before. A failure that it reports may be tried again by a later attempt.

    Raises `AgentFailure` with the code OUTCOME_UNKNOWN if it was begun and nobody knows how it ended.
    """
    conversation = progress.conversation or Conversation(request)
    await conversation.resume()
    for number, turn in enumerate(conversation.turns):
        for call in turn.open():
            if await conversation.outcome_is_unknown(number, call):
                raise outcome_unknown(f"step {request.step_id}", what, request.input)
    done = [result for turn in conversation.turns for result in turn.results if not result.error]
    if done:
        return done[-1].content
    number = len(conversation.turns)
    call = ToolAsked(call_id=f"{what} {number}", tool=what, repeatable=False)
    await conversation.asked({"call": what}, (call,), progress.model_calls)
    try:
        content = await do()
    except Exception as error:
        if (failed := failed_call(call.call_id, error)) is not None:
            await conversation.gave(number, failed)
        raise
    await conversation.gave(number, ToolResult(call_id=call.call_id, content=content))
    return content


def failed_call(call_id: str, error: Exception) -> ToolResult | None:
    """What is kept in place of a result; none if nobody knows how the call ended, which is for a person to settle."""
    if isinstance(error, AgentFailure) and error.info.code == "OUTCOME_UNKNOWN":
        return None
    return ToolResult(call_id=call_id, error=f"{error}"[:1000] or type(error).__name__)


def outcome_unknown(whose: str, what: str, arguments: Any) -> AgentFailure:
    """For a person to settle: never a silent second time."""
    given = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    message = (
        f"{whose} has begun {what}, which must not happen twice, and was cut off before its outcome was known. Look "
        "whether it took effect, then retry the step (with `data` if you know what came of it) or skip it. "
        f"It was given: {given[:500]}"
    )
    return AgentFailure("OUTCOME_UNKNOWN", message, retryable=False)
