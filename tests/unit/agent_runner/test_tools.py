"""Native tools: found by name, called by name, and wrong calls told as what they are."""

from typing import Any

import pytest
from handrail_agent_runner.agents import AgentFailure
from handrail_agent_runner.agents.base import Progress
from handrail_agent_runner.native_tools import parse_csv
from handrail_agent_runner.tools import parameters_schema, tool_of
from unit.agent_runner.builders import SETTINGS, request


async def call(tool: str, **arguments: Any) -> Any:
    wish = request(kind="tool", agent=tool, input=arguments)
    return await tool_of(wish, SETTINGS).execute(wish, Progress(lambda kind, data: None))


async def test_a_tool_is_called_by_the_names_of_its_parameters() -> None:
    assert await call("word_count", text="two words") == {"characters": 9, "words": 2, "lines": 1}
    assert await call("parse_csv", text="a;b\n1;2", delimiter=";") == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "told"),
    [
        ("word_cuont", {}, "TOOL_ERROR", "there is no tool 'word_cuont'; there are parse_csv, parse_json, word_count"),
        ("files:read", {}, "TOOL_ERROR", "no tool server is registered"),
        ("word_count", {}, "VALIDATION_ERROR", "missing a required argument: 'text'"),
        ("word_count", {"text": "a", "colour": 1}, "VALIDATION_ERROR", "unexpected keyword argument 'colour'"),
        ("word_count", {"text": [1]}, "VALIDATION_ERROR", "text: Input should be a valid string"),
    ],
)
async def test_a_wrong_call_says_what_is_wrong(tool: str, arguments: dict[str, Any], code: str, told: str) -> None:
    with pytest.raises(AgentFailure) as caught:
        await call(tool, **arguments)
    assert caught.value.info.code == code
    assert told in caught.value.info.message


async def test_what_a_tool_itself_raises_is_its_own_failure() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        await call("parse_json", text="no json")


def test_its_parameters_have_a_schema() -> None:
    assert parameters_schema(parse_csv)["properties"]["delimiter"] == {
        "default": ",",
        "title": "Delimiter",
        "type": "string",
    }
