"""Cursors: where a page ended, as an opaque text. They hold only sort keys, so a forged one reveals nothing."""

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Query

from handrail_gateway.problems import invalid

T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=200, description="how many at most")]
CursorText = Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before")]


def encode_cursor(*keys: datetime | str | int) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(keys)).decode().rstrip("=")


def decode_cursor(text: str | None, *types: type) -> list[Any]:
    """The sort keys of a cursor, or None for each of them without one. Raises a 422 problem for anything else."""
    if text is None:
        return [None] * len(types)
    try:
        raw = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        keys = [datetime.fromisoformat(key) if kind is datetime else key for kind, key in zip(types, raw, strict=True)]
    except (ValueError, TypeError, binascii.Error):
        keys = []
    if not keys or not all(map(_usable, types, keys)):
        raise invalid(
            "The cursor is none of ours.", [{"path": "query.cursor", "message": "use `next_cursor` as it was"}]
        )
    return keys


def _usable(kind: type, key: object) -> bool:
    return type(key) is kind and (not isinstance(key, datetime) or key.tzinfo is not None)


def page(
    rows: Sequence[T], limit: int, keys: Callable[[T], Sequence[datetime | str | int]]
) -> tuple[list[T], str | None]:
    """Cuts what was read (`limit` + 1 rows at most) to a page and the cursor of the next one."""
    if len(rows) <= limit:
        return list(rows), None
    kept = list(rows[:limit])
    return kept, encode_cursor(*keys(kept[-1]))
