"""Answers written straight from rows: JSON columns pass through as they are, times end in Z."""

from typing import Any

import orjson
from starlette.responses import JSONResponse

from handrail_gateway.database import Row


class Answer(JSONResponse):
    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC)


def renamed(row: Row, identifier: str, *drop: str) -> dict[str, Any]:
    """The row with its identifying column as `id`, and without the columns that are nobody's business."""
    return {"id": row[identifier]} | {name: row[name] for name in row if name != identifier and name not in drop}


def parsed(column: Any) -> Any:
    """The value of a JSON column."""
    return None if column is None else orjson.loads(column.contents)
