"""Gates that several people decide on, that are handed on, and that do not wait for ever for the same person."""

from typing import Any

import pytest
from handrail_contracts import topics
from handrail_contracts.approvals import ApprovalDecided, ApprovalDirected, ApprovalRequested, CommentAdded
from handrail_contracts.envelope import utc
from handrail_contracts.gates import digest_of
from handrail_contracts.notifications import NotificationDelivered, NotificationRequested
from unit.approvals.test_gates import GATE, common, opened, submit
from unit.stories import BEGAN, Gatekeeper

TRIO = ("ann2", "bob", "cy")
ENDED = ["approval.voted", "approval.closed"]


def ruled(approvers: tuple[str, ...] = TRIO, **rules: Any) -> Gatekeeper:
    return opened(approvers=approvers, rules=rules)


def direct(story: Gatekeeper, by: str, action: str, to: str = "", **fields: Any) -> list[str]:
    return story.put(topics.APPROVAL_SUBMITTED, ApprovalDirected(**common(user_id=by, action=action, to=to, **fields)))


def outcome(story: Gatekeeper) -> list[str]:
    return [message.decision for message in story.said if isinstance(message, ApprovalDecided)]


def notices(story: Gatekeeper) -> list[tuple[str, tuple[str, ...]]]:
    return [(said.kind, said.to) for said in story.said if isinstance(said, NotificationRequested)]


def refusal(story: Gatekeeper) -> str:
    assert story.events[-1]["type"] == "approval.refused"
    return str(story.events[-1]["reason"])


def test_all_have_to_approve_and_one_rejection_ends_it() -> None:
    story = ruled(require="all")
    assert [submit(story, person) for person in TRIO] == [["approval.voted"], ["approval.voted"], ENDED]
    assert outcome(story) == ["approved"]
    other = ruled(require="all")
    submit(other, "bob")
    assert submit(other, "cy", "rejected") == ENDED
    assert outcome(other) == ["rejected"]


def test_two_of_three_bear_one_rejection_and_not_two() -> None:
    story = ruled(require=2)
    assert [submit(story, "cy", "rejected"), submit(story, "bob"), submit(story, "ann2")][1:] == [
        ["approval.voted"],
        ENDED,
    ]
    assert outcome(story) == ["approved"]
    other = ruled(require=2)
    submit(other, "bob", "rejected")
    assert submit(other, "cy", "rejected") == ENDED
    assert outcome(other) == ["rejected"]


def test_two_of_anybody() -> None:
    story = ruled((), require=2)
    assert (submit(story, "x"), submit(story, "y")) == (["approval.voted"], ENDED)


def test_in_order_each_waits_for_the_one_before() -> None:
    story = ruled(require="in_order", notify=True)
    submit(story, "bob")
    assert refusal(story) == "it is ann2's turn to decide"
    assert [submit(story, person) for person in TRIO][-1] == ENDED
    assert notices(story) == [("asked", ("ann2",)), ("asked", ("bob",)), ("asked", ("cy",))]


def test_nobody_votes_twice_and_the_same_vote_again_changes_nothing() -> None:
    story = ruled(require="all")
    assert submit(story, "bob", event_id="one") == ["approval.voted"]
    assert submit(story, "bob", event_id="one") == []
    submit(story, "bob", "rejected")
    assert refusal(story) == "bob has decided before: approved"


def test_with_four_eyes_the_starter_decides_nothing_nor_through_another() -> None:
    story = ruled((), four_eyes=True)
    submit(story, "ann")
    assert refusal(story) == "ann has started the execution, and somebody else has to decide"
    submit(story, "ann", on_behalf_of="bob")
    assert "somebody else has to decide" in refusal(story)
    direct(story, "bob", "delegate", "ann")
    assert "somebody else has to decide" in refusal(story)
    assert submit(story, "bob") == ENDED


def test_a_substitute_speaks_for_the_approver_and_both_are_on_record() -> None:
    story = ruled(("bob",))
    submit(story, "sub")
    assert refusal(story) == "sub is not among the approvers"
    submit(story, "sub", on_behalf_of="bob")
    vote = story.events[-2]
    assert (vote["by"], vote["on_behalf_of"]) == ("sub", "bob")


def test_a_decision_says_from_where_and_on_what() -> None:
    story = opened(show={"amount": 7})
    digest = digest_of("ok?", {"amount": 7}, {}, None)
    assert story.events[-1]["digest"] == digest
    submit(story, "bob", digest="0" * 64)
    assert refusal(story) == "what is shown has changed since it was looked at"
    submit(story, "bob", digest=digest, origin={"via": "api", "address": "192.0.2.1"})
    vote = story.events[-2]
    assert (vote["digest"], vote["origin"]["address"]) == (digest, "192.0.2.1")


def test_who_claims_has_it_alone_until_it_is_released() -> None:
    story = ruled()
    assert direct(story, "bob", "claim", event_id="c") == ["approval.handed"]
    assert direct(story, "bob", "claim", event_id="c") == []
    submit(story, "cy")
    assert refusal(story) == "bob is to decide, not cy"
    direct(story, "cy", "release")
    assert refusal(story) == "bob has it, not cy"
    direct(story, "bob", "release")
    assert submit(story, "cy") == ENDED


def test_strangers_claim_nothing_and_what_several_decide_nobody_has_alone() -> None:
    story = ruled(require="all")
    direct(story, "eve", "claim")
    assert refusal(story) == "eve is not among the approvers"
    direct(story, "bob", "claim")
    assert "nobody can have it alone" in refusal(story)


def test_a_vote_can_be_passed_on() -> None:
    story = ruled(require="all")
    assert direct(story, "bob", "delegate", "dan", comment="on holiday") == ["approval.handed"]
    submit(story, "bob")
    assert refusal(story) == "bob is not among the approvers"
    direct(story, "cy", "delegate", "dan")
    assert refusal(story) == "dan is asked already"
    assert [submit(story, person) for person in ("ann2", "cy", "dan")][-1] == ENDED


def test_reminders_come_in_time_and_stop_with_the_decision() -> None:
    story = ruled(("bob",), remind_after_seconds=[60, 120], notify=True)
    assert (story.wait(59), story.wait(1)) == ([], ["approval.reminded"])
    submit(story, "bob")
    assert story.wait(1000) == []
    assert notices(story) == [("asked", ("bob",)), ("reminder", ("bob",))]


def test_escalation_asks_others_instead_level_by_level() -> None:
    levels = [{"after_seconds": 60, "approvers": ["lead"]}, {"after_seconds": 120, "approvers": ["chief"]}]
    story = opened(approvers=("bob",), deadline=utc(BEGAN + 180), rules={"escalation": levels, "notify": True})
    assert story.wait(60) == ["approval.handed"]
    submit(story, "bob")
    assert refusal(story) == "bob is not among the approvers"
    assert story.wait(60) == ["approval.handed"]
    assert [people for kind, people in notices(story) if kind == "escalated"] == [("lead",), ("chief",)]
    assert story.wait(60) == ["approval.closed"]
    assert outcome(story) == ["expired"]


def test_timers_are_the_same_after_a_snapshot() -> None:
    rules = {"remind_after_seconds": [60], "escalation": [{"after_seconds": 90, "approvers": ["lead"]}]}
    story = opened(deadline=utc(BEGAN + 120), rules=rules)
    [packed] = story.machine.states.values()
    timers = story.machine.core.live_timers(story.machine.core.unpack(packed))
    assert [timer.due - BEGAN for timer in timers] == [120, 60, 90]


def test_who_is_mentioned_in_a_comment_is_told() -> None:
    story = ruled()
    text = "@bob and @cy@example.com, look at a@b.example; @bob?"
    story.put(topics.COMMENT_ADDED, CommentAdded(**common(user_id="ann", text=text)))
    assert notices(story) == [("mention", ("bob", "cy@example.com"))]


def test_a_callback_is_asked_for_with_the_decision() -> None:
    story = opened(rules={"callback": "https://example.com/done"})
    submit(story, "bob", "rejected", comment="no")
    [said] = [message for message in story.said if isinstance(message, NotificationRequested)]
    assert (said.callback, said.body["decision"], said.body["decided_by"]) == (
        "https://example.com/done",
        "rejected",
        "bob",
    )
    told = NotificationDelivered(**common(notification_id="n", kind="decided", status="failed", reason="503"))
    assert story.put(topics.NOTIFICATION_DELIVERED, told) == ["approval.notified"]


@pytest.mark.parametrize("require", ["all", 2])
def test_what_several_decide_on_nobody_changes_alone(require: Any) -> None:
    from unit.approvals.test_suggested_gates import Suggested

    story = Suggested(approvers=TRIO, rules={"require": require})
    story.submit(by="bob", data={"body": "mine"})
    assert "none of them can change it" in refusal(story)
    assert story.submit(by="bob") == ["approval.voted"]
    story.comment("shorter", by="bob")
    story.suggest(2, rules={"require": require})
    assert story.submit(by="bob", revision=2) == ["approval.voted"]


def test_whose_vote_came_before_somebody_was_assigned_does_not_decide_for_them() -> None:
    from unit.approvals.test_pool import Desk

    story = Desk()
    story.define("judge", specialties=["law"], capacity=0)
    rules = {"require": 2, "escalation": [{"after_seconds": 60, "specialties": ["law"]}]}
    request = ApprovalRequested(**common(user_id="ann", step_id="s", message="ok?", approvers=TRIO, rules=rules))
    story.command(topics.APPROVAL_REQUESTED, request)
    story.wait(60)
    submit(story, "eve")
    assert refusal(story) == "eve is not among the approvers"
    submit(story, "bob")
    story.define("judge", specialties=["law"])
    submit(story, "judge", "rejected")
    assert outcome(story) == ["rejected"]


def test_whose_starter_has_no_name_is_decided_by_anybody_in_spite_of_four_eyes() -> None:
    story = Gatekeeper()
    request = ApprovalRequested(**common(step_id="review", message="ok?", rules={"four_eyes": True}))
    story.command(topics.APPROVAL_REQUESTED, request)
    assert submit(story, "bob", origin={"via": "api"}) == ENDED


def test_nobody_votes_twice_through_a_key_of_their_own_nor_as_a_substitute() -> None:
    story = ruled((), require=2)
    submit(story, "bob")
    submit(story, "key:k1", origin={"person": "bob"})
    assert refusal(story) == "bob has decided before, under another name"
    other = ruled(require=2)
    submit(other, "bob", on_behalf_of="ann2")
    submit(other, "bob")
    assert refusal(other) == "bob has decided before, under another name"
    assert submit(other, "cy") == ENDED


def test_what_two_of_anybody_decide_is_not_passed_on_to_one() -> None:
    story = ruled((), require=2)
    direct(story, "bob", "delegate", "dan")
    assert "nobody can have it alone" in refusal(story)


def test_whoever_has_it_alone_may_pass_it_to_another_approver() -> None:
    story = ruled()
    direct(story, "bob", "claim")
    assert direct(story, "bob", "delegate", "cy") == ["approval.handed"]
    assert story.events[-1]["approvers"] == list(TRIO)
    submit(story, "bob")
    assert refusal(story) == "cy is to decide, not bob"
    direct(story, "cy", "release")
    assert submit(story, "bob") == ENDED


def test_where_an_escalation_asks_fewer_than_it_takes_all_of_them_decide() -> None:
    story = ruled(require=2, escalation=[{"after_seconds": 60, "approvers": ["chief"]}])
    story.wait(60)
    assert submit(story, "chief") == ENDED
    assert outcome(story) == ["approved"]


def test_what_was_reminded_of_before_a_restart_is_not_said_again() -> None:
    story = ruled(("bob",), remind_after_seconds=[60, 120], notify=True)
    story.wait(60)
    [packed] = story.machine.states.values()
    story.machine.restore_state(packed if isinstance(packed, bytes) else packed.pack())
    assert (story.wait(1), story.wait(59)) == ([], ["approval.reminded"])


def test_giving_back_again_and_again_takes_no_more_room() -> None:
    from unit.approvals.test_pool import Reviewed

    story = Reviewed()
    direct(story, "amy", "release")
    direct(story, "bob", "release")
    for _ in range(30):
        direct(story, "cy", "claim")
        direct(story, "cy", "release")
    [gate] = [s for s in map(story.machine.core.unpack, packs(story)) if hasattr(s, "gates")]
    assert gate.gates[GATE].passed == ["amy", "bob", "cy"]
    assert len(gate.gates[GATE].requests) == 20


def packs(story: Gatekeeper) -> list[bytes]:
    return [state if isinstance(state, bytes) else state.pack() for state in story.machine.states.values()]
