"""Budgets: what attempts of agents may use together. Beside executions in the same journal, like queues.

What is reserved is the sum of what is open, and never stored. Who waits is looked at again when something comes back, when a
person has raised the limits, and now and then.
"""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import orjson
from handrail_contracts import topics
from handrail_contracts.budgets import (
    DIMENSIONS,
    MOST,
    AnyBudgetEvent,
    BudgetAnswered,
    BudgetAsked,
    BudgetExhausted,
    BudgetLookedAgain,
    BudgetRenewed,
    BudgetReserved,
    BudgetReturned,
    BudgetSet,
    BudgetSettled,
    Limits,
    Period,
)
from handrail_contracts.envelope import tenant_of, utc
from handrail_contracts.ids import derive
from handrail_contracts.journal import Record
from handrail_runtime.machine.core import Kind, Outgoing, Timer

PACKED = b"B"
"""What the bytes of a packed budget begin with."""
PART = {"tokens": 10, "cost_usd": 10, "calls": 10, "seconds": 1}
"""An attempt gets this part of what a budget allows at most, and asks again when it has used it: others get theirs, too."""
LEAST = {"tokens": 1000, "cost_usd": 0.01, "calls": 1, "seconds": 1}
SETTLED_KEPT = 100
"""Attempts that gave back lately: one that asks again, because its question was repeated, gets nothing."""
FIRST_LOOK, LONGEST_PAUSE = 1.0, 3600.0
UNLIMITED = Limits()
_WORDS = {"tokens": "tokens", "cost_usd": "US dollars", "calls": "model calls", "seconds": "seconds"}


@dataclass(slots=True)
class Waiting:
    """An attempt that nothing is left for, with what its definition allows it."""

    requester_id: str
    step_id: str
    run_id: str
    attempt: int
    own_limits: dict[str, Any] | None


@dataclass(slots=True)
class Budget:
    """Changed by `evolve` alone. `open` is what attempts may use, by attempt; `waits` are those that get nothing yet;
    `settled` are those that lately gave back what they had.
    """

    execution_id: str
    workflow_id: str = ""
    user_id: str = ""
    organization_id: str = ""
    project_id: str = ""
    scope: str = ""
    name: str = ""
    period: str = "total"
    period_start: str = ""
    spent: dict[str, float] = field(default_factory=dict)
    open: dict[str, dict[str, Any]] = field(default_factory=dict)
    waits: dict[str, Waiting] = field(default_factory=dict)
    settled: list[str] = field(default_factory=list)
    look_again: float | None = None
    pause: float = FIRST_LOOK
    n: int = 0

    def pack(self) -> bytes:
        return PACKED + zlib.compress(orjson.dumps(asdict(self)), 1)

    @staticmethod
    def unpack(data: bytes) -> "Budget":
        raw = orjson.loads(zlib.decompress(data[1:]))
        raw["waits"] = {key: Waiting(**waiting) for key, waiting in raw["waits"].items()}
        return Budget(**raw)


Emit = Callable[[Any], None]


Asking = BudgetAsked | BudgetReturned | BudgetReserved | BudgetExhausted | BudgetSettled
"""What is about one attempt."""


def _key(asking: Asking) -> str:
    return f"{asking.requester_id}/{asking.run_id}/{asking.attempt}"


def decide(
    state: Budget, message: BudgetAsked | BudgetReturned, found: BudgetSet | None, now: float, emit: Emit
) -> None:
    """`found` is what people have set, if anything."""
    _renew(state, found, now, emit)
    key = _key(message)
    if isinstance(message, BudgetReturned):
        if key in state.open or key in state.waits:
            returned = message.model_dump(include={"requester_id", "run_id", "attempt", "used"})
            emit(BudgetSettled(n=state.n + 1, **returned))
            _serve(state, found, now, emit)
    elif key not in state.open and key not in state.waits and key not in state.settled:
        asked = message.model_dump(include={"requester_id", "step_id", "run_id", "attempt"})
        about = {"scope": message.scope, "name": message.name, **tenant_of(message)}
        _answer(state, asked, about, found, message.limits, now, emit)


def look_again(state: Budget, found: BudgetSet | None, now: float, emit: Emit) -> None:
    if not state.waits:
        return
    _renew(state, found, now, emit)
    _serve(state, found, now, emit)
    if state.waits:
        emit(BudgetLookedAgain(n=state.n + 1, look_again=utc(now + state.pause)))


def _serve(state: Budget, found: BudgetSet | None, now: float, emit: Emit) -> None:
    """In the order in which they came, as far as it goes."""
    for waiting in list(state.waits.values()):
        own = None if waiting.own_limits is None else Limits.model_validate(waiting.own_limits)
        if _why_not(state, _limits(found, own)):
            return
        _answer(state, _asked(waiting), _about(state), found, own, now, emit)


def _asked(waiting: Waiting) -> dict[str, Any]:
    return {name: getattr(waiting, name) for name in ("requester_id", "step_id", "run_id", "attempt")}


def _about(state: Budget) -> dict[str, Any]:
    return {"scope": state.scope, "name": state.name, **tenant_of(state)}


def _limits(found: BudgetSet | None, own: Limits | None) -> Limits:
    return found.limits if found is not None else own or UNLIMITED


def _period(found: BudgetSet | None) -> Period:
    return "total" if found is None else found.period


def _answer(
    state: Budget,
    asked: dict[str, Any],
    about: dict[str, Any],
    found: BudgetSet | None,
    own: Limits | None,
    now: float,
    emit: Emit,
) -> None:
    limits = _limits(found, own)
    said = {"n": state.n + 1, **asked, **about, "limits": limits, "period": _period(found)}
    if why := _why_not(state, limits):
        reason = f"the budget of {_called(about)} is spent: {why}"
        emit(BudgetExhausted(**said, reason=reason, own_limits=own, look_again=utc(now + FIRST_LOOK)))
    else:
        allowance = Limits.model_validate({name: _part(state, limits, name) for name in DIMENSIONS})
        emit(BudgetReserved(**said, allowance=allowance))


def _called(about: dict[str, Any]) -> str:
    return {"tenant": "the tenant", "execution": "this execution"}.get(
        about["scope"], f"{about['scope']} {about['name']}"
    )


def _left(state: Budget, limits: Limits, name: str) -> float | None:
    limit = getattr(limits, name)
    if limit is None:
        return None
    reserved = sum(allowance.get(name) or 0 for allowance in state.open.values()) if PART[name] > 1 else 0
    return float(limit - state.spent.get(name, 0) - reserved)


def _part(state: Budget, limits: Limits, name: str) -> float | int | None:
    left = _left(state, limits, name)
    if left is None:
        return None
    part = min(left, max(getattr(limits, name) / PART[name], LEAST[name]), MOST)
    return max(1, int(part)) if name in ("tokens", "calls") else part


def _why_not(state: Budget, limits: Limits) -> str:
    """What is used up; empty if something of everything is left."""
    for name in DIMENSIONS:
        left = _left(state, limits, name)
        if left is not None and left <= 0:
            limit = getattr(limits, name)
            spent = state.spent.get(name, 0)
            beside = "" if spent >= limit else f", and the rest is reserved for {len(state.open)} attempts"
            return f"{spent:g} of {limit:g} {_WORDS[name]} are used{beside}"
    return ""


def _renew(state: Budget, found: BudgetSet | None, now: float, emit: Emit) -> None:
    start = _start_of(_period(found), utc(now))
    if state.n and start != state.period_start and start:
        emit(BudgetRenewed(n=state.n + 1, period_start=start))


def evolve(state: Budget, event: AnyBudgetEvent, record: Record) -> None:
    state.n = event.n
    match event:
        case BudgetReserved():
            _know(state, event, record)
            state.waits.pop(_key(event), None)
            state.open[_key(event)] = event.allowance.model_dump(exclude_none=True)
        case BudgetExhausted():
            _know(state, event, record)
            own = None if event.own_limits is None else event.own_limits.model_dump()
            waiting = Waiting(event.requester_id, event.step_id, event.run_id, event.attempt, own)
            state.waits.setdefault(_key(event), waiting)
            state.look_again, state.pause = event.look_again.timestamp(), FIRST_LOOK
        case BudgetLookedAgain():
            state.look_again, state.pause = event.look_again.timestamp(), min(2 * state.pause, LONGEST_PAUSE)
        case BudgetSettled():
            key = _key(event)
            state.open.pop(key, None)
            state.waits.pop(key, None)
            state.settled.append(key)
            del state.settled[:-SETTLED_KEPT]
            for name in DIMENSIONS:
                if used := getattr(event.used, name):
                    state.spent[name] = state.spent.get(name, 0) + used
        case BudgetRenewed():
            state.spent, state.period_start = {}, event.period_start
    if not state.waits:
        state.look_again = None


def _know(state: Budget, event: BudgetReserved | BudgetExhausted, record: Record) -> None:
    state.workflow_id, state.user_id = record.workflow_id, event.user_id
    state.organization_id, state.project_id = event.organization_id, event.project_id
    state.scope, state.name, state.period = event.scope, event.name, event.period
    if not state.period_start:
        state.period_start = _start_of(event.period, record.at)


def _start_of(period: Period, moment: datetime) -> str:
    """Of the period that the moment is in; nothing for one that never ends."""
    forms = {"day": "%Y-%m-%d", "month": "%Y-%m"}
    return f"{moment:{forms[period]}}" if period in forms else ""


def react(state: Budget, event: AnyBudgetEvent, record: Record) -> Iterable[Outgoing]:
    """Facts: said once they are certain."""
    if isinstance(event, BudgetReserved | BudgetExhausted):
        return (_told(state, event, record),)
    return ()


def _told(state: Budget, event: BudgetReserved | BudgetExhausted, record: Record) -> Outgoing:
    message = BudgetAnswered(
        event_id=derive(state.execution_id, event.n, "answer"),
        occurred_at=record.at,
        execution_id=event.requester_id,
        workflow_id=record.workflow_id,
        **tenant_of(event),
        budget_id=state.execution_id,
        step_id=event.step_id,
        run_id=event.run_id,
        attempt=event.attempt,
        allowance=event.allowance if isinstance(event, BudgetReserved) else None,
        reason=event.reason if isinstance(event, BudgetExhausted) else "",
    )
    return Outgoing(Kind.FACT, topics.ADMISSION, event.requester_id, message)


def timers(event: BudgetExhausted | BudgetLookedAgain) -> Iterable[Timer]:
    return (Timer(event.look_again.timestamp(), "budget/"),)


def live_timers(state: Budget) -> Iterable[Timer]:
    return () if state.look_again is None else (Timer(state.look_again, "budget/"),)
