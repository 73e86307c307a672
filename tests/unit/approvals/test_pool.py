"""Reviewers: who is on duty, who is chosen, and that nobody is given more than they can do."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from handrail_approvals.duty import next_change, on_duty
from handrail_approvals.pool import Pool
from handrail_contracts import topics
from handrail_contracts.approvals import ApprovalRequested
from handrail_contracts.envelope import utc
from handrail_contracts.reviewers import (
    Absence,
    ReviewAsked,
    ReviewAssigned,
    Reviewer,
    ReviewerDefined,
    ReviewReleased,
    WorkingHours,
    pool_id,
)
from hypothesis import given
from hypothesis import strategies as st
from unit.approvals.test_gates import GATE, common, submit
from unit.approvals.test_rules import direct, notices, refusal
from unit.stories import BEGAN, Gatekeeper

POOL = pool_id("acme", "p")
MONDAY = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Desk(Gatekeeper):
    """Gates and their pool on one partition, hearing each other."""

    heard: int = 0
    hears: bool = False

    def settle(self) -> list[str]:
        told = super().settle()
        if self.hears:
            return told
        self.hears = True
        while self.heard < len(self.said):
            message = self.said[self.heard]
            self.heard += 1
            if isinstance(message, ReviewAsked | ReviewAssigned | ReviewReleased):
                told += self.put(topics.REVIEWS, message)
        self.hears = False
        return told

    def define(self, name: str, removed: bool = False, **fields: Any) -> list[str]:
        reviewer = Reviewer(reviewer_id=name, **fields)
        message = ReviewerDefined(**of_pool(user_id="chief", reviewer=reviewer, removed=removed))
        return self.put(topics.REVIEWER_DEFINED, message)

    def ask(self, gate: str, **fields: Any) -> str | None:
        self.ask_quietly(gate, **fields)
        return self.chosen(gate)

    def ask_quietly(self, gate: str, **fields: Any) -> list[str]:
        whose = {"requester_id": f"run {gate}", "requester_workflow_id": "w", "approval_id": gate, "ask": 1}
        return self.put(topics.REVIEWS, ReviewAsked(**of_pool(**whose, **fields)))

    def release(self, gate: str) -> None:
        self.put(topics.REVIEWS, ReviewReleased(**of_pool(approval_id=gate, ask=1)))

    def chosen(self, gate: str) -> str | None:
        given = [e["reviewer_id"] for e in self.events if e["type"] == "review.given" and e["approval_id"] == gate]
        return given[-1] if given else None


def pool_of(story: Gatekeeper) -> Pool:
    found = story.machine.states[POOL]
    assert isinstance(found, Pool)
    return found


def of_pool(**fields: Any) -> dict[str, Any]:
    raw = common(execution_id=POOL, workflow_id="reviewers")
    del raw["approval_id"]
    return {**raw, **fields}


def staffed(**people: dict[str, Any]) -> Desk:
    desk = Desk()
    for name, fields in people.items():
        desk.define(name, **fields)
    return desk


def test_who_knows_the_subject_is_chosen_then_who_has_least_to_do() -> None:
    desk = staffed(amy={"specialties": ["billing"]}, bob={"specialties": ["billing", "refunds"]}, cy={})
    assert [desk.ask(f"g{n}", specialties=["billing"]) for n in range(3)] == ["amy", "bob", "amy"]
    assert desk.ask("g3", specialties=["refunds"]) == "bob"
    assert desk.ask("g4", specialties=["law"]) == "cy"


def test_nobody_has_more_than_they_can_do_and_the_urgent_come_first() -> None:
    desk = staffed(amy={"capacity": 1})
    assert desk.ask("first") == "amy"
    assert (desk.ask("low", priority=-1), desk.ask("urgent", priority=2), desk.ask("next", priority=2)) == (None,) * 3
    desk.release("first")
    assert (desk.chosen("urgent"), desk.chosen("next")) == ("amy", None)
    desk.release("next")
    desk.release("urgent")
    assert desk.chosen("low") == "amy"


def test_a_new_reviewer_takes_over_what_waits() -> None:
    desk = Desk()
    assert desk.ask("g") is None
    assert desk.define("amy") == ["reviewer.set", "review.given"]
    assert desk.define("amy") == []


def test_a_question_that_is_repeated_is_one_question() -> None:
    desk = staffed(amy={})
    assert [desk.ask("g"), desk.ask("g")] == ["amy", "amy"]
    desk.release("g")
    desk.ask("g")
    assert [event["type"] for event in desk.events].count("review.given") == 1


def test_reviewers_come_on_duty_in_their_own_time_zone() -> None:
    berlin = Reviewer(reviewer_id="amy", hours=WorkingHours(timezone="Europe/Berlin", start="09:00", end="17:00"))
    assert on_duty(berlin, MONDAY.replace(hour=8).timestamp())
    assert not on_duty(berlin, MONDAY.replace(hour=16).timestamp())
    friday_evening = MONDAY - timedelta(days=3) + timedelta(hours=8)
    assert next_change(berlin, friday_evening.timestamp()) == MONDAY.replace(hour=8).timestamp()


def test_who_is_out_of_office_is_not_chosen_until_they_are_back() -> None:
    away = Absence(start=utc(BEGAN - 1), end=utc(BEGAN + 3600), substitute="bob")
    desk = staffed(amy={"absences": [away]})
    assert desk.ask("g") is None
    assert desk.wait(3599) == []
    assert "review.given" in desk.wait(1)
    assert desk.chosen("g") == "amy"


@given(st.lists(st.tuples(st.sampled_from("ar"), st.integers(0, 30)), max_size=60))
def test_equal_reviewers_never_differ_by_more_than_one_while_nothing_is_given_back(moves: Any) -> None:
    desk = staffed(amy={"capacity": 100}, bob={"capacity": 100}, cy={"capacity": 100})
    open_: Counter[str] = Counter({"amy": 0, "bob": 0, "cy": 0})
    have: dict[str, str] = {}
    for kind, number in moves:
        gate = f"g{number}"
        if kind == "a" and gate not in have and desk.chosen(gate) is None:
            least = min(open_.values())
            chosen = desk.ask(gate)
            assert chosen is not None and open_[chosen] == least
            have[gate] = chosen
            open_[chosen] += 1
        elif kind == "r" and gate in have:
            desk.release(gate)
            open_[have.pop(gate)] -= 1


class Reviewed(Desk):
    def __init__(self, **rules: Any) -> None:
        super().__init__()
        for name in ("amy", "bob"):
            self.define(name)
        request = ApprovalRequested(
            **common(user_id="ann", step_id="review", message="ok?", rules={"assign": True, **rules})
        )
        self.command(topics.APPROVAL_REQUESTED, request)


def test_a_gate_gets_a_reviewer_who_alone_decides_and_is_free_then() -> None:
    story = Reviewed()
    assert notices(story) == [("asked", ("amy",))]
    submit(story, "bob")
    assert refusal(story) == "amy is to decide, not bob"
    submit(story, "amy")
    assert (pool_of(story).given, pool_of(story).waits) == ({}, {})


def test_who_gives_it_back_does_not_get_it_again() -> None:
    story = Reviewed()
    direct(story, "amy", "release")
    assert story.chosen(GATE) == "bob"
    submit(story, "bob")
    assert pool_of(story).given == {}


def test_four_eyes_hold_for_the_pool_too() -> None:
    story = Reviewed(four_eyes=True)
    assert story.chosen(GATE) == "amy"
    other = Desk()
    other.define("ann")
    request = common(user_id="ann", step_id="s", message="ok?", rules={"assign": True, "four_eyes": True})
    other.command(topics.APPROVAL_REQUESTED, ApprovalRequested(**request))
    assert other.chosen(GATE) is None


def test_escalation_by_specialty_asks_the_pool_anew() -> None:
    story = Reviewed(escalation=[{"after_seconds": 60, "specialties": ["law"]}], notify=True)
    story.define("judge", specialties=["law"])
    story.wait(60)
    assert notices(story) == [("asked", ("amy",)), ("asked", ("judge",))]
    assert story.chosen(GATE) == "judge"
    submit(story, "amy")
    assert refusal(story) == "judge is to decide, not amy"
    assert list(pool_of(story).given.values()) == ["judge"]


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc", ""])
def test_a_time_zone_that_nobody_knows_stops_nothing(name: str) -> None:
    assert isinstance(on_duty(Reviewer(reviewer_id="x", hours=WorkingHours(timezone=name)), BEGAN), bool)


def test_what_was_claimed_and_given_back_gets_another_reviewer() -> None:
    story = Reviewed()
    direct(story, "amy", "delegate", "cy")
    assert pool_of(story).given == {}
    direct(story, "cy", "release")
    assert story.chosen(GATE) == "bob"


def test_another_tenants_pool_assigns_nobody() -> None:
    story = Desk()
    request = common(user_id="ann", step_id="review", message="ok?", rules={"assign": True})
    story.command(topics.APPROVAL_REQUESTED, ApprovalRequested(**request))
    forged = common(organization_id="other", ask=1, reviewer_id="mallory")
    assert story.put(topics.REVIEWS, ReviewAssigned(**forged)) == []


def test_who_works_over_midnight_is_on_duty_on_both_sides_of_it() -> None:
    night = Reviewer(reviewer_id="amy", hours=WorkingHours(days=(5,), start="22:00", end="06:00"))
    friday = MONDAY - timedelta(days=3)
    hours = [friday.replace(hour=h) for h in (5, 21, 22, 23)] + [friday.replace(hour=5) + timedelta(days=1)]
    assert [on_duty(night, at.timestamp()) for at in hours] == [False, False, True, True, True]
    assert next_change(night, friday.timestamp()) == friday.replace(hour=22).timestamp()


def test_thousands_that_wait_are_assigned_in_several_records() -> None:
    desk = Desk()
    for number in range(1200):
        desk.ask_quietly(f"g{number}")
    assert desk.define("amy", capacity=1100).count("review.given") == 500
    desk.wait(0)
    records = [[event["type"] for event in record["value"].get("events", [])] for record in desk.journal]
    assert [given for types in records if (given := types.count("review.given"))] == [500, 500, 100]
    assert (len(pool_of(desk).given), len(pool_of(desk).waits)) == (1100, 100)


def test_before_the_pool_has_chosen_nobody_is_told_that_it_was_passed_on_to_them() -> None:
    levels = [{"after_seconds": 60, "specialties": ["law"]}]
    story = Desk()
    request = common(user_id="ann", step_id="s", message="ok?", rules={"escalation": levels, "notify": True})
    story.command(topics.APPROVAL_REQUESTED, ApprovalRequested(approvers=("bob",), **request))
    story.wait(60)
    assert notices(story) == [("asked", ("bob",))]
