"""How often an agent may be asked: evenly spaced places in time, one line for each agent. Pure.

Requests are spread over the partitions by their run ids, so a runner's share of the partitions is its share of the requests:
each runner keeps to that share of the limit, and together they keep to the limit without a word between them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `count` requests in any `per_seconds`."""

    count: float
    per_seconds: float

    @staticmethod
    def of(config: Mapping[str, Any]) -> "RateLimit | None":
        """What an agent's registration says; None if it says nothing that is a limit."""
        given = config.get("rate_limit")
        if not isinstance(given, Mapping):
            return None
        count, per = given.get("count"), given.get("per_seconds", 1)
        if not isinstance(count, int | float) or not isinstance(per, int | float) or count <= 0 or per <= 0:
            return None
        return RateLimit(float(count), float(per))


@dataclass(slots=True)
class Limits:
    """When each agent may be asked next; times are those of one clock, in seconds."""

    _next: dict[str, float] = field(default_factory=dict)

    def reserve(self, agent: str, limit: RateLimit, share: float, now: float) -> float:
        """Takes the next place, and gives the seconds to wait for it."""
        due = max(now, self._next.get(agent, 0.0))
        self._next[agent] = due + limit.per_seconds / max(limit.count * share, 1e-9)
        return due - now
