"""What a broken promise is, and what a journal tells."""

from typing import Any

from handrail_contracts.codec import decode
from handrail_contracts.journal import Verdict

from simulation.owners import new_filter
from simulation.world import World


class Violation(AssertionError):
    """A promise was broken."""


def require(condition: object, *what: object) -> None:
    if not condition:
        raise Violation(" ".join(map(str, what)))


def accepted(world: World, topic: str) -> list[Any]:
    """The records of a journal that count, as every reader computes them."""
    taken, reader = [], new_filter(world)
    for offset, (_, value, headers) in enumerate(world.logs[topic, 0]):
        if reader.take(offset, headers) is Verdict.ACCEPTED:
            taken.append(decode(topic, value))
    return taken
