"""What events say of steps as people's tasks."""

from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any

from handrail_contracts.tasks import POSTED_PREFIX

from handrail_projector.columns import Row, as_count, as_json, as_optional_text, as_optional_time, as_text


@dataclass(slots=True)
class TaskSaid:
    """None leaves a column as it is."""

    task_id: str | None = None
    run_id: str | None = None
    name: str | None = None
    description: str | None = None
    agent: str | None = None
    assignee: str | None = None
    priority: str | None = None
    due_date: datetime | None = None
    overdue: bool | None = None
    progress: int | None = None
    depends_on: list[str] | None = None
    metadata: str | None = None
    brought: str | None = None

    def row(self, execution_id: str, step_id: str) -> Row:
        return (execution_id, step_id, *astuple(self))


def planned(execution_id: str, task: Any) -> TaskSaid:
    return TaskSaid(
        task_id=as_text(task["step_id"]) if execution_id.startswith(POSTED_PREFIX) else None,
        run_id=as_text(task["run_id"]),
        name=as_text(task["name"]),
        description=as_text(task.get("description", "")),
        agent=as_optional_text(task.get("agent")),
        priority=as_optional_text(task.get("priority")),
        due_date=as_optional_time(task.get("due_date")),
        depends_on=[as_text(before) for before in task.get("depends_on", ())],
        metadata=as_json(task.get("metadata", {})),
        brought=as_json(task.get("brought", {})),
    )


def annotated(changes: Any) -> TaskSaid:
    """A due date that was moved is to be missed again."""
    progress = changes.get("progress")
    return TaskSaid(
        description=as_optional_text(changes.get("description")),
        priority=as_optional_text(changes.get("priority")),
        due_date=as_optional_time(changes.get("due_date")),
        overdue=False if changes.get("due_date") is not None else None,
        progress=None if progress is None else as_count(progress),
        metadata=as_json(changes.get("metadata")),
    )


def reassigned(event: Any) -> TaskSaid:
    return TaskSaid(agent=as_text(event.get("agent", "")) or None, assignee=as_text(event.get("assignee", "")))
