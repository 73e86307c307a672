"""How a step is told to people as a task: priority, due date, what else they want to know of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from handrail_graph.problems import TEN_YEARS, Problems, shown

FIELDS = ("priority", "due_date", "due_in_seconds", "metadata")
BROUGHT = ("created_at", "started_at", "completed_at", "duration_seconds")
"""What a task may bring along of a time before: shown in place of what the platform has seen."""
PRIORITIES = ("low", "medium", "high", "urgent")


@dataclass(frozen=True, slots=True)
class TaskTerms:
    """Due at `due_date`, or `due_in_seconds` after the execution began. `said` is how the terms were written."""

    priority: str | None = None
    due_date: datetime | None = None
    due_in_seconds: float | None = None
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    brought: Mapping[str, Any] = field(default_factory=dict)
    said: Mapping[str, Any] = field(default_factory=dict)


def read_terms(raw: Mapping[str, Any], path: str, problems: Problems) -> TaskTerms | None:
    """None for a step that says nothing of the kind."""
    if not any(name in raw for name in (*FIELDS, *BROUGHT)):
        return None
    given = raw.get("priority")
    if given is not None and given not in PRIORITIES:
        problems.add(f"{path}priority", "wrong_value", f"must be one of {', '.join(PRIORITIES)}, not {shown(given)}")
        given = None
    if raw.get("due_date") is not None and raw.get("due_in_seconds") is not None:
        problems.add(
            f"{path}due_in_seconds", "misplaced", "a task has a due_date or due_in_seconds; leave one of them out"
        )
    return TaskTerms(
        given,
        _due_date(raw, path, problems),
        problems.number(raw, "due_in_seconds", path, least=0, most=TEN_YEARS),
        problems.text(raw, "description", path, most=10_000),
        problems.mapping(raw, "metadata", path),
        {name: raw[name] for name in BROUGHT if raw.get(name) is not None},
        {name: raw[name] for name in FIELDS if name in raw},
    )


def _due_date(raw: Mapping[str, Any], path: str, problems: Problems) -> datetime | None:
    given = raw.get("due_date")
    if given is None:
        return None
    try:
        found = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is None:
        message = f"must be a time with an offset, such as 2026-02-09T20:00:00Z, not {shown(given)}"
        problems.add(f"{path}due_date", "wrong_value", message)
        return None
    return found
