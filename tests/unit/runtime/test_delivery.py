"""When a record is done with: a snapshot waits for it, and inputs wait for the snapshot."""

import pytest
from handrail_contracts import topics
from unit.stories import Workflow, agent


@pytest.mark.parametrize("facts_first", [True, False])
def test_a_record_is_done_with_once_its_commands_and_its_facts_have_arrived(facts_first: bool) -> None:
    machine = Workflow(agent("a", "b"), agent("b")).machine
    last_seq, last_offset = 0, 1
    assert not machine.is_delivered()
    if facts_first:
        machine.facts_delivered(last_offset)
    machine.commands_delivered(last_seq)
    assert machine.is_delivered() == facts_first
    machine.facts_delivered(last_offset)
    assert machine.is_delivered()
    assert machine.acknowledged_offset == last_offset


def test_positions_are_marked_once_and_say_what_was_acknowledged() -> None:
    story = Workflow(agent("a"))
    story.machine.commands_delivered(0)
    story.machine.facts_delivered(1)
    assert story.machine.mark(story.now)
    [marker] = story.machine.take_appends()
    assert b'"acknowledged":1' in marker.value
    assert topics.WORKFLOW_STARTED.encode() in marker.value
    assert not story.machine.mark(story.now)
