"""What the approvals service decides, example by example."""

from typing import Any
from uuid import uuid4

import pytest
from handrail_contracts import topics
from handrail_contracts.approvals import (
    ApprovalDecided,
    ApprovalRequested,
    ApprovalSubmitted,
    ApprovalWithdrawn,
    CommentAdded,
)
from handrail_contracts.envelope import utc
from unit.stories import BEGAN, EXECUTION, Gatekeeper

GATE = str(uuid4())


def common(**fields: Any) -> dict[str, Any]:
    return {
        "event_id": str(uuid4()), "occurred_at": utc(BEGAN), "execution_id": EXECUTION, "workflow_id": "w",
        "organization_id": "acme", "project_id": "p", "approval_id": GATE, **fields,
    }  # fmt: skip


def opened(**fields: Any) -> Gatekeeper:
    story = Gatekeeper()
    request = ApprovalRequested(**common(user_id="ann", step_id="review", message="ok?", **fields))
    assert story.command(topics.APPROVAL_REQUESTED, request) == ["approval.opened"]
    return story


def submit(story: Gatekeeper, by: str, decision: str = "approved", **fields: Any) -> list[str]:
    return story.put(topics.APPROVAL_SUBMITTED, ApprovalSubmitted(**common(user_id=by, decision=decision, **fields)))


def decisions(story: Gatekeeper) -> list[tuple[str, str]]:
    return [(m.decision, m.decided_by) for m in story.said if isinstance(m, ApprovalDecided)]


@pytest.mark.parametrize("decision", ["approved", "rejected"])
def test_a_person_decides(decision: str) -> None:
    story = opened()
    assert submit(story, "bob", decision, comment="fine") == ["approval.voted", "approval.closed"]
    assert decisions(story) == [(decision, "bob")]


def test_the_first_decision_counts_and_later_ones_change_nothing() -> None:
    story = opened()
    submit(story, "bob")
    assert submit(story, "eve", "rejected") == []
    assert decisions(story) == [("approved", "bob")]


def test_only_approvers_decide_and_a_refusal_is_on_record() -> None:
    story = opened(approvers=("bob",))
    assert submit(story, "eve") == ["approval.refused"]
    assert "eve is not among the approvers" in story.events[-1]["reason"]
    assert submit(story, "bob") == ["approval.voted", "approval.closed"]


def test_nobody_fills_the_journal_with_refusals() -> None:
    story = opened(approvers=("bob",))
    assert sum(len(submit(story, "eve")) for _ in range(200)) == 100
    assert submit(story, "bob") == ["approval.voted", "approval.closed"]


def test_another_tenant_is_refused_with_a_reason() -> None:
    story = opened()
    assert submit(story, "mallory", organization_id="other") == []
    assert [(rejected.code, rejected.reason) for rejected in story.rejected] == [
        ("FORBIDDEN", "the approval belongs to another tenant")
    ]


def test_a_deadline_closes_the_gate_and_a_late_decision_changes_nothing() -> None:
    story = opened(deadline=utc(BEGAN + 60))
    assert story.wait(59) == []
    assert story.wait(1) == ["approval.closed"]
    assert submit(story, "bob") == []
    assert decisions(story) == [("expired", "")]


def test_a_withdrawn_gate_says_nothing_and_the_request_for_it_does_not_open_it_again() -> None:
    story = opened()
    withdrawn = ApprovalWithdrawn(**common(user_id="ann", reason="the execution ended"))
    assert story.command(topics.APPROVAL_REQUESTED, withdrawn) == ["approval.closed"]
    again = ApprovalRequested(**common(user_id="ann", step_id="review", message="ok?"))
    assert story.command(topics.APPROVAL_REQUESTED, again) == []
    assert decisions(story) == []


def test_a_comment_is_kept_and_decides_nothing() -> None:
    story = opened()
    assert story.put(topics.COMMENT_ADDED, CommentAdded(**common(user_id="bob", text="why?"))) == ["approval.commented"]
    assert decisions(story) == []


def test_a_decision_on_nothing_is_a_dead_letter() -> None:
    story = Gatekeeper()
    assert submit(story, "bob") == []
    assert [rejected.code for rejected in story.rejected] == ["UNKNOWN_APPROVAL"]
