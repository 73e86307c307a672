"""How values travel in messages of the A2A protocol, the same both ways. Parts are in their JSON form. Pure."""

import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from handrail_contracts.envelope import JsonObject

JSON_TYPE = "application/json"
EXACT = 2**53
"""The protocol's numbers are doubles: whole ones beyond this would not arrive as they left."""
DEEPEST = 20
"""Levels of a value; the protocol's libraries refuse data at about 30."""

DEPTH = "a2a_depth"
"""In a message's metadata, and in the context of the execution that it starts: how many agents have called one another."""
DEEPEST_CALLS = 8


def parts_of(value: Any) -> list[JsonObject]:
    """A text as a text part, else a data part; JSON as text where data could not carry it unchanged."""
    if isinstance(value, str):
        return [{"text": value}]
    if _fits(value):
        return [{"data": value}]
    return [{"text": json.dumps(value, ensure_ascii=False), "mediaType": JSON_TYPE}]


def value_of(parts: Iterable[Mapping[str, Any]]) -> Any:
    """The value of the only part; of several, a list; None of none. Texts side by side are one: chunks of a stream.

    A file is an object with `url`, or `raw` in base64.
    """
    values: list[Any] = []
    for plain, group in groupby(parts, _is_plain_text):
        found = list(group)
        values += ["".join(part["text"] for part in found)] if plain else map(_value, found)
    return values[0] if len(values) == 1 else values or None


def text_of(parts: Iterable[Mapping[str, Any]]) -> str:
    """What a person can read of it."""
    return "".join(part["text"] for part in parts if "text" in part)


def _is_plain_text(part: Mapping[str, Any]) -> bool:
    return "text" in part and part.get("mediaType") != JSON_TYPE


def _value(part: Mapping[str, Any]) -> Any:
    if "data" in part:
        return _narrowed(part["data"])
    if "text" not in part:
        return {name: part[name] for name in ("url", "raw", "filename", "mediaType") if part.get(name)}
    try:
        return json.loads(part["text"])
    except ValueError:
        return part["text"]


def _narrowed(value: Any) -> Any:
    """Whole numbers come back as doubles."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return int(value)
    if isinstance(value, dict):
        return {name: _narrowed(item) for name, item in value.items()}
    return [_narrowed(item) for item in value] if isinstance(value, list) else value


def _fits(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        if any(isinstance(item, int) and abs(item) > EXACT for item in level):
            return False
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return True
    return False
