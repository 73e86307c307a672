"""Which attempts count as tries of a step, as its story tells it: a policy gets as many as it says, no more and no less."""

from collections import Counter
from typing import Any

from simulation.violations import require


class Tries:
    """Attempts that led to a suggestion don't count, nor those that had used up what their budgets allowed."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self._tries: Counter[str] = Counter()
        self._open: dict[str, bool] = {}
        self._follows = False

    def may_have_spent(self) -> bool:
        """Whether the attempt that it followed, which was noted last, was one with budgets."""
        return self._follows

    def note(self, event: Any) -> None:
        match event.type:
            case "step.started":
                self._started(event)
            case "suggestion.made" | "suggestion.approved" | "suggestion.refused" | "suggestion.sent_back":
                self._tries[event.step_id] = 0
                self._open.pop(event.step_id, None)
            case "step.retry_scheduled" if event.error.code == "BUDGET_SPENT":  # asks again after a pause
                self._tries[event.step_id] -= 1
                self._open.pop(event.step_id, None)
            case "step.retry_scheduled":
                self._open.pop(event.step_id, None)
                require(self._tries[event.step_id] < self._most(event), event.step_id, "is tried again too often")
            case "step.failed":
                self._open.pop(event.step_id, None)
                exhausted = self._tries[event.step_id] >= self._most(event)
                require(exhausted or not event.error.retryable, event.step_id, "could have been tried again")
            case "step.completed":
                self._open.pop(event.step_id, None)
            case "steps.cancelled":
                for step_id in event.step_ids:
                    self._open.pop(step_id, None)
            case "step.steered" if event.action == "reassign":
                self._tries[event.step_id] = 0
            case "step.steered" if event.action == "rewind":
                for step_id in event.step_ids:
                    self._tries.pop(step_id, None)

    def _started(self, event: Any) -> None:
        if event.waits_for == "loop":
            inside = f"{event.step_id}["
            self._tries = Counter({name: n for name, n in self._tries.items() if not name.startswith(inside)})
        self._follows = self._open.get(event.step_id, False)
        if not self._follows:
            self._tries[event.step_id] += 1
        self._open[event.step_id] = bool(event.budgets)

    def _most(self, event: Any) -> int:
        return int(self.graph.nodes[event.step_id].retry.max_attempts)
