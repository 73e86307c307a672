"""Schedules: published like everything else, and those that belong to a workflow's trigger kept in step with it."""

from typing import Any

from handrail_contracts.envelope import utc
from handrail_contracts.ids import derive, partition_of
from handrail_contracts.topics import EXECUTION_PARTITIONS, SCHEDULE_DEFINED
from handrail_contracts.triggers import SCHEDULE_PREFIX, ScheduleDefined, Timetable
from handrail_graph import TimetableError, TriggerParameters, check_timetable

from handrail_gateway.database import Row
from handrail_gateway.gateway import Gateway
from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import invalid, not_found


async def find(gateway: Gateway, caller: Caller, schedule_id: str) -> Row:
    """The row; a 404 `Problem` only if nobody has defined such a schedule of this tenant."""

    async def look() -> Row | None:
        return await gateway.database.row("schedule", caller.organization_id, caller.project_id, schedule_id)

    partition = partition_of(SCHEDULE_PREFIX + schedule_id, EXECUTION_PARTITIONS)
    found = await gateway.reads.find(look, SCHEDULE_DEFINED, [partition])
    if found is None:
        raise not_found("schedule", schedule_id)
    return found


def checked(timetable: Timetable) -> Timetable:
    """Raises a 422 `Problem` that says what is wrong with it."""
    try:
        check_timetable(timetable)
    except TimetableError as error:
        raise invalid("The timetable is none.", [{"path": error.field, "message": str(error)}]) from error
    return timetable


async def define(gateway: Gateway, caller: Caller, schedule_id: str, event_id: str, **fields: Any) -> None:
    """Publishes the schedule as it is from now on, and waits until the read models show it, for as long as callers wait."""
    message = ScheduleDefined(
        **caller.tenant.model_dump(),
        event_id=event_id,
        occurred_at=utc(gateway.now()),
        execution_id=SCHEDULE_PREFIX + schedule_id,
        **fields,
    )
    partition, offset = await gateway.publisher.publish(SCHEDULE_DEFINED, message.execution_id, message)
    await gateway.positions.wait({(SCHEDULE_DEFINED, partition): offset + 1})


async def follow_trigger(
    gateway: Gateway, caller: Caller, workflow_id: str, event_id: str, trigger: TriggerParameters | None, *, had: bool
) -> None:
    """The schedule of the workflow's own trigger, named like the workflow: set, changed, or taken away with it."""
    timetable = None if trigger is None else trigger.timetable
    own = derive(event_id, SCHEDULE_DEFINED)
    if trigger is not None and timetable is not None:
        known = await gateway.database.row("schedule", caller.organization_id, caller.project_id, workflow_id)
        await define(
            gateway, caller, workflow_id, own, workflow_id=workflow_id, timetable=timetable, input=trigger.input,
            overlap=trigger.overlap, missed=trigger.missed, paused=known is not None and known["paused"],
            note="the workflow's own trigger",
        )  # fmt: skip
    elif had:
        await define(gateway, caller, workflow_id, own, workflow_id=workflow_id, timetable=Timetable(), removed=True)
