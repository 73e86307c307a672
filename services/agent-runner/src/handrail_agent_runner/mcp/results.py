"""A call of a server's tool, and what it comes to: an output, or a failure with a public code."""

import time
from typing import TYPE_CHECKING, Any

from handrail_contracts.agents import IDEMPOTENCY_KEY
from handrail_contracts.steps import StepRequested
from handrail_contracts.tracing import traceparent

from handrail_agent_runner.agents.base import AgentFailure, Progress
from handrail_agent_runner.mcp.links import BUSY, CONNECTION_CLOSED, LOST, REFUSED, UNREACHABLE, is_forgotten

if TYPE_CHECKING:  # importing it takes half a second
    from mcp import Client, MCPError
    from mcp_types import CallToolResult

INVALID_PARAMS = -32602

PROGRESS_SECONDS = 0.2
"""What a tool says of its progress is told at most so often, however often it says something."""


async def ask(client: "Client", tool: str, request: StepRequested, news: Progress) -> "CallToolResult":
    """Not by `call_tool`, which holds the result to the server's own schema: its patterns could stop the whole runner."""
    from mcp_types import CallToolRequest, CallToolRequestParams, CallToolResult, RequestParamsMeta

    told = 0.0

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        nonlocal told
        if time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            news("progress", {"done": progress, "total": total, "message": (message or "")[:500]})

    marks: Any = {IDEMPOTENCY_KEY: request.run_id, "traceparent": traceparent(request.execution_id, request.event_id)}
    meta: RequestParamsMeta = marks
    params = CallToolRequestParams(name=tool, arguments=request.input, _meta=meta)
    return await client.session.send_request(CallToolRequest(params=params), CallToolResult, progress_callback=tell)


def output_of(tool: str, result: "CallToolResult") -> Any:
    """The structured content if there is any, else the text, else the parts as they are."""
    texts = [part.text for part in result.content if part.type == "text"]
    if result.is_error:
        said = "\n".join(texts) or "it does not say why"
        raise AgentFailure("TOOL_ERROR", f"tool {tool} failed: {said}", retryable=True)
    if result.structured_content is not None:
        return result.structured_content
    if texts or not result.content:
        return "\n".join(texts)
    return [part.model_dump(mode="json", by_alias=True, exclude_none=True) for part in result.content]


def lost(code: str, tool: str, how: str, repeatable: bool) -> AgentFailure:
    """Of a call that was made and has no answer: tried again if the tool can bear that, else settled by a person."""
    message = f"tool {tool} did not answer {how}"
    if repeatable:
        return AgentFailure(code, message, retryable=True)
    look = "look whether it did, then retry the step, or skip it with the output that it should have"
    told = f"{message}, and nobody knows whether the call took effect; {look}"
    return AgentFailure("OUTCOME_UNKNOWN", told, retryable=False)


def failure_of(tool: str, error: "MCPError", *, repeatable: bool) -> AgentFailure:
    """A JSON-RPC error in our codes."""
    said = error.message
    match error.code:
        case _ if error.code == UNREACHABLE or is_forgotten(error):
            return AgentFailure("TOOL_ERROR", f"tool {tool} was not called: {said}", retryable=True)
        case code if code in (LOST, CONNECTION_CLOSED):
            return lost("TOOL_ERROR", tool, f"({said})", repeatable)
        case code if code == BUSY:
            return AgentFailure("RATE_LIMIT", f"tool {tool} was not called: {said}", retryable=True)
        case code if code == INVALID_PARAMS:
            return AgentFailure("VALIDATION_ERROR", f"tool {tool} can't be called so: {said}", retryable=False)
        case code if code == REFUSED:
            return AgentFailure("TOOL_ERROR", f"tool {tool} was not called: {said}", retryable=False)
        case _:
            return AgentFailure("TOOL_ERROR", f"tool {tool} failed: {said}", retryable=repeatable)
