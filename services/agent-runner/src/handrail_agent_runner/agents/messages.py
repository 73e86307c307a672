"""Between what a conversation is to us and what it is to pydantic-ai, which is imported when it is first needed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from handrail_contracts.envelope import JsonObject
from handrail_contracts.steps import ToolResult

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelRequestPart, ModelResponse, ToolCallPart


def conversation_of(given: Any, instructions: str | None) -> "list[ModelMessage]":
    """What the model is told: of a chat what was said before in its session, then what is said now."""
    from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart

    said: list[ModelMessage] = []
    chat = isinstance(given, dict) and "current_message" in given
    for entry in given.get("history") or () if chat else ():
        text = prompt_of(entry.get("content") if isinstance(entry, dict) else entry)
        if isinstance(entry, dict) and entry.get("role") == "assistant":
            said.append(ModelResponse(parts=[TextPart(text)]))
        else:
            said.append(ModelRequest(parts=[UserPromptPart(text)], instructions=instructions))
    prompt = prompt_of(given["current_message"] if chat else given)
    return [*said, ModelRequest(parts=[UserPromptPart(prompt)], instructions=instructions)]


def prompt_of(given: Any) -> str:
    """What the model is told: text as it is, an object's `prompt` or `message` if that is all of it, else JSON."""
    if isinstance(given, str):
        return given
    if isinstance(given, dict) and len(given) == 1:
        for key in ("prompt", "message", "text", "input"):
            if isinstance(given.get(key), str):
                return str(given[key])
    return orjson.dumps(given, option=orjson.OPT_INDENT_2).decode()


def arguments_of(call: "ToolCallPart") -> dict[str, Any]:
    """Raises `ValueError` if they are no JSON object."""
    if isinstance(call.args, Mapping):
        return dict(call.args)
    found = orjson.loads(call.args or "{}")
    if not isinstance(found, dict):
        raise ValueError("arguments have to be an object")
    return found


def written(response: "ModelResponse") -> JsonObject:
    """A model's message as it is kept; `message_of` gives it back."""
    from pydantic_ai.messages import ModelMessagesTypeAdapter

    kept: list[JsonObject] = ModelMessagesTypeAdapter.dump_python([response], mode="json")
    return kept[0]


def message_of(said: JsonObject) -> "ModelResponse":
    from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelResponse

    [message] = ModelMessagesTypeAdapter.validate_python([said])
    assert isinstance(message, ModelResponse)
    return message


def heard(call: "ToolCallPart", result: ToolResult) -> "ModelRequestPart":
    from pydantic_ai.messages import ToolReturnPart

    name, call_id = call.tool_name, call.tool_call_id
    if result.error:
        return ToolReturnPart(tool_name=name, content=result.error, tool_call_id=call_id, outcome="retried")
    return ToolReturnPart(tool_name=name, content=result.content, tool_call_id=call_id)


def corrections(wrong: str, final: "ToolCallPart | None", calls: "Sequence[ToolCallPart]") -> "list[ModelRequestPart]":
    """Every call has to be answered, or the provider refuses the conversation."""
    from pydantic_ai.messages import ToolReturnPart, UserPromptPart

    if final is None:
        return [UserPromptPart(wrong)]
    return [
        ToolReturnPart(tool_name=call.tool_name, content=wrong, tool_call_id=call.tool_call_id, outcome="retried")
        if call is final
        else ToolReturnPart(tool_name=call.tool_name, content="not called", tool_call_id=call.tool_call_id)
        for call in calls
    ]
