"""Beginnings are decided out of order: none is lost and none comes twice, whatever of the memory is left."""

from typing import Any

import orjson
from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.envelope import utc
from handrail_contracts.journal import Fences
from handrail_contracts.workflows import WorkflowStarted
from handrail_runtime.machine import snapshots
from handrail_runtime.machine.partition import Input, PartitionMachine
from handrail_scheduler.core import SchedulerCore
from unit.stories import BEGAN, Workflow

TOPIC = topics.WORKFLOW_STARTED


def start(offset: int) -> Input:
    execution_id = f"00000000-0000-4000-8000-{offset:012d}"
    message = WorkflowStarted(event_id=execution_id, occurred_at=utc(BEGAN), execution_id=execution_id, workflow_id="w")
    return Input(TOPIC, offset, b"", encode(message), ())


def story() -> Workflow:
    """One execution of a signal that never comes, from offset 0; then 1 is left out."""
    told = Workflow({"step_id": "s", "step_type": "signal", "parameters": {"name": "never"}})
    for offset in (3, 2, 5):
        told.machine.handle(start(offset), BEGAN)
    told.settle()
    return told


def decided(machine: PartitionMachine[Any]) -> list[int]:
    return [offset for offset in range(8) if machine.is_decided(TOPIC, offset)]


def test_what_lies_before_is_still_to_come_and_what_was_decided_decides_nothing() -> None:
    told = story()
    assert (told.machine.positions[TOPIC], decided(told.machine)) == (1, [0, 2, 3, 5])
    events = len(told.events)
    told.machine.handle(start(3), BEGAN)
    assert told.settle() == []
    assert len(told.events) == events
    told.machine.handle(start(1), BEGAN)
    assert told.settle() != []
    assert (told.machine.positions[TOPIC], decided(told.machine)) == (4, [0, 1, 2, 3, 5])


def test_a_position_passes_what_is_no_record() -> None:
    told = story()
    told.machine.pass_by(TOPIC, 4)
    assert decided(told.machine) == [0, 1, 2, 3, 5]
    assert told.machine.mark(BEGAN)
    told.settle()
    assert told.machine.beyond[TOPIC] == {5}


def test_a_fold_of_the_journal_remembers_it() -> None:
    told = story()
    told.machine.mark(BEGAN)
    told.settle()
    fresh: PartitionMachine[Any] = PartitionMachine(SchedulerCore(told.definitions), 0, 1, Fences({}))
    for offset, entry in enumerate(told.journal):
        headers = [(name, text.encode()) for name, text in entry["headers"]]
        fresh.fold(offset, headers, orjson.dumps(entry["value"]))
    assert (fresh.positions[TOPIC], decided(fresh)) == (1, [0, 2, 3, 5])


def test_a_snapshot_remembers_it() -> None:
    told = story()
    told.machine.commands_delivered(1000)
    told.machine.facts_delivered(1000)
    chunks = snapshots.take(told.machine)
    assert chunks[0].beyond[TOPIC] == ((2, 3), (5, 5))
    fresh: PartitionMachine[Any] = PartitionMachine(SchedulerCore(told.definitions), 0, 1, Fences({}))
    snapshots.restore(fresh, chunks)
    assert (fresh.positions[TOPIC], decided(fresh)) == (1, [0, 2, 3, 5])
