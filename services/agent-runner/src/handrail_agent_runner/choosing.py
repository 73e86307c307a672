"""Which agent does a step that asks for capabilities: of those that have all of them, the one that is best off here. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import islice

from handrail_contracts.runners import ChosenRun
from handrail_contracts.steps import AgentRegistered, StepRequested

RUNS_REMEMBERED = 10_000
MOST_TOLD = 200

Able = Callable[[StepRequested], Iterable[AgentRegistered]]
"""The agents that a request may choose from."""
Rank = Callable[[AgentRegistered], int]
"""How an agent's breaker is; 0 is closed."""


class Choosing:
    """Closed breakers first, then who has not failed this run before, then the fewest attempts under way here, then by name.

    Who failed is remembered here alone: all attempts of a run come to one runner unless its partitions move.
    """

    def __init__(self, able: Able, rank: Rank) -> None:
        self._able, self._rank = able, rank
        self._at_work: dict[str, StepRequested] = {}
        self._running: dict[str, int] = {}
        self._failed: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    def choose(self, request: StepRequested) -> StepRequested:
        """The request with its agent; as it was if nobody has the capabilities."""
        failed = self._failed.get(request.run_id, ())
        able = min(
            self._able(request),
            key=lambda each: (self._rank(each), each.agent in failed, self._running.get(each.agent, 0), each.agent),
            default=None,
        )
        return request if able is None else request.model_copy(update={"agent": able.agent})

    def began(self, attempt: str, request: StepRequested) -> None:
        self.ended(attempt)
        self._at_work[attempt] = request
        self._running[request.agent] = self._running.get(request.agent, 0) + 1

    def ended(self, attempt: str) -> None:
        request = self._at_work.pop(attempt, None)
        if request is None:
            return
        left = self._running[request.agent] - 1
        if left:
            self._running[request.agent] = left
        else:
            del self._running[request.agent]

    def answered(self, request: StepRequested, failed: bool) -> None:
        """Remembers who failed a run that may be tried again."""
        if not request.capabilities:
            return
        before = self._failed.pop(request.run_id, ())
        if failed and request.agent:
            self._failed[request.run_id] = (*(name for name in before if name != request.agent), request.agent)
            if len(self._failed) > RUNS_REMEMBERED:
                self._failed.popitem(last=False)

    @property
    def running(self) -> int:
        return len(self._at_work)

    def chosen(self) -> tuple[ChosenRun, ...]:
        """Who works on steps that asked for capabilities, the newest first."""
        newest = (request for request in reversed(self._at_work.values()) if request.capabilities and request.agent)
        return tuple(
            ChosenRun(agent=each.agent, execution_id=each.execution_id, step_id=each.step_id)
            for each in islice(newest, MOST_TOLD)
        )
