"""The rules of change within a version, each with a change that breaks it."""

from typing import Annotated, Any, Literal

import pytest
from handrail_contracts.compatibility import incompatibilities
from handrail_contracts.schemas import schema_of, versions
from pydantic import BaseModel, Field, create_model


class Opened(BaseModel):
    type: Literal["opened"]
    by: str


class Closed(BaseModel):
    type: Literal["closed"]
    reason: str = ""


class Closed2(BaseModel):
    type: Literal["closed"]
    reason: int = 0


class Reopened(BaseModel):
    type: Literal["reopened"]


Two = Annotated[Opened | Closed, Field(discriminator="type")]
Three = Annotated[Opened | Closed | Reopened, Field(discriminator="type")]
Retyped = Annotated[Opened | Closed2, Field(discriminator="type")]
FIELDS: dict[str, Any] = {
    "id": (str, ...),
    "count": (Annotated[int, Field(ge=0, le=10)], 0),
    "status": (Literal["on", "off"], "on"),
    "note": (str | None, None),
    "events": (tuple[Two, ...], ()),
    "labels": (dict[str, str], {}),
    "pairs": (tuple[tuple[str, int], ...], ()),
}


def schema(**changes: Any) -> dict[str, Any]:
    fields = {name: field for name, field in (FIELDS | changes).items() if field is not None}
    model: type[BaseModel] = create_model("Message", **fields)
    return model.model_json_schema()


ALLOWED = {
    "an optional field more": {"extra": (str, "")},
    "a value more": {"status": (Literal["on", "off", "paused"], "on")},
    "a kind of event more": {"events": (tuple[Three, ...], ())},
    "wider bounds": {"count": (Annotated[int, Field(ge=-5, le=100)], 0)},
    "no bounds": {"count": (int, 0)},
}
REFUSED = {
    "a required field more": ({"extra": (str, ...)}, "extra: became required; earlier messages do not have it"),
    "a field becomes required": ({"note": (str | None, ...)}, "note: became required"),
    "a field is no longer required": ({"id": (str, "")}, "id: is no longer required"),
    "a field removed": ({"note": None}, "note: was removed"),
    "a field retyped": ({"id": (int, ...)}, "id: type was 'string' and is 'integer'"),
    "null no longer taken": ({"note": (str, None)}, "note: was one of several kinds"),
    "a value removed": ({"status": (Literal["on"], "on")}, "status: 'off' is no longer a value"),
    "values narrowed": ({"id": (Literal["a"], ...)}, "id: any value was good, and now only ['a']"),
    "a bound tightened below": ({"count": (Annotated[int, Field(ge=1, le=10)], 0)}, "count: minimum rose to 1"),
    "a bound tightened above": ({"count": (Annotated[int, Field(ge=0, le=9)], 0)}, "count: maximum fell to 9"),
    "a bound added": ({"id": (Annotated[str, Field(max_length=5)], ...)}, "id: maxLength fell to 5"),
    "another default": ({"count": (Annotated[int, Field(ge=0, le=10)], 1)}, "count: default was 0 and is 1"),
    "an event removed": ({"events": (tuple[Opened, ...], ())}, "events[]: was one of several kinds"),
    "an event's field retyped": ({"events": (tuple[Retyped, ...], ())}, "events[]<closed>.reason: type was"),
    "values of a map retyped": ({"labels": (dict[str, int], {})}, "labels[]: type was 'string'"),
    "a place retyped": ({"pairs": (tuple[tuple[str, str], ...], ())}, "pairs[][1]: type was 'integer'"),
    "a place more": ({"pairs": (tuple[tuple[str, int, int], ...], ())}, "pairs[]: had 2 places and has 3"),
}


def test_a_schema_may_replace_itself() -> None:
    assert incompatibilities(schema(), schema()) == []


@pytest.mark.parametrize("changes", ALLOWED.values(), ids=ALLOWED)
def test_an_allowed_change_passes(changes: dict[str, Any]) -> None:
    assert schema(**changes) != schema()
    assert incompatibilities(schema(), schema(**changes)) == []


@pytest.mark.parametrize("changes, said", REFUSED.values(), ids=REFUSED)
def test_a_forbidden_change_is_named(changes: dict[str, Any], said: str) -> None:
    found = incompatibilities(schema(), schema(**changes))
    assert any(sentence.startswith(said) for sentence in found), found


@pytest.mark.parametrize("name, number", sorted(versions()))
def test_losing_any_field_of_any_message_is_noticed(name: str, number: int) -> None:
    released = schema_of(name, number)
    for field in released["properties"]:
        without = {key: value for key, value in released["properties"].items() if key != field}
        assert incompatibilities(released, {**released, "properties": without}) == [f"{field}: was removed"]
