"""Whatever lies in a topic, reading it gives a message or a `DecodeError` with the right code. Nothing else, ever."""

import json
import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from handrail_contracts.codec import DecodeError, cloud_event_headers, decode, encode, messages_of
from handrail_contracts.envelope import Message
from handrail_contracts.topics import WORKFLOW_STARTED, catalogue
from handrail_contracts.tracing import traceparent
from handrail_contracts.workflows import WorkflowStarted
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from contracts.contract_files import EXAMPLES, Example

CODES = {"MALFORMED_JSON", "UNKNOWN_EVENT_TYPE", "UNSUPPORTED_VERSION", "INVALID_MESSAGE"}
TOPICS = st.sampled_from(sorted(catalogue()))
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def read(topic: str, value: bytes | None) -> Any:
    """The message, or the code of the refusal."""
    try:
        message = decode(topic, value)
    except DecodeError as error:
        assert error.code in CODES
        assert 0 < len(str(error)) < 2000, "a reason for people, not a copy of the record"
        return error.code
    assert isinstance(message, messages_of(topic))
    return message


@settings(max_examples=500, deadline=None)
@given(TOPICS, st.binary(max_size=200))
def test_any_bytes(topic: str, value: bytes) -> None:
    assert read(topic, value) in ("MALFORMED_JSON", "UNKNOWN_EVENT_TYPE", "INVALID_MESSAGE")


@settings(max_examples=500, deadline=None)
@given(TOPICS, JSON)
@example("workflow.started", {"event_type": []})
@example("workflow.started", {"event_type": "workflow.started", "schema_version": [1]})
@example("execution.events", {"schema_version": []})
@example("execution.events", {"schema_version": {}, "at": 1})
def test_any_json(topic: str, value: Any) -> None:
    read(topic, json.dumps(value).encode())


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """An example with some values replaced, removed or added."""
    chosen: Example = draw(st.sampled_from(EXAMPLES))
    whole = json.loads(chosen.value)
    for _ in range(draw(st.integers(1, 3))):
        place = whole
        while True:
            names = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not names:
                break
            name = draw(st.sampled_from(names))
            if isinstance(place[name], dict | list) and draw(st.booleans()):
                place = place[name]
                continue
            if draw(st.booleans()):
                place[name] = draw(JSON)
            else:
                del place[name]
            break
    return chosen.topic, json.dumps(whole).encode()


@settings(max_examples=3000, deadline=None)
@given(damaged())
def test_any_damage(chosen: tuple[str, bytes]) -> None:
    found = read(*chosen)
    event(found if isinstance(found, str) else "still a message")


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(EXAMPLES), st.data())
def test_a_record_that_was_cut_short(chosen: Example, data: st.DataObject) -> None:
    value = chosen.value.rstrip()
    assert read(chosen.topic, value[: data.draw(st.integers(0, len(value) - 1))]) == "MALFORMED_JSON"


@settings(max_examples=500, deadline=None)
@given(JSON, st.dictionaries(st.text(max_size=8), JSON, max_size=3), st.text(min_size=1, max_size=200))
def test_payloads_come_back_as_they_were(payload: Any, context: dict[str, Any], execution_id: str) -> None:
    message = WorkflowStarted(
        event_id="e",
        occurred_at=datetime(2026, 2, 18, 10, 30, tzinfo=UTC),
        execution_id=execution_id,
        workflow_id="w",
        input=payload,
        context=context,
    )
    again = decode(WORKFLOW_STARTED, encode(message))
    assert again == message
    assert encode(again) == encode(message)


STARTED = {
    "event_type": "workflow.started",
    "schema_version": 2,
    "event_id": "e-1",
    "occurred_at": "2026-02-18T10:30:00Z",
    "execution_id": "order-4711",
    "workflow_id": "refunds",
}


def started(**changes: Any) -> bytes:
    return json.dumps({name: value for name, value in (STARTED | changes).items() if value is not ...}).encode()


REFUSALS = {
    "no value": (None, "MALFORMED_JSON", "has no value"),
    "nothing": (b"", "MALFORMED_JSON", "is not JSON"),
    "text": (b"hello", "MALFORMED_JSON", "is not JSON"),
    "not UTF-8": (b'{"event_type": "\xff"}', "MALFORMED_JSON", "is not JSON"),
    "a list": (b"[1]", "MALFORMED_JSON", "is list, not a JSON object"),
    "nested too deep": (b"[" * 100_000, "MALFORMED_JSON", "is not JSON"),
    "no type": (started(event_type=..., workflow_id=...), "UNKNOWN_EVENT_TYPE", "this record says None"),
    "another type": (started(event_type="workflow.paused"), "UNKNOWN_EVENT_TYPE", "'workflow.paused'"),
    "a type that is a list": (started(event_type=["a"]), "UNKNOWN_EVENT_TYPE", "['a']"),
    "a huge type": (started(event_type="x" * 500_000), "UNKNOWN_EVENT_TYPE", "carries workflow.started"),
    "a version to come": (started(schema_version=3), "UNSUPPORTED_VERSION", "versions 1 to 2; this record says 3"),
    "version 0": (started(schema_version=0), "UNSUPPORTED_VERSION", "says 0"),
    "a version in words": (started(schema_version="two"), "UNSUPPORTED_VERSION", "'two'"),
    "a version that is a list": (started(schema_version=[2]), "UNSUPPORTED_VERSION", "[2]"),
    "a field missing": (started(workflow_id=...), "INVALID_MESSAGE", "workflow_id: Field required"),
    "an empty id": (started(execution_id=""), "INVALID_MESSAGE", "execution_id: "),
    "an endless id": (started(execution_id="x" * 201), "INVALID_MESSAGE", "execution_id: "),
    "a time without an offset": (started(occurred_at="2026-02-18T10:30:00"), "INVALID_MESSAGE", "occurred_at: "),
    "a time that is none": (started(occurred_at="soon"), "INVALID_MESSAGE", "occurred_at: "),
    "a context that is a list": (started(context=[]), "INVALID_MESSAGE", "context: "),
    "version 1 without a time": (started(schema_version=1), "INVALID_MESSAGE", "occurred_at: "),
}


@pytest.mark.parametrize("value, code, said", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_says_why(value: bytes | None, code: str, said: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        decode(WORKFLOW_STARTED, value)
    assert refusal.value.code == code
    assert said in str(refusal.value)
    assert WORKFLOW_STARTED in str(refusal.value)


def test_a_journal_of_a_later_release_is_not_folded_as_if_it_were_ours() -> None:
    with pytest.raises(DecodeError, match=r"execution\.events has versions 1 to 1; this record says 2") as refusal:
        decode("execution.events", b'{"schema_version": 2, "at": "2026-02-18T10:30:00Z"}')
    assert refusal.value.code == "UNSUPPORTED_VERSION"


def test_fields_of_a_later_release_are_ignored() -> None:
    assert decode(WORKFLOW_STARTED, started(colour="blue")) == decode(WORKFLOW_STARTED, started())


def test_numbers_stand_for_ids_of_people() -> None:
    """Seed data names users by number; ids are text here."""
    assert decode(WORKFLOW_STARTED, started(user_id=42)).user_id == "42"


@pytest.mark.parametrize("chosen", EXAMPLES, ids=str)
def test_headers_carry_the_cloud_event(chosen: Example) -> None:
    message = decode(chosen.topic, chosen.value)
    if not isinstance(message, Message):
        return
    headers = dict(cloud_event_headers(message, "/handrail/gateway"))
    assert headers["ce_id"].decode() == message.event_id
    assert headers["ce_type"].decode() == message.event_type  # type: ignore[attr-defined]
    assert headers["ce_source"] == b"/handrail/gateway"


def test_all_messages_of_an_execution_share_the_trace_that_its_id_names() -> None:
    execution, first, second = str(uuid4()), str(uuid4()), str(uuid4())
    contexts = [traceparent(execution, event).split("-") for event in (first, second)]
    assert [context[1] for context in contexts] == [execution.replace("-", "")] * 2
    assert contexts[0][2] != contexts[1][2]


@pytest.mark.parametrize("odd", ["order/4711", "", "0" * 32, "1_" * 16, "ä", "x" * 500])
def test_any_id_gives_a_trace_context_that_the_standard_allows(odd: str) -> None:
    assert re.fullmatch("00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-01", traceparent(odd, odd))
