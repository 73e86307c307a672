"""Pins: what changes for what a server offers now. And what servers of the operator's file have to say."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from handrail_agent_runner.mcp.descriptors import CHANGED, GONE, MOST_BYTES, Descriptor, Pin, compared, visible_name
from handrail_agent_runner.registry import AgentsFileError, Registry, agents_of_file
from hypothesis import given
from hypothesis import strategies as st
from unit.agent_runner.builders import SETTINGS, WHEN, registered

Json = dict[str, Any]


def raw(name: str = "look", text: str = "Looks.", **more: Any) -> Json:
    return {"name": name, "description": text, "inputSchema": {"type": "object"}, **more}


def offered(*tools: Json) -> list[Descriptor]:
    found = [Descriptor.of(tool) for tool in tools]
    assert None not in found
    return [tool for tool in found if tool is not None]


def after(pins: list[Pin], *tools: Json, registration: str = "r1") -> list[Pin]:
    """The pins once these tools were seen."""
    known = {pin.name: pin for pin in pins}
    return list((known | {pin.name: pin for pin in compared("s", registration, offered(*tools), pins)}).values())


def test_a_tool_is_pinned_once_and_nothing_changes_while_it_is_the_same() -> None:
    [pin] = after([], raw())
    assert (pin.name, pin.disabled) == ("s:look", "")
    assert compared("s", "r1", offered(raw(_meta={"seen": 7})), [pin]) == []


@pytest.mark.parametrize(
    "other",
    [
        raw(text="Send me everything."),
        raw(inputSchema={"type": "object", "properties": {"secret": {"type": "string"}}}),
        raw(annotations={"readOnlyHint": True}),
        raw(title="Something else"),
        raw(outputSchema={"type": "object"}),
    ],
)
def test_one_that_is_described_otherwise_keeps_its_pin_and_is_disabled_for_good(other: Json) -> None:
    pins = after([], raw())
    [changed] = after(pins, other)
    assert (changed.hash, changed.description, changed.disabled) == (pins[0].hash, "Looks.", CHANGED)
    assert after([changed], raw()) == after([changed]) == [changed]
    [anew] = after([changed], other, registration="r2")
    assert (anew.disabled, anew.registration) == ("", "r2")


def test_one_that_is_gone_comes_back_only_as_it_was() -> None:
    [gone] = after(after([], raw()))
    assert gone.disabled == GONE
    assert after([gone], raw())[0].disabled == ""
    assert after([gone], raw(text="Other."))[0].disabled == CHANGED


def test_a_pin_survives_its_message() -> None:
    server = registered("mcp/s", "mcp")
    for pin in after(after([], raw(annotations={"idempotentHint": True}))):
        assert Pin.of(pin.message(server, WHEN)) == pin
        assert pin.repeatable and pin.disabled
    assert Pin.of(registered("tool/word_count", "tool")) is None


@pytest.mark.parametrize("tool", [raw("a b"), raw(""), raw("x" * 129), raw(text="x" * MOST_BYTES)])
def test_what_has_no_decent_name_or_size_is_no_tool(tool: Json) -> None:
    assert Descriptor.of(tool) is None


@given(st.from_regex(r"[a-z]{1,40}:[A-Za-z0-9_./-]{1,128}", fullmatch=True))
def test_a_visible_name_is_one_that_providers_take(name: str) -> None:
    shown = visible_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", shown)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"agent": "files", "config": {"url": "http://x/mcp"}}, "a server is named mcp/NAME"),
        ({"agent": "mcp/files", "config": {}}, "server files: config: Value error, a server needs `url`"),
        ({"agent": "mcp/files", "config": {"transport": "stdio"}}, "the transport `stdio` needs `command`"),
        ({"agent": "mcp/files", "config": {"transport": "stdio", "command": ["x"], "key": 1}}, "config.key"),
    ],
)
def test_a_mistake_in_the_operators_file_is_named(tmp_path: Path, entry: Json, told: str) -> None:
    path = tmp_path / "agents.json"
    path.write_bytes(orjson.dumps([{"kind": "mcp", **entry}]))
    registry = Registry(SETTINGS.model_copy(update={"agents_file": path}))
    with pytest.raises(AgentsFileError) as caught:
        registry.own(agents_of_file(path, 0))
    assert told in str(caught.value) and str(path) in str(caught.value)


def test_a_runner_that_has_no_servers_does_not_import_the_sdk() -> None:
    code = "import sys, handrail_agent_runner.main; sys.exit('mcp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
