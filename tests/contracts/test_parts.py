"""Values on their way through messages of the A2A protocol."""

from typing import Any

import pytest
from a2a.types import Part
from google.protobuf.json_format import MessageToDict, ParseDict
from handrail_contracts.parts import parts_of, text_of, value_of
from hypothesis import example, given
from hypothesis import strategies as st

LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    LEAVES | st.text(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"in": [value]}
    return value


@given(VALUES)
@example(2**53 + 1)
@example({"deep": nested(100)})
@example([])
@example("")
def test_a_value_arrives_as_it_left(value: Any) -> None:
    wire = [MessageToDict(ParseDict(part, Part())) for part in parts_of(value)]
    assert value_of(wire) == value


@pytest.mark.parametrize(
    ("parts", "value"),
    [
        ([], None),
        ([{"text": "a"}, {"text": "b"}], "ab"),
        ([{"text": "a"}, {"data": {"n": 1.0}}, {"text": "b"}], ["a", {"n": 1}, "b"]),
        ([{"data": [1.0]}], [1]),
        ([{"text": "{}", "mediaType": "application/json"}], {}),
        ([{"text": "{", "mediaType": "application/json"}], "{"),
        ([{"url": "https://x/y.pdf", "mediaType": "application/pdf"}],
         {"url": "https://x/y.pdf", "mediaType": "application/pdf"}),
        ([{"raw": "AAE=", "filename": "f"}], {"raw": "AAE=", "filename": "f"}),
    ],
)  # fmt: skip
def test_parts_of_others_have_a_value_too(parts: list[Any], value: Any) -> None:
    assert value_of(parts) == value


def test_people_read_the_texts() -> None:
    assert text_of([{"text": "a"}, {"data": 1}, {"text": "b"}]) == "ab"
