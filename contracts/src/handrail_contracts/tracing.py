"""W3C trace context that follows from ids: whoever knows an execution's id knows its trace, in every replay."""

from functools import lru_cache
from hashlib import sha1


@lru_cache(maxsize=16_384)
def trace_id(execution_id: str) -> str:
    """The id's own 32 hex digits if it is a UUID, else a digest of it."""
    return _hex(execution_id, 32)


def traceparent(execution_id: str, event_id: str) -> str:
    """The context of a message: its execution is the trace, the message itself the span that what follows has as parent."""
    return f"00-{trace_id(execution_id)}-{_hex(event_id, 16)}-01"


def _hex(text: str, digits: int) -> str:
    plain = text.replace("-", "").lower()
    try:
        usable = len(plain) == 32 and int(plain[:digits], 16) > 0 and "_" not in plain
    except ValueError:
        usable = False
    return plain[:digits] if usable else sha1(text.encode(), usedforsecurity=False).hexdigest()[:digits]
