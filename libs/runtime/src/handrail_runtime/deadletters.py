"""Records that can't be taken go to `dead_letters`, whole, with the reason; the partition goes on."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import ConsumerRecord
from handrail_contracts.codec import encode
from handrail_contracts.envelope import JsonObject, utc
from handrail_contracts.ids import derive
from handrail_contracts.platform import DeadLetter

from handrail_runtime.telemetry import DEAD_LETTERS

Send = Callable[[DeadLetter, bytes], Awaitable[Any]]
KEEP_VALUE_BYTES = 1_048_576


def _b64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _printable(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", "replace")


def dead_letter(
    record: ConsumerRecord[Any, Any],
    *,
    service: str,
    code: str,
    reason: str,
    now: float,
    details: JsonObject | None = None,
) -> DeadLetter:
    """The dead letter of a record. Its id belongs to the record's place, so a second look makes the same letter."""
    DEAD_LETTERS.labels(service, record.topic, code).inc()
    return DeadLetter(
        event_id=derive("dead_letter", service, record.topic, record.partition, record.offset),
        occurred_at=utc(now),
        service=service,
        code=code,
        reason=reason[:2000],
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        recorded_at=utc(record.timestamp / 1000) if record.timestamp and record.timestamp > 0 else None,
        execution_id=(record.key or b"").decode("utf-8", "replace")[:200],
        key=_b64(record.key),
        value=_b64((record.value or b"")[:KEEP_VALUE_BYTES]) if record.value is not None else None,
        headers=tuple((_printable(name), _b64(value)) for name, value in record.headers),
        details=details or {},
    )


def letter_bytes(letter: DeadLetter) -> tuple[bytes, bytes]:
    """Key and value of the record that carries the letter."""
    return f"{letter.topic}/{letter.partition}/{letter.offset}".encode(), encode(letter)
