"""What each event of the scheduler's journal changes in the read models. One function per event."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from handrail_contracts.triggers import SCHEDULE_PREFIX

from handrail_projector import task_facts
from handrail_projector.columns import Row, as_count, as_json, as_optional_text, as_optional_time, as_text, as_time
from handrail_projector.task_facts import TaskSaid


@dataclass(slots=True)
class ExecutionRow:
    """A whole row: the execution began (or was refused) in this batch."""

    workflow_id: str
    workflow_version: int | None
    user_id: str
    organization_id: str
    project_id: str
    session_id: str | None
    trigger: str | None
    input: str | None
    context: str | None
    started_at: datetime
    attributes: str
    parent_id: str | None
    origin_id: str | None


@dataclass(slots=True)
class ExecutionChange:
    """What happened to an execution after its beginning; None leaves a column as it is."""

    status: str | None
    last_n: int
    result: str | None = None
    error: str | None = None
    completed_at: datetime | None = None
    workflow_version: int | None = None


@dataclass(slots=True)
class StepRow:
    """A whole row: an attempt began, or the step was skipped, in this batch. `first_n` keeps the smallest."""

    step_type: str
    run_id: str
    agent: str | None
    attempt: int
    waits_for: str | None
    input: str | None
    started_at: datetime | None
    deadline: datetime | None
    first_n: int


@dataclass(slots=True)
class StepChange:
    """What happened to a step after an attempt began; None leaves a column as it is. `agent` was chosen by capabilities."""

    status: str
    output: str | None = None
    error: str | None = None
    completed_at: datetime | None = None
    wake_at: datetime | None = None
    agent: str | None = None


@dataclass(slots=True)
class Told:
    """What one record says of one execution, before anything is merged: a record counts whole or not at all."""

    execution_id: str
    workflow_id: str
    at: datetime
    executions: list[tuple[ExecutionRow | None, ExecutionChange]] = field(default_factory=list)
    steps: list[tuple[str, StepRow | None, StepChange]] = field(default_factory=list)
    schedule_runs: list[Row] = field(default_factory=list)
    budgets: list[Any] = field(default_factory=list)
    tasks: list[tuple[str, TaskSaid]] = field(default_factory=list)

    def execution(self, change: ExecutionChange) -> None:
        self.executions.append((None, change))

    def step(self, event: Any, change: StepChange) -> None:
        self.steps.append((as_text(event["step_id"]), None, change))


def _started(told: Told, event: Any) -> None:
    status = "queued" if event.get("admissions") else "running"
    told.executions.append((_execution_row(told, event), ExecutionChange(status, as_count(event["n"]))))


def _execution_row(told: Told, event: Any) -> ExecutionRow:
    version = event.get("workflow_version")
    return ExecutionRow(
        workflow_id=told.workflow_id,
        workflow_version=None if version is None else as_count(version),
        user_id=as_text(event["user_id"]),
        organization_id=as_text(event["organization_id"]),
        project_id=as_text(event["project_id"]),
        session_id=as_optional_text(event.get("session_id")),
        trigger=as_json(event.get("trigger", {})),
        input=as_json(event.get("input")),
        context=as_json(event.get("context", {})),
        started_at=told.at,
        attributes=as_json(event.get("attributes", {})) or "{}",
        parent_id=as_optional_text((event.get("parent") or {}).get("execution_id")),
        origin_id=as_optional_text(event.get("origin_id")),
    )


def _rejected(told: Told, event: Any) -> None:
    change = ExecutionChange("failed", as_count(event["n"]), error=as_json(event["error"]), completed_at=told.at)
    told.executions.append((_execution_row(told, event), change))


def _status_changed(told: Told, event: Any) -> None:
    told.execution(ExecutionChange(as_text(event["status"]), as_count(event["n"])))


def _paused(told: Told, event: Any) -> None:
    told.execution(ExecutionChange("paused", as_count(event["n"])))


def _resumed(told: Told, event: Any) -> None:
    told.execution(ExecutionChange("running", as_count(event["n"])))


def _admitted(told: Told, event: Any) -> None:
    status = "running" if event.get("begins", True) else "queued"
    told.execution(ExecutionChange(status, as_count(event["n"])))


def _compensating(told: Told, event: Any) -> None:
    told.execution(ExecutionChange("compensating", as_count(event["n"])))


def _version_changed(told: Told, event: Any) -> None:
    told.execution(ExecutionChange(None, as_count(event["n"]), workflow_version=as_count(event["workflow_version"])))


def _tasks_planned(told: Told, event: Any) -> None:
    for task in event["tasks"]:
        step_id, agent = as_text(task["step_id"]), as_optional_text(task.get("agent"))
        place = (None, None, None, None, as_count(event["n"]))
        row = StepRow(as_text(task["step_type"]), as_text(task["run_id"]), agent, 0, *place)
        told.steps.append((step_id, row, StepChange("pending")))
        told.tasks.append((step_id, task_facts.planned(told.execution_id, task)))


def _step_annotated(told: Told, event: Any) -> None:
    told.tasks.append((as_text(event["step_id"]), task_facts.annotated(event["changes"])))


def _step_overdue(told: Told, event: Any) -> None:
    told.tasks.append((as_text(event["step_id"]), TaskSaid(overdue=True)))


def _steps_restored(told: Told, event: Any) -> None:
    first = as_count(event["n"])
    for step_id, output in event.get("outputs", {}).items():
        row = StepRow("", "", None, 0, None, None, None, None, first)
        told.steps.append(
            (as_text(step_id), row, StepChange("completed", output=as_json(output), completed_at=told.at))
        )
    for step_id in event.get("skipped", ()):
        row = StepRow("", "", None, 0, None, None, None, None, first)
        told.steps.append((as_text(step_id), row, StepChange("skipped", completed_at=told.at)))


def _step_steered(told: Told, event: Any) -> None:
    if event["action"] == "reassign":
        told.tasks.append((as_text(event["step_id"]), task_facts.reassigned(event)))
    for step_id in event.get("step_ids", ()):
        told.steps.append((as_text(step_id), None, StepChange("rewound", completed_at=told.at)))


def _schedule_set(told: Told, event: Any) -> None:
    _schedule_run(told, event, None)


def _schedule_fired(told: Told, event: Any) -> None:
    _schedule_run(told, event, as_text(event["outcome"]))


def _schedule_run(told: Told, event: Any, outcome: str | None) -> None:
    fired = outcome is not None
    row = (
        told.execution_id.removeprefix(SCHEDULE_PREFIX),
        as_optional_time(event.get("next_due")),
        as_time(event["due"]) if fired else None,
        outcome,
        event.get("run_execution_id") or None,
        event.get("reason", "") if fired else None,
        as_count(event["fired"]) if fired else None,
        as_count(event["skipped"]) if fired else None,
    )
    told.schedule_runs.append(row)


def _noted(told: Told, event: Any) -> None:
    """History only."""


def _completed(told: Told, event: Any) -> None:
    result = as_json(event.get("result"))
    told.execution(ExecutionChange("completed", as_count(event["n"]), result=result, completed_at=told.at))


def _failed(told: Told, event: Any) -> None:
    error = as_json(event["error"])
    told.execution(ExecutionChange("failed", as_count(event["n"]), error=error, completed_at=told.at))


def _cancelled(told: Told, event: Any) -> None:
    error = as_json({"code": "CANCELLED", "message": event["reason"], "by": event["by"]})
    told.execution(ExecutionChange("cancelled", as_count(event["n"]), error=error, completed_at=told.at))


def _timed_out(told: Told, event: Any) -> None:
    error = as_json(event["error"])
    told.execution(ExecutionChange("timeout", as_count(event["n"]), error=error, completed_at=told.at))


def _step_started(told: Told, event: Any) -> None:
    waits_for = event.get("waits_for")
    row = StepRow(
        step_type=as_text(event["step_type"]),
        run_id=as_text(event["run_id"]),
        agent=as_optional_text(event.get("agent")),
        attempt=as_count(event["attempt"]),
        waits_for=as_optional_text(waits_for),
        input=as_json(event.get("input")),
        started_at=told.at,
        deadline=as_optional_time(event.get("deadline")),
        first_n=as_count(event["n"]),
    )
    status = "waiting" if waits_for in ("approval", "timer", "signal", "workflow") else "running"
    change = StepChange(status, wake_at=as_optional_time(event.get("wake_at")))
    told.steps.append((as_text(event["step_id"]), row, change))


def _budget_awaited(told: Told, event: Any) -> None:
    told.step(event, StepChange("waiting", error=as_json({"code": "BUDGET_SPENT", "message": event["reason"]})))


def _budget_granted(told: Told, event: Any) -> None:
    told.step(event, StepChange("running", error="null"))


def _budget_used(told: Told, event: Any) -> None:
    told.budgets.append(event)


def _suggested(told: Told, event: Any) -> None:
    told.step(event, StepChange("waiting"))


def _step_completed(told: Told, event: Any) -> None:
    output, agent = as_json(event.get("output")), as_optional_text(event.get("agent"))
    told.step(event, StepChange("completed", output=output, completed_at=told.at, agent=agent))


def _step_retry(told: Told, event: Any) -> None:
    error, agent = as_json(event["error"]), as_optional_text(event.get("agent"))
    told.step(event, StepChange("retrying", error=error, wake_at=as_time(event["retry_at"]), agent=agent))


def _step_failed(told: Told, event: Any) -> None:
    error, agent = as_json(event["error"]), as_optional_text(event.get("agent"))
    if event.get("then") == "wait":
        told.step(event, StepChange("blocked", error=error, agent=agent))
    else:
        told.step(event, StepChange("failed", error=error, completed_at=told.at, agent=agent))


def _steps_skipped(told: Told, event: Any) -> None:
    for step_id in event["step_ids"]:
        row = StepRow("", "", None, 0, None, None, None, None, as_count(event["n"]))
        told.steps.append((as_text(step_id), row, StepChange("skipped", completed_at=told.at)))


def _steps_cancelled(told: Told, event: Any) -> None:
    for step_id in event["step_ids"]:
        told.steps.append((as_text(step_id), None, StepChange("cancelled", completed_at=told.at)))


EXECUTION_EVENTS = {
    "execution.started": _started,
    "execution.rejected": _rejected,
    "execution.status_changed": _status_changed,
    "execution.paused": _paused,
    "execution.resumed": _resumed,
    "execution.admitted": _admitted,
    "queue.entered": _noted,
    "queue.refused": _noted,
    "queue.admitted": _noted,
    "queue.left": _noted,
    "execution.version_changed": _version_changed,
    "compensation.started": _compensating,
    "tasks.planned": _tasks_planned,
    "step.annotated": _step_annotated,
    "step.overdue": _step_overdue,
    "steps.restored": _steps_restored,
    "step.steered": _step_steered,
    "signal.received": _noted,
    "step.models_called": _noted,
    "step.advanced": _noted,
    "budget.granted": _budget_granted,
    "budget.awaited": _budget_awaited,
    "budget.reserved": _budget_used,
    "budget.exhausted": _budget_used,
    "budget.settled": _budget_used,
    "budget.renewed": _noted,
    "budget.looked_again": _noted,
    "suggestion.made": _suggested,
    "suggestion.sent_back": _noted,
    "suggestion.approved": _noted,
    "suggestion.refused": _noted,
    "action.executed": _noted,
    "schedule.set": _schedule_set,
    "schedule.fired": _schedule_fired,
    "schedule.run_ended": _noted,
    "schedule.removed": _noted,
    "event.matched": _noted,
    "execution.completed": _completed,
    "execution.failed": _failed,
    "execution.cancelled": _cancelled,
    "execution.timed_out": _timed_out,
    "step.started": _step_started,
    "step.completed": _step_completed,
    "step.retry_scheduled": _step_retry,
    "step.failed": _step_failed,
    "steps.skipped": _steps_skipped,
    "steps.cancelled": _steps_cancelled,
}
