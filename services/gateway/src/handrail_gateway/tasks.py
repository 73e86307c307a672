"""Tasks: step runs as people see them. What is shown of them, and what can be done with them now. Pure but for finding them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from handrail_contracts.ids import partition_of
from handrail_contracts.topics import EXECUTION_EVENTS, EXECUTION_PARTITIONS

from handrail_gateway.answers import parsed
from handrail_gateway.database import Row
from handrail_gateway.gateway import Gateway
from handrail_gateway.given import plain
from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import Problem, conflict, not_found
from handrail_gateway.streaming import TERMINAL

STATUSES: Mapping[str, str] = {
    "pending": "pending", "rewound": "pending", "running": "in_progress", "waiting": "waiting", "retrying": "waiting",
    "blocked": "waiting", "completed": "completed", "failed": "failed", "cancelled": "cancelled", "skipped": "skipped",
}  # fmt: skip
"""What the status of a step means for its task."""
BEGINS_LATER = ("pending", "rewound")
SETTLED = ("completed", "failed", "cancelled", "skipped")


def step_statuses(status: str | None) -> list[str] | None:
    """The statuses of steps whose tasks have this one."""
    return None if status is None else [step for step, shown in STATUSES.items() if shown == status]


async def find(gateway: Gateway, caller: Caller, task_id: str) -> Row:
    """Raises a 404 `Problem` if the tenant has none of that id."""

    async def look() -> Row | None:
        return await gateway.database.row("task", caller.organization_id, caller.project_id, task_id)

    found = await gateway.reads.find(look, EXECUTION_EVENTS, range(EXECUTION_PARTITIONS))
    if found is None:
        raise not_found("task", task_id)
    return found


def place_of(execution_id: str) -> tuple[str, int]:
    """Where its story goes on."""
    return EXECUTION_EVENTS, partition_of(execution_id, EXECUTION_PARTITIONS)


def shown(row: Row, *, whole: bool = False) -> dict[str, Any]:
    """Times that it was posted with are shown as far as it has come; else those of its step."""
    status = STATUSES[row["step_status"]]
    brought = parsed(row["brought"]) or {}
    begun, done = status not in ("pending", "skipped"), status in ("completed", "failed")
    started = _moment(brought, "started_at", begun) or row["started_at"]
    completed = _moment(brought, "completed_at", done) or row["completed_at"]
    same = ("id", "name", "description", "agent_id", "assignee", "priority", "due_date", "overdue", "depends_on", "metadata",
            "comments", "execution_id", "step_id")  # fmt: skip
    return {
        **{name: row[name] for name in same},
        "workflow_id": plain(row["workflow_id"]),
        "status": status,
        "created_at": _moment(brought, "created_at", True) or row["execution_started_at"],
        "started_at": started,
        "completed_at": completed,
        "duration_seconds": _duration(brought, started, completed, done),
        "progress": 100 if status == "completed" else row["progress"] or 0,
        **({name: row[name] for name in ("input", "output", "error")} if whole else {}),
    }


def _moment(brought: Mapping[str, Any], name: str, counts: bool) -> datetime | None:
    return datetime.fromisoformat(brought[name]) if counts and name in brought else None


def _duration(
    brought: Mapping[str, Any], started: datetime | None, completed: datetime | None, done: bool
) -> float | None:
    if done and "duration_seconds" in brought:
        return float(brought["duration_seconds"])
    both = started is not None and completed is not None
    return round(max(0.0, (completed - started).total_seconds()), 6) if both else None  # type: ignore[operator]


def refusal(action: str, row: Row) -> Problem | None:
    """Why that can't be done with the task now. The scheduler decides again, on what is true then."""
    status, execution = STATUSES[row["step_status"]], row["execution_status"]
    if execution in TERMINAL:
        told = f"Its execution has ended ({execution}), and the task is {status}. Nothing was changed."
        return conflict("ALREADY_FINISHED", told)
    if execution == "compensating" and action != "annotate":
        return conflict("COMPENSATING", "What its execution did is being undone. Nothing was changed.")
    if action == "annotate":
        return None
    if row["step_status"] in SETTLED:
        when = f" since {row['completed_at']:%Y-%m-%d %H:%M:%S} UTC" if row["completed_at"] else ""
        return conflict("TASK_SETTLED", f"The task is {status}{when}. Nothing was changed.")
    if action == "reassign":
        return _not_reassignable(row)
    if row["step_status"] in BEGINS_LATER:
        before = ", ".join(row["depends_on"]) or "its turn"
        return conflict("NOT_BEGUN", f"The task has not begun: it waits for {before}. Nothing was changed.")
    if action == "retry" and row["step_status"] == "waiting":
        return conflict(
            "WAITS_FOR_DECISION", "The task waits for a decision on what its agent suggests. Nothing was changed."
        )
    if action == "retry" and execution == "paused":
        return conflict("PAUSED", "Its execution is paused; resume it first. Nothing was changed.")
    return None


def _not_reassignable(row: Row) -> Problem | None:
    if row["step_type"] != "agent_execution":
        return conflict("NOT_REASSIGNABLE", "Only what an agent does can be handed over. Nothing was changed.")
    if row["execution_status"] == "paused" and row["step_status"] not in BEGINS_LATER:
        return conflict("PAUSED", "Its execution is paused; resume it first. Nothing was changed.")
    return None
