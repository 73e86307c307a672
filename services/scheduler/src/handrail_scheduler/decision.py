"""A decision under way: what it knows, and how it says what happened."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from handrail_contracts.envelope import utc
from handrail_contracts.execution_events import BudgetNamed, ExecutionEvent, StepCompleted
from handrail_graph import Condition, Graph, Node

from handrail_scheduler.state import Execution, Status, Step, StepStatus

Emit = Callable[[Any], None]
Begin = Callable[["Decision", Node], None]
MOVING = (Status.RUNNING, Status.WAITING)
ALIVE = (*MOVING, Status.PAUSED, Status.QUEUED)


@dataclass(slots=True)
class Decision:
    """The graph, the live state, the clock's reading, and where events go.

    `evolve` has changed the state when `say` returns, so the next line reads what is true now.
    """

    graph: Graph
    state: Execution
    now: float
    emit: Emit
    begin_by_type: Mapping[str, Begin]
    evaluate: Callable[["Decision", str, Condition, dict[str, Any]], bool]
    budgets_of: Callable[["Decision", str], list[BudgetNamed]]
    chosen: tuple[str, str] | None = None
    """A step that asked for capabilities, and the agent that has just answered for it."""

    def say(self, event: type[ExecutionEvent], **fields: Any) -> None:
        self.emit(event(n=self.state.n + 1, **fields))

    def at(self, seconds: float) -> datetime:
        """So many seconds from now."""
        return utc(self.now + seconds)

    def begin(self, step_id: str) -> None:
        node = self.graph.nodes[step_id]
        self.begin_by_type[node.type](self, node)

    def complete(self, step_id: str, output: Any) -> None:
        attempt = self.state.steps[step_id].attempt
        self.say(StepCompleted, step_id=step_id, attempt=attempt, agent=self.chosen_for(step_id), output=output)

    def chosen_for(self, step_id: str) -> str | None:
        return self.chosen[1] if self.chosen is not None and self.chosen[0] == step_id else None

    def running(self, step_id: str, attempt: int) -> Step | None:
        """The step, if that attempt of it is under way."""
        step = self.state.steps.get(step_id)
        if step is None or step.status is not StepStatus.RUNNING or step.attempt != attempt:
            return None
        return step
