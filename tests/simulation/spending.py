"""What must hold of budgets: nothing is allowed twice, everything comes back once, and nobody waits for nothing."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from handrail_contracts.budgets import BUDGET_PREFIX, Limits, Used
from handrail_scheduler.budgets import Budget

from simulation.owners import Owner
from simulation.violations import require
from simulation.world import World

BOOKED = ("tokens", "cost_usd", "calls")
"""Seconds are not: attempts side by side use the same ones."""
ENDED = (
    *("step.completed", "step.failed", "step.retry_scheduled"),
    *("suggestion.made", "suggestion.approved", "suggestion.refused"),
)
Attempt = tuple[str, str, int]


def _less(left: float, right: float) -> bool:
    return left <= right + 1e-9


@dataclass
class Book:
    """One budget, folded from its events alone."""

    spent: dict[str, float] = field(default_factory=dict)
    open: dict[Attempt, Limits] = field(default_factory=dict)
    known: set[Attempt] = field(default_factory=set)
    settled: set[Attempt] = field(default_factory=set)

    def note(self, name: str, event: Any) -> None:
        if event.type == "budget.renewed":
            self.spent = {}
        if event.type not in ("budget.reserved", "budget.settled"):
            return
        attempt = (event.requester_id, event.run_id, event.attempt)
        if event.type == "budget.settled":
            require(attempt not in self.settled, name, attempt, "gave back twice")
            self.settled.add(attempt)
            self.open.pop(attempt, None)
            for dimension in BOOKED:
                self.spent[dimension] = self.spent.get(dimension, 0) + getattr(event.used, dimension)
            return
        require(attempt not in self.known, name, attempt, "was allowed something twice")
        require(attempt not in self.settled, name, attempt, "was allowed something after it had ended")
        self.known.add(attempt)
        self.open[attempt] = event.allowance
        for dimension in BOOKED:
            limit = getattr(event.limits, dimension)
            reserved = sum(getattr(allowance, dimension) or 0 for allowance in self.open.values())
            within = limit is None or _less(self.spent.get(dimension, 0) + reserved, limit)
            require(within, name, "allows more than its", limit, dimension, ":", self.spent, self.open)


class Attempts:
    """Attempts of all executions that ask budgets: whether they are over, and what their models used."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, str], Attempt] = {}
        self._over: set[Attempt] = set()
        self._used: dict[Attempt, dict[str, float]] = defaultdict(lambda: dict.fromkeys(BOOKED, 0))

    def note(self, execution_id: str, event: Any) -> None:
        if event.type == "step.started":
            self._end(execution_id, event.step_id)
            if event.budgets:
                require(event.step_type == "agent_execution", execution_id, event.step_id, "asks budgets for no agent")
                self._latest[execution_id, event.step_id] = (execution_id, event.run_id, event.attempt)
        elif event.type in ENDED:
            self._end(execution_id, event.step_id)
        elif event.type == "steps.cancelled":
            for step_id in event.step_ids:
                self._end(execution_id, step_id)
        elif event.type == "step.models_called":
            self._count(execution_id, event)

    def _end(self, execution_id: str, step_id: str) -> None:
        attempt = self._latest.pop((execution_id, step_id), None)
        if attempt is not None:
            self._over.add(attempt)

    def _count(self, execution_id: str, event: Any) -> None:
        attempt = self._latest.get((execution_id, event.step_id))
        if attempt is None:
            return
        used = self._used[attempt]
        for call in event.calls:
            used["tokens"] += call.input_tokens + call.output_tokens
            used["cost_usd"] += call.cost_usd or 0
            used["calls"] += 1

    def check_returned(self, event: Any) -> None:
        attempt = (event.requester_id, event.run_id, event.attempt)
        require(attempt in self._over, attempt, "gave back while it ran")
        used = Used.model_validate(self._used[attempt])
        same = all(abs(getattr(used, name) - getattr(event.used, name)) < 1e-9 for name in BOOKED)
        require(same, attempt, "has used", used, "and told", event.used)


def check_budgets(records: list[Any]) -> None:
    books: dict[str, Book] = defaultdict(Book)
    attempts = Attempts()
    for record in records:
        for event in record.events:
            if not record.execution_id.startswith(BUDGET_PREFIX):
                attempts.note(record.execution_id, event)
                continue
            books[record.execution_id].note(record.execution_id, event)
            if event.type == "budget.settled":
                attempts.check_returned(event)
    for name, book in books.items():
        require(not book.open, name, "never got back", book.open)


def check_nobody_waits_for_what_is_there(world: World, scheduler: Owner) -> None:
    """Once the world is quiet. Who is first in line waits for something that is used up, or held by others."""
    limits = {budget.budget_id: None if budget.removed else budget.limits for budget in world.budgets}
    for state in scheduler.states():
        if isinstance(state, Budget) and state.waits:
            first = next(iter(state.waits.values()))
            own = None if first.own_limits is None else Limits.model_validate(first.own_limits)
            allowed = limits.get(state.execution_id) or own
            waits = f"{first.requester_id} {first.step_id} waits for {state.execution_id}"
            require(allowed is not None, waits, "which nobody limits any more")
            require(_is_used_up(state, allowed), waits, f"of which something is left: {state}")


def _is_used_up(state: Budget, limits: Any) -> bool:
    for name in (*BOOKED, "seconds"):
        limit = getattr(limits, name)
        held = sum(allowance.get(name) or 0 for allowance in state.open.values()) if name in BOOKED else 0
        if limit is not None and _less(limit, state.spent.get(name, 0) + held):
            return True
    return False
