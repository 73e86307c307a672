"""Native tools: found by name, called by name, and wrong calls told as what they are."""

from pathlib import Path
from typing import Any

import pytest
import support
from handrail_agent_runner.agents import AgentFailure
from handrail_agent_runner.agents.base import Progress
from handrail_agent_runner.native_tools import parse_csv
from handrail_agent_runner.tools import parameters_schema
from unit.agent_runner.builders import request, toolbox


async def call(tool: str, **arguments: Any) -> Any:
    wish = request(kind="tool", agent=tool, input=arguments)
    return await toolbox().agent(tool).execute(wish, Progress(lambda kind, data: None))


async def test_a_tool_is_called_by_the_names_of_its_parameters() -> None:
    assert await call("word_count", text="two words") == {"characters": 9, "words": 2, "lines": 1}
    assert await call("parse_csv", text="a;b\n1;2", delimiter=";") == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "told"),
    [
        ("word_cuont", {}, "TOOL_ERROR", "there is no tool 'word_cuont'; there are parse_csv, parse_json, word_count"),
        ("files:read", {}, "TOOL_ERROR", "there is no server 'files'; register it (PUT /api/v1/mcps/files)"),
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


async def test_what_may_be_called_again_is_known_and_its_key_is_the_runners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(support.__path__[0]) / "extension"))
    book, charge, count = [await toolbox().tool(name, request()) for name in ("book", "charge", "word_count")]
    assert (book.repeatable, charge.repeatable, count.repeatable) == (True, False, True)
    assert list(book.parameters["properties"]) == book.parameters["required"] == ["room"]
    changed: list[tuple[str, ...]] = []
    monkeypatch.setattr("handrail_test_tools._change", lambda *told: changed.append(told))
    wish = request(kind="tool", agent="book")
    await book.call({"room": "12"}, wish, Progress(lambda kind, data: None))
    assert changed == [("book", "12", wish.run_id)]


def test_its_parameters_have_a_schema() -> None:
    assert parameters_schema(parse_csv)["properties"]["delimiter"] == {
        "default": ",",
        "title": "Delimiter",
        "type": "string",
    }
