"""What is shown of tasks, and what can be done with them: pure functions over rows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from handrail_gateway.database import Json
from handrail_gateway.given import may_be_given, plain, scoped
from handrail_gateway.identity.caller import Caller
from handrail_gateway.posting import numbered
from handrail_gateway.problems import Problem
from handrail_gateway.schemas import NewTask, TaskChange
from handrail_gateway.tasks import STATUSES, refusal, shown, step_statuses
from pydantic import ValidationError

AT = datetime(2026, 2, 9, 19, 15, tzinfo=UTC)


def row(step_status: str = "running", **changes: Any) -> dict[str, Any]:
    return {
        "id": "t", "name": "T", "description": "", "agent_id": "a", "assignee": None, "priority": "medium", "due_date": None,
        "overdue": False, "depends_on": ["before"], "metadata": {}, "comments": 0, "execution_id": "e", "step_id": "s",
        "workflow_id": "wf-1~0123456789", "execution_started_at": AT, "execution_status": "running", "started_at": AT,
        "completed_at": None, "progress": None, "brought": None, "step_status": step_status, "step_type": "agent_execution",
        **changes,
    }  # fmt: skip


def code(action: str, **changes: Any) -> str | None:
    problem = refusal(action, row(**changes))
    return None if problem is None else problem.code


def test_every_status_of_a_step_is_one_of_its_task() -> None:
    assert step_statuses("waiting") == ["waiting", "retrying", "blocked"]
    assert step_statuses(None) is None
    assert sorted(step for status in set(STATUSES.values()) for step in step_statuses(status) or ()) == sorted(STATUSES)


def test_a_task_shows_the_times_that_it_brought_along_as_far_as_it_has_come() -> None:
    brought = Json(
        '{"created_at": "2026-02-08T10:00:00Z", "completed_at": "2026-02-08T12:30:00Z", "duration_seconds": 8700}'
    )
    running, done = shown(row(brought=brought)), shown(row("completed", brought=brought, completed_at=AT))
    assert running["created_at"] == datetime(2026, 2, 8, 10, tzinfo=UTC)
    assert (running["completed_at"], running["duration_seconds"], running["progress"]) == (None, None, 0)
    assert (done["completed_at"].hour, done["duration_seconds"], done["progress"]) == (12, 8700, 100)


def test_a_task_without_a_past_shows_its_steps_times() -> None:
    done = shown(row("failed", completed_at=AT + timedelta(seconds=90), progress=40))
    assert (done["created_at"], done["duration_seconds"], done["progress"]) == (AT, 90, 40)
    assert done["workflow_id"] == "wf-1"


@pytest.mark.parametrize("action", ["complete", "fail"])
def test_what_is_under_way_can_end(action: str) -> None:
    for status in ("running", "waiting", "retrying", "blocked"):
        assert code(action, step_status=status) is None
    for status in ("completed", "failed", "cancelled", "skipped"):
        assert code(action, step_status=status) == "TASK_SETTLED"
    assert code(action, step_status="pending") == "NOT_BEGUN"
    assert code(action, execution_status="completed") == "ALREADY_FINISHED"
    assert code(action, execution_status="compensating") == "COMPENSATING"


def test_what_has_not_begun_can_be_handed_over_and_what_no_agent_does_cant() -> None:
    assert code("reassign", step_status="pending", execution_status="paused") is None
    assert code("reassign", execution_status="paused") == "PAUSED"
    assert code("reassign", step_type="tool_call") == "NOT_REASSIGNABLE"


def test_it_is_begun_again_only_where_it_waits_for_an_attempt() -> None:
    assert code("retry", step_status="blocked") is None
    assert code("retry", step_status="waiting") == "WAITS_FOR_DECISION"
    assert code("retry", step_status="blocked", execution_status="paused") == "PAUSED"


def test_a_remark_is_possible_while_the_execution_lives() -> None:
    assert code("annotate", step_status="completed") is None
    assert code("annotate", execution_status="failed") == "ALREADY_FINISHED"


def test_a_change_says_something_and_names_one_who_has_it() -> None:
    for body in ({}, {"reason": "because"}, {"agent_id": "a", "assignee": "ann"}, {"progress": 101}):
        with pytest.raises(ValidationError):
            TaskChange.model_validate(body)
    assert TaskChange(status="completed", output=None).said() == {}


def test_given_ids_are_each_tenants_own() -> None:
    ours, theirs = Caller("ada", "acme", "p", 0), Caller("eve", "evil", "p", 0)
    assert scoped(ours, "wf-1") != scoped(theirs, "wf-1")
    assert scoped(ours, scoped(theirs, "wf-1")) == scoped(theirs, "wf-1"), "a mark says whose it is, and opens nothing"
    assert plain(scoped(ours, "wf-1")) == "wf-1"
    assert may_be_given("wf-1")
    assert not may_be_given("6f0d5a1e-2c43-4b7e-9a55-0f6d1c2b7a10")
    assert not may_be_given(scoped(ours, "wf-1"))


def test_posted_tasks_have_ids_of_their_own_and_the_same_request_gives_the_same() -> None:
    tasks = [NewTask(workflow_id="w"), NewTask(id="x", workflow_id="w")]
    assert list(numbered(tasks, "r")) == list(numbered(tasks, "r"))
    with pytest.raises(Problem):
        numbered([tasks[1], tasks[1]], "r")
