"""Facts to rows, without I/O: what a batch of records changes in the read models.

The result depends on the log alone, never on how it was cut into batches: within a batch, changes to one row are merged
in order; across batches the statements in `sql/` merge the same way. Bodies are read with orjson and not with the models:
their writer has validated them, and this is where most of the projector's time would go. What does not have the shape of
its contract raises `Unreadable`.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from handrail_contracts import topics
from handrail_contracts.codec import DecodeError, decode
from handrail_contracts.platform import DeadLetter
from handrail_contracts.steps import AgentRegistered
from handrail_contracts.workflows import WorkflowDefined, WorkflowStarted


class Unreadable(Exception):
    """An accepted record that is not what its contract says."""


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


@dataclass(slots=True)
class ExecutionChange:
    """What happened to an execution after its beginning; None leaves a column as it is."""

    status: str
    last_n: int
    result: str | None = None
    error: str | None = None
    completed_at: datetime | None = None


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
    """What happened to a step after an attempt began; None leaves a column as it is."""

    status: str
    output: str | None = None
    error: str | None = None
    completed_at: datetime | None = None
    wake_at: datetime | None = None


@dataclass(slots=True)
class Batch:
    """Everything that a batch of records changes, by row."""

    pending: dict[str, WorkflowStarted] = field(default_factory=dict)
    executions: dict[str, tuple[ExecutionRow | None, ExecutionChange]] = field(default_factory=dict)
    steps: dict[tuple[str, str], tuple[StepRow | None, StepChange]] = field(default_factory=dict)
    history: list[tuple[Any, ...]] = field(default_factory=list)
    opened: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    closed: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    approval_history: list[tuple[Any, ...]] = field(default_factory=list)
    versions: dict[tuple[str, int], WorkflowDefined] = field(default_factory=dict)
    agents: dict[str, AgentRegistered] = field(default_factory=dict)
    letters: dict[str, DeadLetter] = field(default_factory=dict)

    def add(self, topic: str, partition: int, offset: int, value: bytes | None) -> None:
        """Takes one record in, in the order of its partition. Raises `Unreadable` and then has changed nothing."""
        try:
            if topic == topics.EXECUTION_EVENTS:
                _execution_record(self, partition, offset, value)
            elif topic == topics.APPROVAL_EVENTS:
                _approval_record(self, partition, offset, value)
            else:
                self._add_message(topic, decode(topic, value))
        except (DecodeError, KeyError, TypeError, ValueError) as error:
            raise Unreadable(f"{topic} partition {partition} offset {offset}: {error!r}") from error

    def _add_message(self, topic: str, message: Any) -> None:
        if topic == topics.WORKFLOW_STARTED:
            self.pending.setdefault(message.execution_id, message)
        elif topic == topics.WORKFLOW_DEFINED:
            self.versions.setdefault((message.workflow_id, message.version), message)
        elif topic == topics.AGENT_REGISTERED:
            self.agents[message.agent] = message
        elif topic == topics.DEAD_LETTERS:
            self.letters.setdefault(message.event_id, message)
        else:
            raise KeyError(f"{topic} is not projected")

    def execution(self, execution_id: str, change: ExecutionChange) -> None:
        row, before = self.executions.get(execution_id, (None, None))
        self.executions[execution_id] = (row, change if before is None else _merged(before, change))

    def step(self, execution_id: str, step_id: str, change: StepChange) -> None:
        row, before = self.steps.get((execution_id, step_id), (None, None))
        self.steps[execution_id, step_id] = (row, change if before is None else _merged(before, change))

    def step_begun(self, execution_id: str, step_id: str, row: StepRow, change: StepChange) -> None:
        known, _ = self.steps.get((execution_id, step_id), (None, None))
        if known is not None:
            row.first_n = known.first_n
        self.steps[execution_id, step_id] = (row, change)


def _merged(before: Any, after: Any) -> Any:
    for name in before.__slots__:
        if getattr(after, name) is None:
            setattr(after, name, getattr(before, name))
    return after


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _execution_record(batch: Batch, partition: int, offset: int, value: bytes | None) -> None:
    record = orjson.loads(value or b"")
    events = record.get("events")
    if not events:
        return
    execution_id, at = record["execution_id"], datetime.fromisoformat(record["at"])
    source = record["source"]["topic"]
    for event in events:
        _EXECUTION_EVENTS[event["type"]](batch, execution_id, record, event, at)
    place = (execution_id, events[0]["n"], events[-1]["n"], partition, offset, at, source)
    batch.history.append((*place, orjson.dumps(events).decode()))


def _started(batch: Batch, execution_id: str, record: Any, event: Any, at: datetime) -> None:
    row = _execution_row(record, event, at)
    batch.executions[execution_id] = (row, ExecutionChange("running", event["n"]))


def _execution_row(record: Any, event: Any, at: datetime) -> ExecutionRow:
    return ExecutionRow(
        workflow_id=record["workflow_id"],
        workflow_version=event.get("workflow_version"),
        user_id=event["user_id"],
        organization_id=event["organization_id"],
        project_id=event["project_id"],
        session_id=event.get("session_id"),
        trigger=_json(event.get("trigger", {})),
        input=_json(event.get("input")),
        context=_json(event.get("context", {})),
        started_at=at,
    )


def _rejected(batch: Batch, execution_id: str, record: Any, event: Any, at: datetime) -> None:
    change = ExecutionChange("failed", event["n"], error=_json(event["error"]), completed_at=at)
    batch.executions[execution_id] = (_execution_row(record, event, at), change)


def _status_changed(batch: Batch, execution_id: str, record: Any, event: Any, at: datetime) -> None:
    batch.execution(execution_id, ExecutionChange(event["status"], event["n"]))


def _completed(batch: Batch, execution_id: str, record: Any, event: Any, at: datetime) -> None:
    change = ExecutionChange("completed", event["n"], result=_json(event.get("result")), completed_at=at)
    batch.execution(execution_id, change)


def _failed(batch: Batch, execution_id: str, record: Any, event: Any, at: datetime) -> None:
    batch.execution(execution_id, ExecutionChange("failed", event["n"], error=_json(event["error"]), completed_at=at))


def _cancelled(batch: Batch, execution_id: str, record: Any, event: Any, at: datetime) -> None:
    error = _json({"code": "CANCELLED", "message": event["reason"], "by": event["by"]})
    batch.execution(execution_id, ExecutionChange("cancelled", event["n"], error=error, completed_at=at))


def _timed_out(batch: Batch, execution_id: str, record: Any, event: Any, at: datetime) -> None:
    batch.execution(execution_id, ExecutionChange("timeout", event["n"], error=_json(event["error"]), completed_at=at))


def _step_started(batch: Batch, execution_id: str, record: Any, event: Any, at: datetime) -> None:
    waits_for = event.get("waits_for")
    row = StepRow(
        step_type=event["step_type"],
        run_id=event["run_id"],
        agent=event.get("agent"),
        attempt=event["attempt"],
        waits_for=waits_for,
        input=_json(event.get("input")),
        started_at=at,
        deadline=_time(event.get("deadline")),
        first_n=event["n"],
    )
    status = "waiting" if waits_for in ("approval", "timer") else "running"
    batch.step_begun(execution_id, event["step_id"], row, StepChange(status, wake_at=_time(event.get("wake_at"))))


def _step_completed(batch: Batch, execution_id: str, record: Any, event: Any, at: datetime) -> None:
    change = StepChange("completed", output=_json(event.get("output")), completed_at=at)
    batch.step(execution_id, event["step_id"], change)


def _step_retry(batch: Batch, execution_id: str, record: Any, event: Any, at: datetime) -> None:
    change = StepChange("retrying", error=_json(event["error"]), wake_at=_time(event["retry_at"]))
    batch.step(execution_id, event["step_id"], change)


def _step_failed(batch: Batch, execution_id: str, record: Any, event: Any, at: datetime) -> None:
    batch.step(execution_id, event["step_id"], StepChange("failed", error=_json(event["error"]), completed_at=at))


def _steps_skipped(batch: Batch, execution_id: str, record: Any, event: Any, at: datetime) -> None:
    for step_id in event["step_ids"]:
        row = StepRow("", "", None, 0, None, None, None, None, event["n"])
        batch.step_begun(execution_id, step_id, row, StepChange("skipped", completed_at=at))


def _steps_cancelled(batch: Batch, execution_id: str, record: Any, event: Any, at: datetime) -> None:
    for step_id in event["step_ids"]:
        batch.step(execution_id, step_id, StepChange("cancelled", completed_at=at))


_EXECUTION_EVENTS = {
    "execution.started": _started,
    "execution.rejected": _rejected,
    "execution.status_changed": _status_changed,
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


def _approval_record(batch: Batch, partition: int, offset: int, value: bytes | None) -> None:
    record = orjson.loads(value or b"")
    at = datetime.fromisoformat(record["at"])
    for ordinal, event in enumerate(record.get("events", ())):
        approval_id, kind = event["approval_id"], event["type"]
        if kind == "approval.opened":
            batch.opened[approval_id] = (
                approval_id,
                record["execution_id"],
                record["workflow_id"],
                event["step_id"],
                event["user_id"],
                event["organization_id"],
                event["project_id"],
                event.get("approvers", []),
                event.get("message", ""),
                _json(event.get("show")),
                _time(event.get("deadline")),
                at,
            )
        elif kind == "approval.closed":
            place = (event.get("submission_id", ""), event.get("by", ""), event.get("comment", ""))
            batch.closed[approval_id] = (approval_id, event["decision"], *place, at)
        elif kind not in ("approval.commented", "approval.refused"):
            raise KeyError(kind)
        batch.approval_history.append((approval_id, partition, offset, ordinal, at, orjson.dumps(event).decode()))
