"""Which attempts run or were answered lately: a duplicate request is dropped."""

from collections import OrderedDict

CAPACITY = 200_000


def attempt_key(run_id: str, attempt: int) -> str:
    return f"{run_id}/{attempt}"


class Answered:
    """The attempts under way, and the latest `CAPACITY` answered ones."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._running: set[str] = set()
        self._answered: OrderedDict[str, None] = OrderedDict()
        self._capacity = capacity

    def begin(self, key: str) -> bool:
        """False if the attempt runs already or was answered."""
        if key in self._running or key in self._answered:
            return False
        self._running.add(key)
        return True

    def answer(self, key: str) -> None:
        self._running.discard(key)
        self._answered[key] = None
        if len(self._answered) > self._capacity:
            self._answered.popitem(last=False)

    def abandon(self, key: str) -> None:
        """The attempt was cut off (its partition went elsewhere): a later request may run it."""
        self._running.discard(key)
