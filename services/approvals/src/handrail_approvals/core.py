"""The rules of approval gates as the shell wants them: which state an input is for, and what follows from it."""

from collections.abc import Callable, Iterable
from typing import Any

from handrail_contracts import topics
from handrail_contracts.approval_events import AnyApprovalEvent, ApprovalClosed, ApprovalOpened, ApprovalRecord
from handrail_contracts.gates import GateRules
from handrail_contracts.journal import Record
from handrail_contracts.reviewers import (
    POOL_PREFIX,
    PoolLookedAgain,
    ReviewAsked,
    ReviewEnded,
    ReviewerDefined,
    ReviewerSet,
    ReviewGiven,
    ReviewQueued,
    ReviewReleased,
)
from handrail_runtime.machine.core import Instead, Outgoing, Refused, Timer, Wiring

from handrail_approvals import decide, evolve, pool, react
from handrail_approvals.decide import Emit
from handrail_approvals.pool import Pool
from handrail_approvals.state import ESCALATE, REMIND, Gates

State = Gates | Pool
_OF_POOLS = (ReviewerDefined, ReviewAsked, ReviewReleased)
_POOL_EVENTS = (ReviewerSet, ReviewQueued, ReviewGiven, ReviewEnded, PoolLookedAgain)

WIRING = Wiring(
    service="approvals",
    journal=topics.APPROVAL_EVENTS,
    snapshots=topics.APPROVAL_SNAPSHOTS,
    inputs=(
        topics.APPROVAL_REQUESTED,
        topics.SUGGESTION_CREATED,
        topics.APPROVAL_SUBMITTED,
        topics.COMMENT_ADDED,
        topics.REVIEWS,
        topics.REVIEWER_DEFINED,
        topics.NOTIFICATION_DELIVERED,
    ),
    fenced_inputs=frozenset({topics.APPROVAL_REQUESTED}),
    commands=(),
    record=ApprovalRecord,
    fold_version=2,
    chained=True,
    seldom=frozenset({topics.COMMENT_ADDED, topics.REVIEWS, topics.REVIEWER_DEFINED, topics.NOTIFICATION_DELIVERED}),
)


class ApprovalsCore:
    """Pure. Gates by execution, and beside them the pools of reviewers, each in a state of its own."""

    wiring = WIRING

    def new(self, execution_id: str) -> State:
        return Pool(execution_id) if execution_id.startswith(POOL_PREFIX) else Gates(execution_id)

    def decide(self, state: State, message: Any, now: float, emit: Emit, ended: Callable[[str], bool]) -> None:
        if isinstance(state, Pool):
            pool.decide(state, message, now, emit)
        elif isinstance(message, _OF_POOLS):
            raise Refused("RESERVED_ID", f"{state.execution_id} is no pool of reviewers")
        else:
            decide.decide(state, message, now, emit, ended)

    def decide_instead(self, state: State, message: Any, why: Instead, now: float, emit: Emit) -> None:
        raise Refused(why.value.upper(), "the gate's text and data do not fit into one record (1 MB)")

    def evolve(self, state: State, event: AnyApprovalEvent, record: Record) -> None:
        if isinstance(state, Pool):
            assert isinstance(event, _POOL_EVENTS)
            pool.evolve(state, event, record)
        else:
            assert not isinstance(event, _POOL_EVENTS)
            evolve.evolve(state, event, record)

    def react(
        self, state: State, event: AnyApprovalEvent, record: Record, partition: int, *, requests: bool = True
    ) -> Iterable[Outgoing]:
        if isinstance(state, Pool):
            assert isinstance(event, _POOL_EVENTS)
            return pool.react(state, event, record)
        return react.react(state, event, record.at)

    def outstanding(self, state: State, partition: int) -> Iterable[Outgoing]:
        return ()

    def timers(self, event: AnyApprovalEvent) -> Iterable[Timer]:
        if not isinstance(event, ApprovalOpened):
            return pool.timers(event)
        deadline = None if event.deadline is None else event.deadline.timestamp()
        opened_at = 0.0 if event.opened_at is None else event.opened_at.timestamp()
        return _timers(event.approval_id, deadline, opened_at, event.rules)

    def live_timers(self, state: State) -> Iterable[Timer]:
        if isinstance(state, Pool):
            return pool.live_timers(state)
        each = (_timers(gate_id, gate.deadline, gate.opened_at, gate.terms) for gate_id, gate in state.gates.items())
        return [timer for timers in each for timer in timers]

    def workflow_id(self, state: State) -> str:
        return state.workflow_id

    def ending(self, event: AnyApprovalEvent, execution_id: str) -> str | None:
        return event.approval_id if isinstance(event, ApprovalClosed) else None

    def is_finished(self, state: State) -> bool:
        return not state.n if isinstance(state, Pool) else not state.gates

    def is_parked(self, state: State) -> bool:
        return not isinstance(state, Pool)

    def busy_for(self, state: State) -> tuple[str, str] | None:
        return None

    def pack(self, state: State) -> bytes:
        return state.pack()

    def unpack(self, data: bytes) -> State:
        return Pool.unpack(data) if data.startswith(pool.PACKED) else Gates.unpack(data)


def _timers(gate_id: str, deadline: float | None, opened_at: float, rules: GateRules | None) -> Iterable[Timer]:
    if deadline is not None:
        yield Timer(deadline, gate_id)
    if rules is not None:
        for number, seconds in enumerate(rules.remind_after_seconds, 1):
            yield Timer(opened_at + seconds, f"{gate_id}{REMIND}{number}")
        for number, level in enumerate(rules.escalation, 1):
            yield Timer(opened_at + level.after_seconds, f"{gate_id}{ESCALATE}{number}")
