"""Which attempts run or were answered lately: a duplicate request is dropped."""

from collections import OrderedDict
from collections.abc import Callable

CAPACITY = 200_000


def attempt_key(run_id: str, attempt: int) -> str:
    return f"{run_id}/{attempt}"


class Answered:
    """The attempts under way (until their answer has arrived), and the latest `CAPACITY` answered ones."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._running: set[str] = set()
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._answered: OrderedDict[str, None] = OrderedDict()
        self._capacity = capacity

    def begin(self, key: str) -> bool:
        """False if the attempt runs already or was answered."""
        if key in self._running or key in self._answered:
            return False
        self._running.add(key)
        return True

    def once_answered(self, key: str, then: Callable[[], None]) -> None:
        """Calls `then` when the answer has arrived, at once if it has: a duplicate is finished when its original is."""
        if key in self._running:
            self._waiting.setdefault(key, []).append(then)
        else:
            then()

    def learn(self, key: str) -> None:
        """An answer that somebody gave; one that we are about to give again is left to us."""
        if key not in self._running:
            self.answer(key)

    def answer(self, key: str) -> None:
        self._running.discard(key)
        self._answered[key] = None
        if len(self._answered) > self._capacity:
            self._answered.popitem(last=False)
        for then in self._waiting.pop(key, ()):
            then()

    def leave(self, key: str) -> None:
        """Nothing is to be done for the attempt here: its duplicates are finished, and a later request is looked at again."""
        self._running.discard(key)
        for then in self._waiting.pop(key, ()):
            then()

    def abandon(self, key: str) -> None:
        """The attempt was cut off without an answer: a later request may run it, and its duplicates stay unfinished."""
        self._running.discard(key)
        self._waiting.pop(key, None)
