"""What sets executions off besides a direct wish: schedules, and events of the world outside."""

from typing import Any, Literal

from pydantic import AwareDatetime, Field

from handrail_contracts.envelope import ExecutionMessage, Identifier, JsonObject, Message, Model

SCHEDULE_PREFIX = "schedule:"
EVENT_PREFIX = "event:"

Overlap = Literal["allow", "skip", "queue", "cancel_old"]
Missed = Literal["run_once", "run_all", "skip"]


class Timetable(Model):
    """When a schedule is due. Either `cron` (five fields, read in `timezone`) or `every_seconds`, counted from its start.

    In the night when clocks go forward a time that does not exist is due right after the gap; in the night when they go
    back a fixed time is due once, and a repeating one goes on.
    """

    cron: str = ""
    timezone: str = "UTC"
    every_seconds: float | None = Field(None, ge=1)
    start_at: AwareDatetime | None = None
    end_at: AwareDatetime | None = None


class ScheduleDefined(ExecutionMessage):
    """Starts a workflow again and again. The latest message of a schedule counts; `execution_id` is `schedule:` and its name.

    `overlap` says what happens when an earlier run is still open at a due time, `missed` what becomes of due times that
    passed by more than a minute while nobody looked (no scheduler was up). What is due during a pause is not run later.
    """

    event_type: Literal["schedule.defined"] = "schedule.defined"
    schema_version: Literal[1] = 1
    workflow_version: int | None = Field(
        None, ge=1, description="pins a version; the newest of each due time if absent"
    )
    timetable: Timetable
    input: Any = None
    context: JsonObject = {}
    overlap: Overlap = "skip"
    missed: Missed = "run_once"
    paused: bool = False
    removed: bool = False
    note: str = Field("", max_length=1000)


class EventReceived(Message):
    """Something happened outside. Each workflow of the tenant whose trigger names it starts, once per `event_id`."""

    event_type: Literal["event.received"] = "event.received"
    schema_version: Literal[1] = 1
    type: Identifier = Field(description="what happened, such as new_support_ticket")
    source: str = Field("", max_length=200, description="where, such as email")
    data: Any = Field(None, description="`{{input}}` of the workflows that it starts")

    @property
    def execution_id(self) -> str:
        """Where the decision on it is written down."""
        return EVENT_PREFIX + self.event_id
