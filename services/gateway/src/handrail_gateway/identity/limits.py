"""How many requests a caller, and a tenant, may make. Counted by each gateway for itself."""

import math
import time
from dataclasses import dataclass

from handrail_runtime.settings import Settings
from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from handrail_gateway.identity.caller import Caller
from handrail_gateway.metrics import RATE_LIMITED
from handrail_gateway.problems import Problem

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class _Policy:
    whose: str
    item: RateLimitItem

    @property
    def name(self) -> str:
        return f"{self.whose}-{self.item.get_expiry()}s"

    def of(self, caller: Caller) -> tuple[str, ...]:
        tenant = (self.whose, caller.organization_id, caller.project_id)
        return (*tenant, caller.user_id) if self.whose == "caller" else tenant


class RateLimits:
    def __init__(self, caller: str = "", tenant: str = "") -> None:
        """As `100/second;5000/minute`; empty for no limit."""
        self._policies = [
            _Policy(whose, item)
            for whose, text in (("caller", caller), ("tenant", tenant))
            for item in (parse_many(text) if text else ())
        ]
        policies = ", ".join(f'"{p.name}";q={p.item.amount};w={p.item.get_expiry()}' for p in self._policies)
        self._said = [(b"ratelimit-policy", policies.encode())] if policies else []
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    @classmethod
    def from_settings(cls, settings: Settings) -> "RateLimits":
        try:
            return cls(settings.rate_limit_caller, settings.rate_limit_tenant)
        except ValueError as error:
            raise SystemExit(
                f"HANDRAIL_RATE_LIMIT_CALLER and _TENANT are written as 100/second;5000/minute: {error}"
            ) from error

    def take(self, caller: Caller) -> Headers:
        """Counts a request. Gives the headers for its answer, or raises a 429 `Problem` that has them."""
        headers = self._said
        for policy in self._policies:
            who = policy.of(caller)
            if not self._limiter.hit(policy.item, *who):
                raise self._too_many(policy, who)
            if policy is self._policies[0]:
                headers = [*self._said, (b"ratelimit", self._left(policy, who).encode())]
        return headers

    def _left(self, policy: _Policy, who: tuple[str, ...]) -> str:
        reset, remaining = self._limiter.get_window_stats(policy.item, *who)
        return f'"{policy.name}";r={remaining};t={_seconds(reset)}'

    def _too_many(self, policy: _Policy, who: tuple[str, ...]) -> Problem:
        RATE_LIMITED.labels(policy.whose).inc()
        reset, _ = self._limiter.get_window_stats(policy.item, *who)
        headers = {name.decode(): value.decode() for name, value in self._said}
        headers |= {"ratelimit": self._left(policy, who), "retry-after": str(max(1, _seconds(reset)))}
        detail = f"{'You make' if policy.whose == 'caller' else 'Your project makes'} more than {policy.item} requests."
        return Problem(429, "RATE_LIMIT", detail, headers=headers)


def _seconds(reset: float) -> int:
    return max(0, math.ceil(reset - time.time()))
