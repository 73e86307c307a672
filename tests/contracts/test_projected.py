"""Every event that the scheduler may journal is one that the read models know: an unknown one would be set aside."""

from typing import Any, get_args

from handrail_contracts.admission import AnyQueueEvent
from handrail_contracts.execution_events import AnyExecutionEvent
from handrail_contracts.schedule_events import AnyScheduleEvent
from handrail_projector.execution_facts import EXECUTION_EVENTS


def test_every_journaled_event_is_projected() -> None:
    unions = (AnyExecutionEvent, AnyScheduleEvent, AnyQueueEvent)
    types = {member.model_fields["type"].default for union in unions for member in _members(union)}
    assert len(types) > 25
    assert types - EXECUTION_EVENTS.keys() == set()


def _members(union: object) -> list[Any]:
    inner = get_args(union)
    return [
        member for part in inner for member in (_members(part) or ([part] if hasattr(part, "model_fields") else []))
    ]
