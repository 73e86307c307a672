"""Schedules: beside executions in the same journal, so that each due time counts once, whoever dies and takes over.

The rules are those of executions: `decide` says events, `evolve` alone changes the state, `react` tells others.
"""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
from handrail_contracts import topics
from handrail_contracts.envelope import tenant_of, utc
from handrail_contracts.ids import derive
from handrail_contracts.journal import Record
from handrail_contracts.schedule_events import (
    ScheduleEvent,
    ScheduleFired,
    ScheduleRemoved,
    ScheduleRunEnded,
    ScheduleSet,
)
from handrail_contracts.triggers import SCHEDULE_PREFIX, ScheduleDefined, Timetable
from handrail_contracts.workflows import ChildEnded, Parent, WorkflowStarted
from handrail_graph import TimetableError, check_timetable, next_due
from handrail_runtime.machine.core import Kind, Outgoing, Refused, Timer, TimerDue

from handrail_scheduler.cancelling import cancellation

PACKED = b"S"
"""What the bytes of a packed schedule begin with; those of an execution never do."""
LATE_SECONDS = 60.0
"""A due time that is decided on later than this was missed."""
CAUGHT_UP_AT_ONCE = 100
"""Missed runs that one decision starts; the next decision follows at once."""
QUEUED = 100


@dataclass(slots=True)
class Schedule:
    """Changed by `evolve` alone; times are seconds since the epoch. `open` are runs that have not ended, oldest first."""

    execution_id: str
    workflow_id: str = ""
    version: int | None = None
    user_id: str = ""
    organization_id: str = ""
    project_id: str = ""
    timetable: dict[str, Any] = field(default_factory=dict)
    input: Any = None
    context: dict[str, Any] = field(default_factory=dict)
    overlap: str = "skip"
    missed: str = "run_once"
    next_due: float | None = None
    open: list[str] = field(default_factory=list)
    queued: list[float] = field(default_factory=list)
    fired: int = 0
    skipped: int = 0
    n: int = 0
    removed: bool = False

    def pack(self) -> bytes:
        return PACKED + zlib.compress(orjson.dumps(self), 1)

    @staticmethod
    def unpack(data: bytes) -> "Schedule":
        return Schedule(**orjson.loads(zlib.decompress(data[1:])))

    def run_at(self, due: float) -> str:
        """The execution of a due time: whoever decides on it, however often."""
        return derive(self.execution_id, utc(due).isoformat())


def decide(state: Schedule, message: Any, now: float, emit: Callable[[Any], None]) -> None:
    match message:
        case ScheduleDefined():
            _define(state, message, now, emit)
        case ChildEnded() if message.child_id in state.open:
            emit(ScheduleRunEnded(n=state.n + 1, run_execution_id=message.child_id, status=message.status))
            if state.queued and not state.open:
                _say_fired(state, state.queued[0], "started", emit)
        case TimerDue() if state.next_due is not None and state.next_due <= now:
            _fire(state, now, emit)
        case _:
            pass


def _define(state: Schedule, message: ScheduleDefined, now: float, emit: Callable[[Any], None]) -> None:
    if not message.execution_id.startswith(SCHEDULE_PREFIX):
        raise Refused("INVALID_SCHEDULE", f"the execution_id of a schedule begins with {SCHEDULE_PREFIX!r}")
    known = state.n > 0
    if known and (message.organization_id, message.project_id) != (state.organization_id, state.project_id):
        raise Refused("FORBIDDEN", "the schedule belongs to another tenant")
    if message.removed:
        if known:
            emit(ScheduleRemoved(n=state.n + 1))
        return
    try:
        check_timetable(message.timetable)
    except TimetableError as error:
        raise Refused("INVALID_SCHEDULE", str(error)) from error
    due = None if message.paused else next_due(message.timetable, utc(now))
    fields = ("workflow_version", "timetable", "input", "context", "overlap", "missed", "paused")
    said = {name: getattr(message, name) for name in fields}
    emit(ScheduleSet(n=state.n + 1, next_due=due, **said, **tenant_of(message)))


def _fire(state: Schedule, now: float, emit: Callable[[Any], None]) -> None:
    """Every due time up to now gets its run, or the reason why not."""
    timetable = Timetable.model_validate(state.timetable)
    for _ in range(CAUGHT_UP_AT_ONCE):
        due = state.next_due
        if due is None or due > now:
            return
        if now - due > LATE_SECONDS and state.missed != "run_all":
            latest = _latest_due(timetable, due, now)
            if state.missed == "skip" or due < latest:
                reason = f"missed by {now - due:.0f} s"
                following = next_due(timetable, utc(max(due, latest - 1)))
                _say_fired(state, due, "skipped", emit, reason=reason, following=following)
                continue
        following = next_due(timetable, utc(due))
        if not state.open or state.overlap == "allow":
            _say_fired(state, due, "started", emit, following=following)
        elif state.overlap == "cancel_old":
            _say_fired(state, due, "started", emit, following=following, cancelled=tuple(state.open))
        elif state.overlap == "queue" and len(state.queued) < QUEUED:
            _say_fired(state, due, "queued", emit, following=following)
        else:
            reason = f"the run before it, {state.open[-1]}, is still open"
            _say_fired(state, due, "skipped", emit, reason=reason, following=following)


def _latest_due(timetable: Timetable, first: float, now: float) -> float:
    """The latest due time that has come, found from a minute, an hour, ... before now; `first` if none is later."""
    span = LATE_SECONDS
    while now - span > first:
        found = next_due(timetable, utc(now - span))
        if found is not None and found.timestamp() <= now:
            first = found.timestamp()
            break
        span *= 60
    while (found := next_due(timetable, utc(first))) is not None and found.timestamp() <= now:
        first = found.timestamp()
    return first


def _say_fired(
    state: Schedule,
    due: float,
    outcome: str,
    emit: Callable[[Any], None],
    *,
    reason: str = "",
    following: Any = None,
    cancelled: tuple[str, ...] = (),
) -> None:
    from_queue = outcome == "started" and due in state.queued
    emit(
        ScheduleFired(
            n=state.n + 1,
            due=utc(due),
            outcome=outcome,
            run_execution_id=state.run_at(due) if outcome == "started" else "",
            reason=reason,
            cancelled=cancelled,
            next_due=following if not from_queue else None if state.next_due is None else utc(state.next_due),
            fired=state.fired + (outcome == "started"),
            skipped=state.skipped + (outcome == "skipped"),
        )
    )


def evolve(state: Schedule, event: ScheduleEvent, record: Record) -> None:
    state.n = event.n
    match event:
        case ScheduleSet():
            state.workflow_id, state.version = record.workflow_id, event.workflow_version
            state.user_id, state.organization_id, state.project_id = (
                event.user_id, event.organization_id, event.project_id,
            )  # fmt: skip
            state.timetable = event.timetable.model_dump(mode="json", exclude_none=True)
            state.input, state.context = event.input, event.context
            state.overlap, state.missed = event.overlap, event.missed
            state.next_due = None if event.next_due is None else event.next_due.timestamp()
            state.removed = False
        case ScheduleFired():
            due = event.due.timestamp()
            state.next_due = None if event.next_due is None else event.next_due.timestamp()
            state.fired, state.skipped = event.fired, event.skipped
            if event.outcome == "queued":
                state.queued.append(due)
            elif event.outcome == "started":
                state.queued = [other for other in state.queued if other != due]
                if state.overlap != "allow":
                    state.open.append(event.run_execution_id)
        case ScheduleRunEnded():
            state.open = [run for run in state.open if run != event.run_execution_id]
        case ScheduleRemoved():
            state.removed = True


def react(state: Schedule, event: ScheduleEvent, record: Record) -> Iterable[Outgoing]:
    """Facts: said once they are certain. A run that nobody needs to wait for has no parent."""
    if not isinstance(event, ScheduleFired) or event.outcome != "started":
        return ()
    cancelled = [_cancellation(state, run, record) for run in event.cancelled]
    return (*cancelled, _start(state, event, record))


def _start(state: Schedule, event: ScheduleFired, record: Record) -> Outgoing:
    run = event.run_execution_id
    message = WorkflowStarted(
        event_id=derive(run, topics.WORKFLOW_STARTED),
        occurred_at=record.at,
        execution_id=run,
        workflow_id=state.workflow_id,
        workflow_version=state.version,
        **tenant_of(state),
        input=state.input,
        context=state.context,
        trigger={
            "type": "schedule",
            "schedule": state.execution_id.removeprefix(SCHEDULE_PREFIX),
            "due": event.due.isoformat(),
        },
        parent=None if state.overlap == "allow" else Parent(execution_id=state.execution_id),
    )
    return Outgoing(Kind.FACT, topics.WORKFLOW_STARTED, run, message)


def _cancellation(state: Schedule, run: str, record: Record) -> Outgoing:
    return cancellation(
        state,
        run,
        state.workflow_id,
        record,
        event_id=derive(run, "the next run took its place"),
        reason="the next run of its schedule took its place",
        parent_id=state.execution_id,
    )


def timers(event: ScheduleEvent) -> Iterable[Timer]:
    if isinstance(event, ScheduleSet | ScheduleFired) and event.next_due is not None:
        return (Timer(event.next_due.timestamp(), "due"),)
    return ()


def live_timers(state: Schedule) -> Iterable[Timer]:
    return () if state.next_due is None else (Timer(state.next_due, "due"),)
