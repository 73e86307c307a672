"""A tenant's reviewers, and who has which gate. Beside the gates in the same journal, with a story of its own."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, assert_never

import orjson
from handrail_contracts import topics
from handrail_contracts.envelope import JsonObject, utc
from handrail_contracts.ids import derive
from handrail_contracts.journal import Record
from handrail_contracts.reviewers import (
    AnyPoolEvent,
    PoolLookedAgain,
    ReviewAsked,
    ReviewAssigned,
    ReviewEnded,
    Reviewer,
    ReviewerDefined,
    ReviewerSet,
    ReviewGiven,
    ReviewQueued,
    ReviewReleased,
    pool_id,
)
from handrail_runtime.machine.core import Kind, Outgoing, Refused, Timer, TimerDue

from handrail_approvals.duty import next_change, on_duty

PACKED = b"P"
"""What the bytes of a packed pool begin with."""
LOOK = "look"
GIVEN_AT_ONCE = 500
"""What one record says; the pool looks again at once for those that are left."""
GIVEN_KEPT = 1000
"""Questions that lately came to their end: one that is repeated is not asked again."""
Emit = Callable[[AnyPoolEvent], None]


@dataclass(slots=True)
class Pool:
    """Changed by `evolve` alone. Questions are named `<gate>/<ask>`.

    `waits` are those without an answer, `given` says who has which, `turns` when each reviewer had their latest (by `n`).
    """

    execution_id: str
    organization_id: str = ""
    project_id: str = ""
    user_id: str = ""
    reviewers: dict[str, JsonObject] = field(default_factory=dict)
    waits: dict[str, JsonObject] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    turns: dict[str, int] = field(default_factory=dict)
    next_look: float | None = None
    n: int = 0
    workflow_id: str = "reviewers"

    def pack(self) -> bytes:
        return PACKED + zlib.compress(orjson.dumps(self), 1)

    @staticmethod
    def unpack(data: bytes) -> "Pool":
        return Pool(**orjson.loads(zlib.decompress(data[1:])))

    def knows(self, question: str) -> bool:
        return question in self.waits or question in self.given or question in self.ended


def _question(approval_id: str, ask: int) -> str:
    return f"{approval_id}/{ask}"


def decide(state: Pool, message: Any, now: float, emit: Emit) -> None:
    if not isinstance(message, TimerDue) and pool_id(message.organization_id, message.project_id) != state.execution_id:
        raise Refused("FORBIDDEN", "the reviewers are another tenant's")
    match message:
        case ReviewerDefined():
            _define(state, message, emit)
        case ReviewAsked():
            if not state.knows(_question(message.approval_id, message.ask)):
                emit(_queued(state, message))
        case ReviewReleased():
            if _question(message.approval_id, message.ask) not in state.ended:
                emit(ReviewEnded(n=state.n + 1, approval_id=message.approval_id, ask=message.ask))
        case TimerDue():
            pass
        case _:
            raise Refused("RESERVED_ID", f"{type(message).__name__} can't be about {state.execution_id}")
    more = _assign(state, now, emit)
    if (
        more
        or isinstance(message, ReviewerDefined)
        or state.next_look is None
        or state.next_look <= now
        or not state.waits
    ):
        _look_later(state, now, emit, at_once=more)


def _define(state: Pool, message: ReviewerDefined, emit: Emit) -> None:
    if not message.removed and state.reviewers.get(message.reviewer.reviewer_id) == _raw(message.reviewer):
        return
    emit(
        ReviewerSet(
            n=state.n + 1, organization_id=message.organization_id, project_id=message.project_id, by=message.user_id,
            reviewer=message.reviewer, removed=message.removed,
        )
    )  # fmt: skip


def _raw(reviewer: Reviewer) -> JsonObject:
    return reviewer.model_dump(mode="json", exclude_defaults=True)


def _queued(state: Pool, message: ReviewAsked) -> ReviewQueued:
    told = message.model_dump(include=set(ReviewQueued.model_fields) - {"type", "n"})
    return ReviewQueued(n=state.n + 1, **told)


def _assign(state: Pool, now: float, emit: Emit) -> bool:
    """Who waits and for whom there is somebody, the most urgent first. True if there may be more than one record can say."""
    if not state.waits:
        return False
    people = _people(state)
    load, given, nobody = loads(state), 0, set[str]()
    free = [person for person in people if on_duty(person, now) and load.get(person.reviewer_id, 0) < person.capacity]
    if not free:
        return False
    for question, wish in sorted(state.waits.items(), key=lambda item: (-item[1]["priority"], item[1]["n"])):
        if not free or given == GIVEN_AT_ONCE:
            break
        if (kind := repr((wish["specialties"], wish["exclude"]))) in nobody:
            continue
        chosen = _choose(state, wish, people, free, load)
        if chosen is None:
            nobody.add(kind)
            continue
        emit(_given(state, question, wish, chosen.reviewer_id))
        given, load[chosen.reviewer_id] = given + 1, load.get(chosen.reviewer_id, 0) + 1
        if load[chosen.reviewer_id] >= chosen.capacity:
            free.remove(chosen)
    return given == GIVEN_AT_ONCE


def _people(state: Pool) -> list[Reviewer]:
    return [_read(orjson.dumps(raw)) for raw in state.reviewers.values()]


@lru_cache(maxsize=10_000)
def _read(raw: bytes) -> Reviewer:
    """Each pool reads all of its reviewers for every gate that waits."""
    return Reviewer.model_validate_json(raw)


def _given(state: Pool, question: str, wish: JsonObject, reviewer_id: str) -> ReviewGiven:
    approval_id, _, ask = question.rpartition("/")
    return ReviewGiven(
        n=state.n + 1, approval_id=approval_id, ask=int(ask), reviewer_id=reviewer_id,
        requester_id=wish["requester_id"], requester_workflow_id=wish["workflow_id"],
    )  # fmt: skip


def _choose(
    state: Pool, wish: JsonObject, people: list[Reviewer], free: list[Reviewer], load: dict[str, int]
) -> Reviewer | None:
    """Who knows the subject; if nobody in the whole pool does, anybody. Of those who has least to do.

    Of equals, whose latest turn is longest ago.
    """
    wanted, barred = set(wish["specialties"]), set(wish["exclude"])
    knows = {person.reviewer_id for person in people if wanted <= set(person.specialties)} - barred
    able = [p for p in free if p.reviewer_id not in barred and (not knows or p.reviewer_id in knows)]
    return min(
        able, key=lambda p: (load.get(p.reviewer_id, 0), state.turns.get(p.reviewer_id, 0), p.reviewer_id), default=None
    )


def loads(state: Pool) -> dict[str, int]:
    """How many gates each has now."""
    found: dict[str, int] = {}
    for person in state.given.values():
        found[person] = found.get(person, 0) + 1
    return found


def _look_later(state: Pool, now: float, emit: Emit, *, at_once: bool) -> None:
    """A timer for when somebody comes on duty, while there is somebody who waits."""
    moments = _next_moments(state, now) if state.waits else ()
    soonest = now if at_once and state.waits else min(moments, default=None)
    if (at_once or soonest != state.next_look) and (soonest is not None or state.next_look is not None):
        emit(PoolLookedAgain(n=state.n + 1, next_look=None if soonest is None else utc(soonest)))


def _next_moments(state: Pool, now: float) -> Iterator[float]:
    for reviewer in _people(state):
        if (moment := next_change(reviewer, now)) is not None:
            yield moment


def evolve(state: Pool, event: AnyPoolEvent, record: Record) -> None:
    state.n = event.n
    match event:
        case ReviewerSet():
            state.organization_id, state.project_id, state.user_id = event.organization_id, event.project_id, event.by
            name = event.reviewer.reviewer_id
            if event.removed:
                state.reviewers.pop(name, None)
                state.turns.pop(name, None)
            else:
                state.reviewers[name] = _raw(event.reviewer)
        case ReviewQueued():
            state.organization_id, state.project_id = event.organization_id, event.project_id
            wish = event.model_dump(include={"n", "specialties", "priority", "exclude", "requester_id"})
            wish |= {"workflow_id": event.requester_workflow_id}
            state.waits[_question(event.approval_id, event.ask)] = wish
        case ReviewGiven():
            question = _question(event.approval_id, event.ask)
            state.waits.pop(question, None)
            state.given[question], state.turns[event.reviewer_id] = event.reviewer_id, event.n
        case ReviewEnded():
            question = _question(event.approval_id, event.ask)
            state.waits.pop(question, None)
            state.given.pop(question, None)
            state.ended = [*state.ended, question][-GIVEN_KEPT:]
        case PoolLookedAgain():
            state.next_look = None if event.next_look is None else event.next_look.timestamp()
        case _:
            assert_never(event)


def react(state: Pool, event: AnyPoolEvent, record: Record) -> Iterable[Outgoing]:
    """A fact: said once it is certain."""
    return (_assigned(state, event, record.at),) if isinstance(event, ReviewGiven) else ()


def _assigned(state: Pool, event: ReviewGiven, at: datetime) -> Outgoing:
    message = ReviewAssigned(
        event_id=derive(event.approval_id, "assigned", event.ask),
        occurred_at=at,
        execution_id=event.requester_id,
        workflow_id=event.requester_workflow_id,
        organization_id=state.organization_id,
        project_id=state.project_id,
        approval_id=event.approval_id,
        ask=event.ask,
        reviewer_id=event.reviewer_id,
    )
    return Outgoing(Kind.FACT, topics.REVIEWS, event.requester_id, message)


def timers(event: Any) -> Iterable[Timer]:
    if isinstance(event, PoolLookedAgain) and event.next_look is not None:
        return (Timer(event.next_look.timestamp(), LOOK),)
    return ()


def live_timers(state: Pool) -> Iterable[Timer]:
    return () if state.next_look is None else (Timer(state.next_look, LOOK),)
