"""A stranger reads the published schema and writes workflow.started with it: no code of ours is involved."""

import json
from typing import Any

import pytest
from handrail_contracts.codec import DecodeError, decode
from handrail_contracts.topics import WORKFLOW_STARTED
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

from contracts.contract_files import CONTRACTS

SCHEMA: dict[str, Any] = json.loads((CONTRACTS / "schemas/WorkflowStarted.v2.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=FormatChecker())


def fill(schema: dict[str, Any]) -> Any:
    """The least that the schema lets a field say."""
    if "$ref" in schema:
        return fill(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    if "const" in schema:
        return schema["const"]
    if schema.get("format") == "date-time":
        return "2026-02-18T10:30:00Z"
    match schema.get("type"):
        case "string":
            return "x" * schema.get("minLength", 0)
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "array":
            return []
        case "object":
            return {name: fill(schema["properties"][name]) for name in schema.get("required", ())}
    return None


def valid(message: Any) -> bool:
    return VALIDATOR.is_valid(message)


def test_the_least_message_is_taken() -> None:
    message = fill(SCHEMA)
    VALIDATOR.validate(message)
    decoded = decode(WORKFLOW_STARTED, json.dumps(message).encode())
    assert (decoded.execution_id, decoded.workflow_id, decoded.input) == ("x", "x", None)


def test_the_fullest_message_is_taken() -> None:
    message = {name: fill(field) for name, field in SCHEMA["properties"].items()}
    VALIDATOR.validate(message)
    assert (
        decode(WORKFLOW_STARTED, json.dumps(message).encode()).schema_version
        == SCHEMA["properties"]["schema_version"]["const"]
    )


@pytest.mark.parametrize("name", SCHEMA["required"])
def test_every_required_field_is_asked_for(name: str) -> None:
    message = fill(SCHEMA)
    del message[name]
    with pytest.raises(ValidationError, match=name):
        VALIDATOR.validate(message)


@pytest.mark.parametrize("name", ["event_id", "occurred_at", "execution_id", "workflow_id"])
def test_readers_refuse_what_the_schema_refuses(name: str) -> None:
    message = fill(SCHEMA)
    del message[name]
    with pytest.raises(DecodeError) as refusal:
        decode(WORKFLOW_STARTED, json.dumps(message).encode())
    assert refusal.value.code == "INVALID_MESSAGE"


FIELDS = {
    "event_id": st.text(max_size=250),
    "execution_id": st.text(max_size=250) | st.none(),
    "workflow_id": st.text(max_size=250),
    "workflow_version": st.integers(-2, 5) | st.none(),
    "input": st.none() | st.text() | st.lists(st.integers()) | st.dictionaries(st.text(), st.booleans()),
    "context": st.dictionaries(st.text(), st.integers()) | st.lists(st.integers(), max_size=2),
    "session_id": st.text() | st.none() | st.lists(st.text(), max_size=1),
    "user_id": st.text(),
    "metadata": st.fixed_dictionaries(
        {}, optional={"task_count": st.integers() | st.text(), "agents_used": st.lists(st.text())}
    ),
}


@settings(max_examples=1000, deadline=None)
@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_what_the_schema_takes_the_reader_takes(changes: dict[str, Any]) -> None:
    message = fill(SCHEMA) | changes
    if valid(message):
        decode(WORKFLOW_STARTED, json.dumps(message).encode())
