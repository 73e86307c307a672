"""Answers written straight from rows: JSON columns pass through as they are, times end in Z."""

from typing import Any

import orjson
from starlette.responses import JSONResponse

from handrail_gateway.database import Json, Row


class Answer(JSONResponse):
    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, as_it_is, orjson.OPT_UTC_Z)


def as_it_is(value: Any) -> orjson.Fragment:
    """For orjson: a JSON column goes out as it came in."""
    if not isinstance(value, Json):
        raise TypeError(f"no way to write a {type(value).__name__}")
    return orjson.Fragment(value.text)


def renamed(row: Row, identifier: str, *drop: str) -> dict[str, Any]:
    """The row with its identifying column as `id`, and without the columns that are nobody's business."""
    return {"id": row[identifier]} | {name: row[name] for name in row if name != identifier and name not in drop}


def parsed(column: Json | None) -> Any:
    """The value of a JSON column."""
    return None if column is None else orjson.loads(column.text)
