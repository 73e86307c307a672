"""Schedules and events: what is due starts once, whatever was missed or still runs."""

from datetime import UTC, datetime
from typing import Any

import pytest
from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.control import ExecutionControlled
from handrail_contracts.envelope import utc
from handrail_contracts.journal import Fences
from handrail_contracts.triggers import EventReceived, ScheduleDefined, Timetable
from handrail_contracts.workflows import ChildEnded, WorkflowDefined, WorkflowStarted
from handrail_graph import TimetableError, check_timetable, next_due, upcoming
from handrail_runtime.machine.core import Instead, Missing
from handrail_runtime.machine.partition import Input, PartitionMachine
from handrail_scheduler.core import SchedulerCore
from handrail_scheduler.definitions import Definitions
from unit.stories import Story

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
SCHEDULE = "schedule:nightly"


class Clockwork(Story):
    """A partition with a schedule that is due every hour."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(PartitionMachine(SchedulerCore(Definitions()), 0, 1, Fences({})), now=MIDNIGHT + 1)
        self.define(**fields)

    def define(self, **fields: Any) -> list[str]:
        given = {"timetable": Timetable(cron="0 * * * *"), "workflow_id": "w", **fields}
        message = ScheduleDefined(
            event_id=f"{len(self.journal)}", occurred_at=utc(self.now), execution_id=SCHEDULE, **given
        )
        return self.put(topics.SCHEDULE_DEFINED, message)

    def started(self) -> list[str]:
        """The due times of the runs that were started, as HH:MM."""
        runs = [message for message in self.said if isinstance(message, WorkflowStarted)]
        return [run.trigger["due"][11:16] for run in runs]

    def end_run(self, number: int) -> list[str]:
        run = [message for message in self.said if isinstance(message, WorkflowStarted)][number]
        message = ChildEnded(
            event_id=run.execution_id, occurred_at=utc(self.now), workflow_id="w", execution_id=SCHEDULE,
            child_id=run.execution_id, status="completed",
        )  # fmt: skip
        return self.put(topics.CHILD_ENDED, message)


def test_each_due_time_starts_one_run_with_an_id_of_its_own() -> None:
    clock = Clockwork(overlap="allow")
    for _ in range(3):
        clock.wait(3600)
    assert clock.started() == ["01:00", "02:00", "03:00"]
    assert len({message.execution_id for message in clock.said}) == 3


def test_it_is_not_due_before_its_time_nor_twice() -> None:
    clock = Clockwork(overlap="allow")
    assert clock.wait(3590) == []
    assert clock.wait(20) == ["schedule.fired"]
    assert clock.wait(20) == []


@pytest.mark.parametrize(
    ("missed", "started"),
    [("run_once", ["05:00"]), ("run_all", ["01:00", "02:00", "03:00", "04:00", "05:00"]), ("skip", [])],
)
def test_what_was_missed(missed: str, started: list[str]) -> None:
    clock = Clockwork(overlap="allow", missed=missed)
    clock.wait(5 * 3600 + 600)
    assert clock.started() == started
    clock.wait(3000)
    assert clock.started() == [*started, "06:00"]


def test_a_run_that_is_still_open_makes_the_next_be_skipped() -> None:
    clock = Clockwork(overlap="skip")
    clock.wait(3600)
    clock.wait(3600)
    assert clock.events[-1]["outcome"] == "skipped"
    assert "still open" in clock.events[-1]["reason"]
    assert clock.end_run(0) == ["schedule.run_ended"]
    clock.wait(3600)
    assert clock.started() == ["01:00", "03:00"]


def test_or_be_queued() -> None:
    clock = Clockwork(overlap="queue")
    for _ in range(3):
        clock.wait(3600)
    assert clock.started() == ["01:00"]
    assert clock.end_run(0) == ["schedule.run_ended", "schedule.fired"]
    clock.end_run(1)
    assert clock.started() == ["01:00", "02:00", "03:00"]


def test_or_take_the_place_of_the_old() -> None:
    clock = Clockwork(overlap="cancel_old")
    clock.wait(3600)
    clock.wait(3600)
    first = next(message for message in clock.said if isinstance(message, WorkflowStarted))
    [wish] = [message for message in clock.said if isinstance(message, ExecutionControlled)]
    assert (wish.execution_id, wish.action) == (first.execution_id, "cancel")
    assert clock.started() == ["01:00", "02:00"]


def test_a_paused_schedule_waits_and_a_removed_one_is_gone() -> None:
    clock = Clockwork(overlap="allow")
    clock.define(overlap="allow", paused=True)
    assert clock.wait(7200) == []
    clock.define(overlap="allow")
    assert clock.started() == []
    clock.wait(3600)
    assert clock.started() == ["03:00"]
    assert clock.define(removed=True) == ["schedule.removed"]
    assert clock.wait(7200) == []
    assert clock.machine.states == {}


def test_another_tenant_can_not_touch_it() -> None:
    clock = Clockwork(organization_id="acme")
    assert clock.define(organization_id="evil", removed=True) == []
    assert clock.rejected[-1].code == "FORBIDDEN"


def test_a_timetable_that_is_none_is_refused() -> None:
    clock = Clockwork()
    assert clock.define(timetable=Timetable(cron="61 * * * *")) == []
    assert "no cron expression" in clock.rejected[-1].reason


def test_no_execution_has_the_id_of_a_schedule() -> None:
    clock = Clockwork()
    message = WorkflowStarted(event_id="x", occurred_at=utc(clock.now), execution_id=SCHEDULE, workflow_id="w")
    assert clock.put(topics.WORKFLOW_STARTED, message) == []
    assert clock.rejected[-1].code == "RESERVED_ID"


def due(cron: str, zone: str, after: str, count: int = 3) -> list[str]:
    timetable = Timetable(cron=cron, timezone=zone)
    moments = upcoming(timetable, datetime.fromisoformat(after), count)
    return [moment.astimezone(UTC).isoformat()[:16] for moment in moments]


def test_when_clocks_go_back_a_fixed_time_is_due_once() -> None:
    assert due("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00:00+02:00") == [
        "2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30",
    ]  # fmt: skip


def test_when_clocks_go_forward_a_time_that_is_not_there_is_due_after_the_gap() -> None:
    assert due("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00+01:00") == [
        "2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30",
    ]  # fmt: skip


def test_what_repeats_goes_on_through_the_hour_that_comes_twice() -> None:
    assert due("*/30 * * * *", "Europe/Berlin", "2026-10-25T01:31:00+02:00", 5) == [
        "2026-10-25T00:00", "2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30", "2026-10-25T02:00",
    ]  # fmt: skip


def test_intervals_count_from_their_start_and_end_at_their_end() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    timetable = Timetable(every_seconds=90, start_at=start, end_at=datetime(2026, 1, 1, 0, 3, tzinfo=UTC))
    assert [(moment - start).total_seconds() for moment in upcoming(timetable, utc(0), 10)] == [0, 90, 180]


@pytest.mark.parametrize(
    ("timetable", "field"),
    [
        (Timetable(cron="0 0 30 2 *"), "cron"), (Timetable(), "cron"), (Timetable(cron="* * * * *", every_seconds=5), "cron"),
        (Timetable(cron="* * * * *", timezone="Mars/Olympus"), "timezone"),
        (Timetable(cron="* * * * *", timezone="../../etc/passwd"), "timezone"),
    ],
)  # fmt: skip
def test_a_timetable_is_checked(timetable: Timetable, field: str) -> None:
    with pytest.raises(TimetableError) as caught:
        check_timetable(timetable)
    assert caught.value.field == field
    assert next_due(Timetable(cron="0 0 29 2 *"), utc(MIDNIGHT)) == datetime(2028, 2, 29, tzinfo=UTC)


def listeners(*triggers: dict[str, Any]) -> Definitions:
    definitions = Definitions()
    for number, trigger in enumerate(triggers):
        definition = {"name": "w", "tasks": [{"agent": "a"}], "trigger": trigger}
        definitions.add(
            WorkflowDefined(
                event_id=f"w{number}",
                occurred_at=utc(0),
                workflow_id=f"w{number}",
                version=1,
                name="w",
                definition=definition,
            )
        )
    return definitions


TICKET = {"type": "event", "source": "email", "condition": "new_support_ticket"}


@pytest.mark.parametrize(
    ("trigger", "data", "starts"),
    [
        (TICKET, {}, True),
        ({**TICKET, "source": "chat"}, {}, False),
        ({"type": "event", "event": "new_support_ticket"}, {}, True),
        ({"type": "event", "event": "other"}, {}, False),
        ({"type": "event", "event": "new_support_ticket", "condition": "input.priority > 3"}, {"priority": 5}, True),
        ({"type": "event", "event": "new_support_ticket", "condition": "input.priority > 3"}, {"priority": 1}, False),
        ({"type": "event", "event": "new_support_ticket", "condition": "input.priority > 3"}, {}, False),
    ],
)
def test_an_event_starts_the_workflows_that_wait_for_it(trigger: dict[str, Any], data: Any, starts: bool) -> None:
    story = Story(PartitionMachine(SchedulerCore(listeners(trigger, {"type": "api"})), 0, 1, Fences({})))
    event = EventReceived(event_id="e1", occurred_at=utc(0), type="new_support_ticket", source="email", data=data)
    receive(story, event)
    receive(story, event)
    runs = [message for message in story.said if isinstance(message, WorkflowStarted)]
    assert [(run.workflow_id, run.input) for run in runs] == ([("w0", data)] if starts else [])


def receive(story: Story, event: EventReceived) -> None:
    """As the shell does: an event is decided on once the definitions were read to their end."""
    offset = story.machine.positions[topics.EVENT_RECEIVED]
    received = Input(topics.EVENT_RECEIVED, offset, event.execution_id.encode(), encode(event), ())
    try:
        story.machine.handle(received, story.now)
    except Missing:
        story.machine.handle(received, story.now, Instead.MISSING)
    story.settle()
