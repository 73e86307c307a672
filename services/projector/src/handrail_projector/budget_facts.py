"""What the events of a budget change in the read models: one row for each attempt that asked it."""

from datetime import datetime
from typing import Any

from handrail_projector.columns import Row, as_count, as_json, as_text

STATES = {"budget.reserved": "open", "budget.exhausted": "waits", "budget.settled": "settled"}
_ABOUT = ("scope", "name", "user_id", "organization_id", "project_id", "limits", "period")


def key_of(budget_id: str, event: Any) -> tuple[str, str, str, int]:
    return (budget_id, as_text(event["requester_id"]), as_text(event["run_id"]), as_count(event["attempt"]))


def row_of(budget_id: str, event: Any, at: datetime, before: Row | None) -> Row:
    """What the event does not say stays as it was `before`, in the batch or in the table."""
    used = event.get("used") or {}
    about = {name: event[name] for name in _ABOUT} if "limits" in event else None
    said = (
        None if about is None else as_json(about),
        None if "step_id" not in event else as_text(event["step_id"]),
        as_json(event.get("allowance")),
        None if "reason" not in event else as_text(event["reason"]),
    )
    kept = (
        said
        if before is None
        else tuple(new if new is not None else old for new, old in zip(said, before[5:9], strict=True))
    )
    numbers = (
        as_count(used.get("tokens", 0)), float(used.get("cost_usd", 0)), as_count(used.get("calls", 0)),
        float(used.get("seconds", 0)),
    )  # fmt: skip
    return (*key_of(budget_id, event), STATES[event["type"]], *kept, *numbers, at)
