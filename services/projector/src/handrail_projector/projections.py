"""Facts to rows, without I/O: what a batch of records changes in the read models.

The result depends on the log alone, never on how it was cut into batches: within a batch, changes to one row are merged
in order; across batches the statements in `sql/` merge the same way. Journal bodies are read with orjson and not with the
models: their writer has validated them, and this is where most of the projector's time would go. What a column could not
hold is found here all the same, so that merging never hides it; such a record raises `Unreadable`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from handrail_contracts import topics
from handrail_contracts.codec import DecodeError, decode
from handrail_contracts.platform import DeadLetter
from handrail_contracts.steps import AgentRegistered
from handrail_contracts.triggers import SCHEDULE_PREFIX, ScheduleDefined
from handrail_contracts.workflows import RolloutSet, WorkflowDefined, WorkflowStarted
from pydantic_core import to_json

Row = tuple[Any, ...]
INTEGER_LIMIT = 2**31
NUL = b"\\u0000"


class Unreadable(Exception):
    """A record that is not what its contract says, or that no table can hold. `code` says which, for its dead letter."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


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
    """What happened to a step after an attempt began; None leaves a column as it is."""

    status: str
    output: str | None = None
    error: str | None = None
    completed_at: datetime | None = None
    wake_at: datetime | None = None


@dataclass(slots=True)
class Told:
    """What one record says of one execution, before anything is merged: a record counts whole or not at all."""

    execution_id: str
    workflow_id: str
    at: datetime
    executions: list[tuple[ExecutionRow | None, ExecutionChange]] = field(default_factory=list)
    steps: list[tuple[str, StepRow | None, StepChange]] = field(default_factory=list)
    schedule_runs: list[Row] = field(default_factory=list)

    def execution(self, change: ExecutionChange) -> None:
        self.executions.append((None, change))

    def step(self, event: Any, change: StepChange) -> None:
        self.steps.append((_text(event["step_id"]), None, change))


@dataclass(slots=True)
class Batch:
    """Everything that a batch of records changes, by row."""

    pending: dict[str, Row] = field(default_factory=dict)
    executions: dict[str, tuple[ExecutionRow | None, ExecutionChange]] = field(default_factory=dict)
    steps: dict[tuple[str, str], tuple[StepRow | None, StepChange]] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)
    opened: dict[str, Row] = field(default_factory=dict)
    closed: dict[str, Row] = field(default_factory=dict)
    approval_history: list[Row] = field(default_factory=list)
    versions: dict[tuple[str, int], Row] = field(default_factory=dict)
    agents: dict[str, Row | None] = field(default_factory=dict)
    """None: removed."""
    letters: dict[str, Row] = field(default_factory=dict)
    schedules: dict[tuple[str, str, str], Row] = field(default_factory=dict)
    """By schedule and tenant: who may not change it does not hide who may."""
    schedule_runs: dict[str, Row] = field(default_factory=dict)
    rollouts: dict[str, Row] = field(default_factory=dict)

    def add(self, topic: str, partition: int, offset: int, value: bytes | None) -> None:
        """Takes one record in, in the order of its partition. Raises `Unreadable` and then has changed nothing."""
        try:
            if topic == topics.EXECUTION_EVENTS:
                self._add_execution(partition, offset, value or b"")
            elif topic == topics.APPROVAL_EVENTS:
                self._add_approval(partition, offset, value or b"")
            else:
                _MESSAGES[topic](self, decode(topic, _storable(value)))
        except DecodeError as error:
            raise Unreadable(error.code, str(error)) from error
        except orjson.JSONDecodeError as error:
            raise Unreadable("MALFORMED_JSON", f"a record of {topic} is not JSON: {error}") from error
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise Unreadable("INVALID_MESSAGE", f"{topic}: {error!r}") from error

    def _add_execution(self, partition: int, offset: int, value: bytes) -> None:
        raw = orjson.loads(value)
        events = raw.get("events")
        if not events:
            return
        record = _without_nul(raw) if NUL in value else raw
        told = Told(_text(record["execution_id"]), _text(record["workflow_id"]), _time(record["at"]))
        for event in record["events"]:
            _EXECUTION_EVENTS[event["type"]](told, event)
        place = (_count(events[0]["n"]), _count(events[-1]["n"]), partition, offset, told.at, _source(record))
        self.history.append((told.execution_id, *place, orjson.dumps(events).decode()))
        self._merge(told)

    def _merge(self, told: Told) -> None:
        for run in told.schedule_runs:
            so_far = self.schedule_runs.get(run[0], (None,) * len(run))
            kept = [new if new is not None else old for new, old in zip(run, so_far, strict=True)]
            self.schedule_runs[run[0]] = (*kept[:1], run[1], *kept[2:])
        for whole, done in told.executions:
            row, before = self.executions.get(told.execution_id, (None, None))
            if whole is not None or before is None:
                self.executions[told.execution_id] = (whole, done)
            else:
                self.executions[told.execution_id] = (row, _merged(before, done))
        for step_id, begun, change in told.steps:
            key = (told.execution_id, step_id)
            known, earlier = self.steps.get(key, (None, None))
            if begun is not None:
                if known is not None:
                    begun.first_n = known.first_n
                self.steps[key] = (begun, change)
            else:
                self.steps[key] = (known, change if earlier is None else _merged(earlier, change))

    def _add_approval(self, partition: int, offset: int, value: bytes) -> None:
        raw = orjson.loads(value)
        record = _without_nul(raw) if NUL in value else raw
        at, opened, closed, history = _time(record["at"]), [], [], []
        for ordinal, event in enumerate(record.get("events", ())):
            approval_id, kind = _text(event["approval_id"]), event["type"]
            if kind == "approval.opened":
                opened.append(_opened(record, event, at))
            elif kind == "approval.closed":
                closed.append(_closed(event, at))
            elif kind not in ("approval.commented", "approval.refused"):
                raise KeyError(kind)
            said = orjson.dumps(raw["events"][ordinal]).decode()
            history.append((approval_id, partition, offset, ordinal, at, said))
        for row in opened:
            self.opened.setdefault(row[0], row)
        self.closed.update((row[0], row) for row in closed)
        self.approval_history += history


def _merged(before: Any, after: Any) -> Any:
    for name in before.__slots__:
        if getattr(after, name) is None:
            setattr(after, name, getattr(before, name))
    return after


# --- what columns hold ------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"text was expected, not {value!r:.100}")
    return value


def _optional(value: Any) -> str | None:
    return None if value is None else _text(value)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < INTEGER_LIMIT:
        raise ValueError(f"a count below {INTEGER_LIMIT} was expected, not {value!r:.100}")
    return value


def _time(text: str) -> datetime:
    return _moment(datetime.fromisoformat(text))


def _moment(at: datetime) -> datetime:
    """Raises for a time without an offset, and for one that is in no year of UTC."""
    if at.tzinfo is UTC:
        return at
    if at.tzinfo is None:
        raise ValueError(f"a time with an offset was expected, not {at}")
    return at.astimezone(UTC)


def _optional_time(text: str | None) -> datetime | None:
    return None if text is None else _time(text)


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def _foreign_json(value: Any) -> str:
    """Of a value that anybody may have published: numbers of any size, and what is no number as null."""
    return to_json(value, inf_nan_mode="null").decode()


def _source(record: Any) -> str:
    source = record.get("source")
    return "" if source is None else _text(source["topic"])


def _storable(value: bytes | None) -> bytes | None:
    return value if value is None or NUL not in value else orjson.dumps(_without_nul(orjson.loads(value)))


def _without_nul(value: Any) -> Any:
    """PostgreSQL's text has no NUL: readers see U+FFFD there. The history keeps what was said."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return value


# --- the scheduler's journal ------------------------------------------------------------------------------------------


def _started(told: Told, event: Any) -> None:
    status = "queued" if event.get("admissions") else "running"
    told.executions.append((_execution_row(told, event), ExecutionChange(status, _count(event["n"]))))


def _execution_row(told: Told, event: Any) -> ExecutionRow:
    version = event.get("workflow_version")
    return ExecutionRow(
        workflow_id=told.workflow_id,
        workflow_version=None if version is None else _count(version),
        user_id=_text(event["user_id"]),
        organization_id=_text(event["organization_id"]),
        project_id=_text(event["project_id"]),
        session_id=_optional(event.get("session_id")),
        trigger=_json(event.get("trigger", {})),
        input=_json(event.get("input")),
        context=_json(event.get("context", {})),
        started_at=told.at,
        attributes=_json(event.get("attributes", {})) or "{}",
        parent_id=_optional((event.get("parent") or {}).get("execution_id")),
        origin_id=_optional(event.get("origin_id")),
    )


def _rejected(told: Told, event: Any) -> None:
    change = ExecutionChange("failed", _count(event["n"]), error=_json(event["error"]), completed_at=told.at)
    told.executions.append((_execution_row(told, event), change))


def _status_changed(told: Told, event: Any) -> None:
    told.execution(ExecutionChange(_text(event["status"]), _count(event["n"])))


def _paused(told: Told, event: Any) -> None:
    told.execution(ExecutionChange("paused", _count(event["n"])))


def _resumed(told: Told, event: Any) -> None:
    told.execution(ExecutionChange("running", _count(event["n"])))


def _admitted(told: Told, event: Any) -> None:
    status = "running" if event.get("begins", True) else "queued"
    told.execution(ExecutionChange(status, _count(event["n"])))


def _compensating(told: Told, event: Any) -> None:
    told.execution(ExecutionChange("compensating", _count(event["n"])))


def _version_changed(told: Told, event: Any) -> None:
    told.execution(ExecutionChange(None, _count(event["n"]), workflow_version=_count(event["workflow_version"])))


def _steps_restored(told: Told, event: Any) -> None:
    first = _count(event["n"])
    for step_id, output in event.get("outputs", {}).items():
        row = StepRow("", "", None, 0, None, None, None, None, first)
        told.steps.append((_text(step_id), row, StepChange("completed", output=_json(output), completed_at=told.at)))
    for step_id in event.get("skipped", ()):
        row = StepRow("", "", None, 0, None, None, None, None, first)
        told.steps.append((_text(step_id), row, StepChange("skipped", completed_at=told.at)))


def _step_steered(told: Told, event: Any) -> None:
    for step_id in event.get("step_ids", ()):
        told.steps.append((_text(step_id), None, StepChange("rewound", completed_at=told.at)))


def _schedule_set(told: Told, event: Any) -> None:
    _schedule_run(told, event, None)


def _schedule_fired(told: Told, event: Any) -> None:
    _schedule_run(told, event, _text(event["outcome"]))


def _schedule_run(told: Told, event: Any, outcome: str | None) -> None:
    fired = outcome is not None
    row = (
        told.execution_id.removeprefix(SCHEDULE_PREFIX),
        _optional_time(event.get("next_due")),
        _time(event["due"]) if fired else None,
        outcome,
        event.get("run_execution_id") or None,
        event.get("reason", "") if fired else None,
        _count(event["fired"]) if fired else None,
        _count(event["skipped"]) if fired else None,
    )
    told.schedule_runs.append(row)


def _noted(told: Told, event: Any) -> None:
    """History only."""


def _completed(told: Told, event: Any) -> None:
    result = _json(event.get("result"))
    told.execution(ExecutionChange("completed", _count(event["n"]), result=result, completed_at=told.at))


def _failed(told: Told, event: Any) -> None:
    error = _json(event["error"])
    told.execution(ExecutionChange("failed", _count(event["n"]), error=error, completed_at=told.at))


def _cancelled(told: Told, event: Any) -> None:
    error = _json({"code": "CANCELLED", "message": event["reason"], "by": event["by"]})
    told.execution(ExecutionChange("cancelled", _count(event["n"]), error=error, completed_at=told.at))


def _timed_out(told: Told, event: Any) -> None:
    error = _json(event["error"])
    told.execution(ExecutionChange("timeout", _count(event["n"]), error=error, completed_at=told.at))


def _step_started(told: Told, event: Any) -> None:
    waits_for = event.get("waits_for")
    row = StepRow(
        step_type=_text(event["step_type"]),
        run_id=_text(event["run_id"]),
        agent=_optional(event.get("agent")),
        attempt=_count(event["attempt"]),
        waits_for=_optional(waits_for),
        input=_json(event.get("input")),
        started_at=told.at,
        deadline=_optional_time(event.get("deadline")),
        first_n=_count(event["n"]),
    )
    status = "waiting" if waits_for in ("approval", "timer", "signal", "workflow") else "running"
    change = StepChange(status, wake_at=_optional_time(event.get("wake_at")))
    told.steps.append((_text(event["step_id"]), row, change))


def _step_completed(told: Told, event: Any) -> None:
    told.step(event, StepChange("completed", output=_json(event.get("output")), completed_at=told.at))


def _step_retry(told: Told, event: Any) -> None:
    told.step(event, StepChange("retrying", error=_json(event["error"]), wake_at=_time(event["retry_at"])))


def _step_failed(told: Told, event: Any) -> None:
    error = _json(event["error"])
    if event.get("then") == "wait":
        told.step(event, StepChange("blocked", error=error))
    else:
        told.step(event, StepChange("failed", error=error, completed_at=told.at))


def _steps_skipped(told: Told, event: Any) -> None:
    for step_id in event["step_ids"]:
        row = StepRow("", "", None, 0, None, None, None, None, _count(event["n"]))
        told.steps.append((_text(step_id), row, StepChange("skipped", completed_at=told.at)))


def _steps_cancelled(told: Told, event: Any) -> None:
    for step_id in event["step_ids"]:
        told.steps.append((_text(step_id), None, StepChange("cancelled", completed_at=told.at)))


_EXECUTION_EVENTS = {
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
    "steps.restored": _steps_restored,
    "step.steered": _step_steered,
    "signal.received": _noted,
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


# --- the journal of approvals -----------------------------------------------------------------------------------------


def _opened(record: Any, event: Any, at: datetime) -> Row:
    return (
        _text(event["approval_id"]),
        _text(record["execution_id"]),
        _text(record["workflow_id"]),
        _text(event["step_id"]),
        _text(event["user_id"]),
        _text(event["organization_id"]),
        _text(event["project_id"]),
        [_text(approver) for approver in event.get("approvers", ())],
        _text(event.get("message", "")),
        _json(event.get("show")),
        _optional_time(event.get("deadline")),
        at,
    )


def _closed(event: Any, at: datetime) -> Row:
    said = [_text(event.get(name, "")) for name in ("submission_id", "by", "comment")]
    return (_text(event["approval_id"]), _text(event["decision"]), *said, at)


# --- messages of one row ----------------------------------------------------------------------------------------------


def _add_started(batch: Batch, m: WorkflowStarted) -> None:
    version = None if m.workflow_version is None else _count(m.workflow_version)
    tenant = (m.user_id, m.organization_id, m.project_id)
    said = (
        _foreign_json(m.trigger),
        None if m.input is None else _foreign_json(m.input),
        _foreign_json(m.context),
    )
    row = (m.execution_id, m.workflow_id, version, *tenant, m.session_id, *said, _moment(m.occurred_at))
    batch.pending.setdefault(m.execution_id, row)


def _add_defined(batch: Batch, m: WorkflowDefined | RolloutSet) -> None:
    if isinstance(m, RolloutSet):
        versions = [None if version is None else _count(version) for version in (m.stable, m.canary)]
        said = (m.organization_id, m.project_id, *versions, m.percent, _moment(m.occurred_at))
        batch.rollouts[m.workflow_id] = (m.workflow_id, *said)
        return
    tenant = (m.user_id, m.organization_id, m.project_id)
    said = (m.name, _foreign_json(m.definition), m.active, m.event_id, _moment(m.occurred_at))
    batch.versions.setdefault((m.workflow_id, m.version), (m.workflow_id, _count(m.version), *tenant, *said))


def _add_agent(batch: Batch, m: AgentRegistered) -> None:
    said = (m.kind, m.name, m.description, list(m.capabilities), m.organization_id, m.project_id)
    row = (m.agent, *said, _foreign_json(m.config), _moment(m.occurred_at))
    batch.agents[m.agent] = None if m.removed else row


def _add_schedule(batch: Batch, m: ScheduleDefined) -> None:
    """Not by whose id is none: the scheduler refuses it, too."""
    if not m.execution_id.startswith(SCHEDULE_PREFIX):
        return
    schedule_id = m.execution_id.removeprefix(SCHEDULE_PREFIX)
    version = None if m.workflow_version is None else _count(m.workflow_version)
    tenant = (m.user_id, m.organization_id, m.project_id)
    said = (
        _foreign_json(m.timetable.model_dump(mode="json", exclude_none=True)),
        None if m.input is None else _foreign_json(m.input),
        _foreign_json(m.context),
    )
    policies = (m.overlap, m.missed, m.paused, m.removed, m.note, _moment(m.occurred_at))
    key = (schedule_id, m.organization_id, m.project_id)
    batch.schedules[key] = (schedule_id, m.workflow_id, version, *tenant, *said, *policies)


def _add_letter(batch: Batch, m: DeadLetter) -> None:
    place = (m.topic, m.partition, m.offset, m.execution_id, _moment(m.occurred_at))
    batch.letters.setdefault(m.event_id, (m.event_id, m.service, m.code, m.reason, *place))


_MESSAGES: dict[str, Callable[[Batch, Any], None]] = {
    topics.WORKFLOW_STARTED: _add_started,
    topics.WORKFLOW_DEFINED: _add_defined,
    topics.AGENT_REGISTERED: _add_agent,
    topics.SCHEDULE_DEFINED: _add_schedule,
    topics.DEAD_LETTERS: _add_letter,
}
