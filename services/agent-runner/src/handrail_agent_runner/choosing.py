"""Which agent does a step that asks for capabilities: of those that have all of them, the one that is best off here. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from itertools import count, islice
from typing import Any

from handrail_contracts.runners import ChosenRun
from handrail_contracts.steps import AgentRegistered, Choice, StepRequested

RUNS_REMEMBERED = 10_000
TURNS_REMEMBERED = 10_000
MOST_TOLD = 200

Able = Callable[[StepRequested], Iterable[AgentRegistered]]
"""The agents that a request may choose from."""
Rank = Callable[[AgentRegistered], int]
"""How an agent's breaker is; 0 is closed."""
Turn = tuple[frozenset[str], str]
"""Of an agent, among those that have these capabilities."""
STANDARD = Choice()


class Choosing:
    """Closed breakers first, then who has not failed this run before, then who has what the input prefers; of equals, as the
    step's strategy says: the fewest attempts under way here, or whose turn here was longest ago; then by name.

    Who failed is remembered here alone: all attempts of a run come to one runner unless its partitions move.
    """

    def __init__(self, able: Able, rank: Rank) -> None:
        self._able, self._rank = able, rank
        self._at_work: dict[str, StepRequested] = {}
        self._running: dict[str, int] = {}
        self._failed: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._turns: OrderedDict[Turn, int] = OrderedDict()
        self._count = count(1)

    def choose(self, request: StepRequested) -> StepRequested:
        """The request with its agent; as it was if nobody has the capabilities."""
        failed, choice = self._failed.get(request.run_id, ()), request.choice or STANDARD
        preferred, wanted = _preferred(request.input, choice.prefer), frozenset(request.capabilities)
        in_turn = choice.strategy == "round_robin"

        def order(each: AgentRegistered) -> tuple[int, bool, bool, int, str]:
            name = each.agent
            load = self._turns.get((wanted, name), 0) if in_turn else self._running.get(name, 0)
            return self._rank(each), name in failed, not preferred.issubset(each.capabilities), load, name

        able = min(self._able(request), key=order, default=None)
        if able is None:
            return request
        if in_turn:
            self._had_turn((wanted, able.agent))
        return request.model_copy(update={"agent": able.agent})

    def _had_turn(self, turn: Turn) -> None:
        """The oldest turns are forgotten: never and long ago come first alike."""
        self._turns[turn] = next(self._count)
        self._turns.move_to_end(turn)
        if len(self._turns) > TURNS_REMEMBERED:
            self._turns.popitem(last=False)

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


def _preferred(given: Any, field: str) -> frozenset[str]:
    """The capabilities that the input names there, by a text or a list of texts; nothing else is a preference."""
    named = given.get(field) if field and isinstance(given, Mapping) else None
    names = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    return frozenset(name for name in names if isinstance(name, str) and name)
