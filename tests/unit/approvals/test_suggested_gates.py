"""Suggestions at their gate: sent back, revised, corrected, decided once."""

from typing import Any
from uuid import uuid4

import pytest
from handrail_contracts import topics
from handrail_contracts.approvals import (
    ApprovalDecided,
    ApprovalSubmitted,
    ApprovalWithdrawn,
    CommentAdded,
    SuggestionCreated,
    SuggestionRevisionRequested,
)
from handrail_contracts.envelope import utc
from unit.stories import BEGAN, EXECUTION, Gatekeeper

GATE = str(uuid4())
MAIL = {"recipient": "jane@example.com", "body": "Hi"}


class Suggested(Gatekeeper):
    def __init__(self, **fields: Any) -> None:
        super().__init__()
        self.suggest(**fields)

    def common(self, **fields: Any) -> dict[str, Any]:
        return {
            "event_id": str(uuid4()), "occurred_at": utc(BEGAN), "execution_id": EXECUTION, "workflow_id": "w",
            "organization_id": "acme", "project_id": "p", **fields,
        }  # fmt: skip

    def suggest(self, revision: int = 1, **fields: Any) -> list[str]:
        told = {"step_id": "draft", "agent": "writer", "action": "send", "confidence": 0.9, "suggested_data": MAIL}
        message = SuggestionCreated(**self.common(suggestion_id=GATE, revision=revision, **told, **fields))
        return self.put(topics.SUGGESTION_CREATED, message)

    def comment(self, text: str, by: str = "sarah", **fields: Any) -> list[str]:
        message = CommentAdded(**self.common(user_id=by, suggestion_id=GATE, text=text, **fields))
        return self.put(topics.COMMENT_ADDED, message)

    def submit(self, decision: Any = "approved", by: str = "sarah", **fields: Any) -> list[str]:
        message = ApprovalSubmitted(**self.common(user_id=by, approval_id=GATE, decision=decision, **fields))
        return self.put(topics.APPROVAL_SUBMITTED, message)

    def sent_back(self) -> list[tuple[int, str, str]]:
        found = [message for message in self.said if isinstance(message, SuggestionRevisionRequested)]
        return [(message.revision, message.user_id, message.comment) for message in found]

    def decisions(self) -> list[ApprovalDecided]:
        return [message for message in self.said if isinstance(message, ApprovalDecided)]


def test_taken_back_before_it_came_it_is_not_shown_to_anybody() -> None:
    story = Suggested.__new__(Suggested)
    Gatekeeper.__init__(story)
    gone = ApprovalWithdrawn(**story.common(approval_id=GATE))
    assert story.command(topics.APPROVAL_REQUESTED, gone) == ["approval.closed"]
    assert story.command(topics.APPROVAL_REQUESTED, gone) == []
    assert (story.suggest(), story.submit()) == ([], [])


def test_a_comment_sends_it_back_and_the_revision_is_what_people_see() -> None:
    story = Suggested()
    assert story.comment("add a link") == ["approval.commented"]
    assert story.sent_back() == [(1, "sarah", "add a link")]
    assert story.suggest(2, comment="there it is") == ["suggestion.revised", "approval.commented"]
    assert (story.events[-1]["author"], story.events[-1]["author_type"]) == ("writer", "agent")
    story.submit(data={"body": "mine"})
    [decided] = story.decisions()
    assert (decided.decision, decided.decided_by, decided.data) == ("approved", "sarah", {"body": "mine"})
    assert decided.revision == 2


def test_once_it_was_revised_as_often_as_it_may_be_a_comment_is_a_comment() -> None:
    story = Suggested()
    story.comment("shorter")
    story.comment("and friendlier")
    assert story.suggest(2, revisable=False) == ["suggestion.revised"]
    story.comment("once more")
    assert [told[0] for told in story.sent_back()] == [1]


def test_of_very_many_comments_the_latest_go_to_the_agent_together() -> None:
    story = Suggested()
    story.comment("shorter")
    for number in range(120):
        story.comment(f"{number} ".ljust(10_000, "."))
    assert story.suggest(2) == ["suggestion.revised", "approval.commented"]
    assert story.sent_back()[-1][2].startswith("100 ")


def test_nobody_is_asked_about_what_was_taken_back_before_it_arrived() -> None:
    story = Suggested.__new__(Suggested)
    Gatekeeper.__init__(story)
    gone = ApprovalWithdrawn(**story.common(approval_id=GATE, reason="cancelled"))
    story.command(topics.APPROVAL_REQUESTED, gone)
    assert story.suggest() == []
    assert story.command(topics.APPROVAL_REQUESTED, gone) == []


def test_what_is_said_while_it_is_revised_sends_the_revision_back() -> None:
    story = Suggested()
    story.comment("shorter")
    story.comment("and friendlier")
    story.comment("and in French")
    assert len(story.sent_back()) == 1
    story.suggest(2)
    assert story.sent_back()[1:] == [(2, "", "and friendlier\nand in French")]


def test_a_revision_comes_once() -> None:
    story = Suggested()
    story.comment("shorter")
    assert story.suggest(2) == ["suggestion.revised"]
    assert story.suggest(2) == []
    assert story.suggest(1) == []


def test_who_may_not_decide_may_not_send_back_either_and_a_remark_need_not() -> None:
    story = Suggested(approvers=("sarah",))
    story.comment("I would rather not", by="eve")
    story.comment("just so that you know", revise=False)
    assert story.sent_back() == []
    assert [event["text"] for event in story.events if event["type"] == "approval.commented"] == [
        "I would rather not", "just so that you know",
    ]  # fmt: skip


def test_an_approval_of_what_was_revised_meanwhile_does_not_count() -> None:
    story = Suggested()
    story.comment("shorter")
    story.suggest(2)
    assert story.submit(revision=1) == ["approval.refused"]
    assert "has revision 2 by now" in story.events[-1]["reason"]
    assert story.submit(revision=2) == ["approval.voted", "approval.closed"]


@pytest.mark.parametrize(("least", "closed"), [(0.9, True), (0.95, False), (None, False)])
def test_policy_approves_from_its_confidence_on(least: float | None, closed: bool) -> None:
    story = Suggested(auto_approve_above=least)
    assert [(decided.decision, decided.decided_by) for decided in story.decisions()] == [
        ("approved", "policy")
    ] * closed
    assert "approval.opened" in [event["type"] for event in story.events], "people see that it was there"


def test_policy_does_not_approve_what_a_person_has_sent_back() -> None:
    story = Suggested(auto_approve_above=0.95)
    story.comment("shorter")
    story.suggest(2, auto_approve_above=0.5)
    assert story.decisions() == []


def test_nobody_from_elsewhere_has_a_word() -> None:
    story = Suggested()
    message = CommentAdded(**{**story.common(user_id="eve", suggestion_id=GATE, text="hi"), "organization_id": "other"})
    assert story.put(topics.COMMENT_ADDED, message) == []
    assert story.sent_back() == []
    assert [rejected.code for rejected in story.rejected] == ["FORBIDDEN"]


def test_it_survives_being_packed() -> None:
    story = Suggested()
    story.comment("shorter")
    story.comment("and friendlier")
    core = story.machine.core
    [state] = story.machine.states.values()
    state = core.unpack(state) if isinstance(state, bytes) else state
    assert core.unpack(core.pack(state)) == state
