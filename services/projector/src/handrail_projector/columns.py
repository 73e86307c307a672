"""What the columns of the read models can hold: values of messages as such, or the reason why not."""

from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic_core import to_json

Row = tuple[Any, ...]
INTEGER_LIMIT = 2**31
NUL = b"\\u0000"


class Unreadable(Exception):
    """A record that is not what its contract says, or that no table can hold. `code` says which, for its dead letter."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def as_text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"text was expected, not {value!r:.100}")
    return value


def as_optional_text(value: Any) -> str | None:
    return None if value is None else as_text(value)


def as_count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < INTEGER_LIMIT:
        raise ValueError(f"a count below {INTEGER_LIMIT} was expected, not {value!r:.100}")
    return value


def as_time(text: str) -> datetime:
    return as_moment(datetime.fromisoformat(text))


def as_moment(at: datetime) -> datetime:
    """Raises for a time without an offset, and for one that is in no year of UTC."""
    if at.tzinfo is UTC:
        return at
    if at.tzinfo is None:
        raise ValueError(f"a time with an offset was expected, not {at}")
    return at.astimezone(UTC)


def as_optional_time(text: str | None) -> datetime | None:
    return None if text is None else as_time(text)


def as_json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def as_foreign_json(value: Any) -> str:
    """Of a value that anybody may have published: numbers of any size, and what is no number as null."""
    return to_json(value, inf_nan_mode="null").decode()


def source_of(record: Any) -> str:
    source = record.get("source")
    return "" if source is None else as_text(source["topic"])


def storable(value: bytes | None) -> bytes | None:
    return value if value is None or NUL not in value else orjson.dumps(without_nul(orjson.loads(value)))


def without_nul(value: Any) -> Any:
    """PostgreSQL's text has no NUL: readers see U+FFFD there. The history keeps what was said."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [without_nul(item) for item in value]
    if isinstance(value, dict):
        return {without_nul(key): without_nul(item) for key, item in value.items()}
    return value
