"""Messages to bytes and back, with CloudEvents attributes as Kafka headers (binary mode)."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeVar, get_args

import orjson
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from handrail_contracts import (
    admission,
    approval_events,
    approvals,
    budgets,
    control,
    execution_events,
    identity,
    notifications,
    platform,
    reviewers,
    runners,
    steps,
    tasks,
    triggers,
    workflows,
)
from handrail_contracts.envelope import Message
from handrail_contracts.topics import catalogue
from handrail_contracts.tracing import traceparent
from handrail_contracts.upcasters import upcast

M = TypeVar("M", bound=BaseModel)

_MODULES = (
    workflows,
    steps,
    control,
    triggers,
    admission,
    budgets,
    approvals,
    execution_events,
    approval_events,
    platform,
    runners,
    identity,
    reviewers,
    notifications,
    tasks,
)
MAX_RECORD_BYTES = 1_000_000
"""What a record may weigh with its key and headers: below `max.message.bytes`, so that the broker never refuses one."""


class DecodeError(Exception):
    """A record that is no message of its topic. `code` says why: MALFORMED_JSON, UNKNOWN_EVENT_TYPE,
    UNSUPPORTED_VERSION or INVALID_MESSAGE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def message_type(name: str) -> type[BaseModel]:
    for module in _MODULES:
        found = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, BaseModel):
            return found
    raise LookupError(f"contracts name a message {name!r} that no module defines")


@cache
def messages_of(topic: str) -> tuple[type[BaseModel], ...]:
    return tuple(message_type(name) for name in catalogue()[topic].messages)


@cache
def _adapter(topic: str) -> TypeAdapter[Any]:
    """By its type at once: a union would try one message after the other."""
    types = messages_of(topic)
    joined: Any = types[0]
    for other in types[1:]:
        joined = joined | other
    if len(types) > 1:
        joined = Annotated[joined, Field(discriminator="event_type")]
    return TypeAdapter(joined)


def encode(message: BaseModel) -> bytes:
    """JSON. Equal messages give equal bytes."""
    return message.__pydantic_serializer__.to_json(message, exclude_none=True)


def decode(topic: str, value: bytes | None) -> Any:
    """The message in its newest version.

    Raises `DecodeError` for anything that is no message of `topic`: never another exception, whatever the bytes.
    """
    if value is None:
        raise DecodeError("MALFORMED_JSON", f"a record of {topic} has no value")
    try:
        return _adapter(topic).validate_json(value)
    except ValidationError:
        return _decode_slowly(topic, value)


def _decode_slowly(topic: str, value: bytes) -> Any:
    """Old versions are rare and errors are rarer: only they pay for a second look."""
    try:
        raw = orjson.loads(value)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise DecodeError("MALFORMED_JSON", f"a record of {topic} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise DecodeError("MALFORMED_JSON", f"a record of {topic} is {type(raw).__name__}, not a JSON object")
    _check_type_and_version(topic, raw)
    try:
        return _adapter(topic).validate_python(upcast(raw), strict=False)
    except ValidationError as error:
        place, why = first_mistake(error)
        raise DecodeError("INVALID_MESSAGE", f"{topic}: {place or 'message'}: {why}") from error


def _check_type_and_version(topic: str, raw: dict[str, Any]) -> None:
    known = _known_versions(topic)
    event_type = raw.get("event_type") if "" not in known else ""
    if not isinstance(event_type, str) or event_type not in known:
        raise DecodeError(
            "UNKNOWN_EVENT_TYPE", f"{topic} carries {', '.join(sorted(known))}; this record says {event_type!r:.200}"
        )
    version_given = raw.get("schema_version", 1)
    if not isinstance(version_given, int) or not 1 <= version_given <= known[event_type]:
        raise DecodeError(
            "UNSUPPORTED_VERSION",
            f"{event_type or topic} has versions 1 to {known[event_type]}; this record says {version_given!r:.200}",
        )


@cache
def _known_versions(topic: str) -> Mapping[str, int]:
    """The newest version of each event type of a topic; journals have records of one kind, named ''."""
    known: dict[str, int] = {}
    for model in messages_of(topic):
        names, version = model.model_fields.get("event_type"), model.model_fields["schema_version"]
        for name in ("",) if names is None else get_args(names.annotation):
            known[name] = version.default
    return known


def first_mistake(error: ValidationError) -> tuple[str, str]:
    """Where it is, empty for the whole, and what it is; nothing of the value itself, which may be a secret."""
    details: ErrorDetails = error.errors(include_url=False, include_input=False)[0]
    return ".".join(map(str, details["loc"])), details["msg"]


def cloud_event_headers(message: Message, source: str) -> list[tuple[str, bytes]]:
    """CloudEvents 1.0 attributes, Kafka binary mode; for what belongs to an execution, the trace context too."""
    event_type: str = getattr(message, "event_type", "")
    execution_id: str = getattr(message, "execution_id", "")
    trace = [("traceparent", traceparent(execution_id, message.event_id).encode())] if execution_id else []
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", message.event_id.encode()),
        ("ce_type", event_type.encode()),
        ("ce_source", source.encode()),
        ("content-type", b"application/json"),
        *trace,
    ]
