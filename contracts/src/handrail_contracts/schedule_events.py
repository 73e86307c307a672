"""The part of the scheduler's journal that is about schedules and events: what was due, and what it started."""

from typing import Any, Literal

from pydantic import AwareDatetime, Field

from handrail_contracts.envelope import Identifier, JsonObject, Model
from handrail_contracts.triggers import Missed, Overlap, Timetable


class ScheduleEvent(Model):
    n: int = Field(ge=1)


class ScheduleSet(ScheduleEvent):
    """The schedule is so from now on; `next_due` is empty if it is paused or over."""

    type: Literal["schedule.set"] = "schedule.set"
    user_id: str
    organization_id: str
    project_id: str
    workflow_version: int | None = None
    timetable: Timetable
    input: Any = None
    context: JsonObject = {}
    overlap: Overlap
    missed: Missed
    paused: bool
    next_due: AwareDatetime | None = None


class ScheduleFired(ScheduleEvent):
    """A due time was decided on: a run was started, or skipped, or waits for the run before it.

    `cancelled` are the open runs that it takes the place of; `fired` and `skipped` count since the beginning.
    """

    type: Literal["schedule.fired"] = "schedule.fired"
    due: AwareDatetime
    outcome: Literal["started", "skipped", "queued"]
    run_execution_id: str = ""
    reason: str = ""
    cancelled: tuple[str, ...] = ()
    next_due: AwareDatetime | None = None
    fired: int
    skipped: int


class ScheduleRunEnded(ScheduleEvent):
    type: Literal["schedule.run_ended"] = "schedule.run_ended"
    run_execution_id: str
    status: str


class ScheduleRemoved(ScheduleEvent):
    type: Literal["schedule.removed"] = "schedule.removed"


class EventMatched(ScheduleEvent):
    """An event of the world outside starts these executions, by workflow."""

    type: Literal["event.matched"] = "event.matched"
    event_type: Identifier
    source: str
    data: Any = None
    user_id: str
    organization_id: str
    project_id: str
    started: dict[str, str]
    versions: dict[str, int]


AnyScheduleEvent = ScheduleSet | ScheduleFired | ScheduleRunEnded | ScheduleRemoved | EventMatched
