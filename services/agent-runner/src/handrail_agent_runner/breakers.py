"""Breakers: an agent that fails again and again is left alone for a while, and one attempt at a time tries it again.

What fails counts if it may pass and the agent is to blame: AGENT_ERROR and TIMEOUT. A refusal of the input does not.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

import structlog
from handrail_contracts.agents import BreakerConfig
from handrail_contracts.envelope import ErrorInfo, utc
from handrail_contracts.runners import AgentState, BreakerState
from handrail_contracts.steps import AgentRegistered, StepRequested
from handrail_runtime.settings import Settings
from prometheus_client import Counter, Gauge
from pydantic import ValidationError

from handrail_agent_runner.agents import AgentFailure
from handrail_agent_runner.registry import Registry

log = structlog.get_logger()

COUNTED = ("AGENT_ERROR", "TIMEOUT")
NEVER = ("scripted", "tool")
"""Kinds that have nothing to recover from."""

OPENED = Counter("handrail_breaker_opened_total", "How often an agent was left alone, failed tries included", ["agent"])
OPEN = Gauge("handrail_breakers_open", "Agents that are left alone now")


@dataclass(frozen=True, slots=True)
class Policy:
    """Opens when `failures` of the latest `window` attempts failed; pauses double from `pause` to `longest` seconds."""

    failures: int
    window: int
    pause: float
    longest: float

    @staticmethod
    def of(registered: AgentRegistered, settings: Settings) -> "Policy | None":
        """What the registration says, else the settings. None: it is always asked."""
        given = registered.config.get("breaker")
        if given is False or registered.kind in NEVER:
            return None
        try:
            config = BreakerConfig.model_validate(given or {})
        except ValidationError:
            config = BreakerConfig()
        failures = config.failures or settings.breaker_failures
        if not failures:
            return None
        pause = config.pause_seconds or settings.breaker_pause_seconds
        longest = max(pause, config.max_pause_seconds or settings.breaker_max_pause_seconds)
        return Policy(failures, max(failures, config.window or failures), pause, longest)


@dataclass(slots=True)
class Breaker:
    """Times are those of one clock, in seconds. What entered before the state changed last does not change it again."""

    policy: Policy
    state: Literal["closed", "open", "half_open"] = "closed"
    since: float = 0.0
    retry_at: float = 0.0
    failures: int = 0
    _pause: float = 0.0
    _changes: int = 0
    _recent: deque[bool] = field(default_factory=deque)

    def refuses(self, now: float) -> bool:
        return self.state == "half_open" or (self.state == "open" and now < self.retry_at)

    def rank(self, now: float) -> int:
        """The lower, the better to be chosen. One that nobody has tried for long is as good as closed: else nobody would."""
        if self.state == "closed" or (self.state == "open" and now >= self.retry_at + self.policy.longest):
            return 0
        return 2 if self.refuses(now) else 1

    def enter(self, now: float) -> int | None:
        """A number to end the attempt with; None if it is refused. Of an open one, the attempt that tries it."""
        if self.refuses(now):
            return None
        if self.state == "open":
            self._change("half_open", now)
        return self._changes

    def end(self, entered: int, failed: bool, now: float) -> None:
        if entered != self._changes:
            return
        if self.state == "closed":
            self._count(failed)
        if failed and self.failures >= self.policy.failures:
            self._open(now)
        elif self.state == "half_open":
            self._close(now)

    def _count(self, failed: bool) -> None:
        self._recent.append(failed)
        if len(self._recent) > self.policy.window:
            self.failures -= self._recent.popleft()
        self.failures += failed

    def abandon(self, entered: int, now: float) -> None:
        """The attempt was cut off: if it was the one that tried, another one may."""
        if entered == self._changes and self.state == "half_open":
            self._change("open", now)
            self.retry_at = now

    def _open(self, now: float) -> None:
        tried = self.state == "half_open"
        self._pause = min(self._pause * 2, self.policy.longest) if tried else self.policy.pause
        self.failures += tried
        self._change("open", now)
        self.retry_at = now + self._pause

    def _close(self, now: float) -> None:
        self._recent.clear()
        self.failures = 0
        self._change("closed", now)

    def _change(self, state: Literal["closed", "open", "half_open"], now: float) -> None:
        """Open and half open are one time of trouble, which began once."""
        if "closed" in (state, self.state):
            self.since = now
        self.state = state
        self._changes += 1


class Breakers:
    """One per agent; a new registration begins with a closed one. `changed` is set whenever one opens or closes."""

    def __init__(self, registry: Registry, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry, self._settings, self._clock = registry, settings, clock
        self._known: dict[str, tuple[AgentRegistered, Breaker | None]] = {}
        self.changed = asyncio.Event()

    def passage(self, request: StepRequested) -> "Passage":
        return Passage(self, request, self._clock)

    def of(self, request: StepRequested) -> Breaker | None:
        """For an agent that is made already; None if it has none."""
        registered = self._registry.registered(request.agent) if request.kind == "agent" else None
        if registered is None:
            return None
        known = self._known.get(registered.agent)
        if known is None or known[0] is not registered:
            agent = self._registry.find(request)
            policy = None if agent is None or agent.inline is not None else Policy.of(registered, self._settings)
            known = self._known[registered.agent] = (registered, None if policy is None else Breaker(policy))
        return known[1]

    def rank(self, registered: AgentRegistered) -> int:
        known = self._known.get(registered.agent)
        breaker = known[1] if known is not None and known[0] is registered else None
        return 0 if breaker is None else breaker.rank(self._clock())

    def states(self, wall: float) -> list[AgentState]:
        """Of those that are not closed; `wall` is the time of day that it is now."""
        ahead = wall - self._clock()
        return [AgentState(agent=name, breaker=_state(breaker, ahead)) for name, breaker in self._not_closed()]

    def _not_closed(self) -> Iterator[tuple[str, Breaker]]:
        for name, (registered, breaker) in self._known.items():
            if breaker is not None and breaker.state != "closed" and self._registry.registered(name) is registered:
                yield name, breaker

    def note(self, request: StepRequested, before: str, breaker: Breaker, error: ErrorInfo | None) -> None:
        """Tells of a state that an attempt has changed."""
        if breaker.state == before:
            return
        OPEN.set(sum(1 for _ in self._not_closed()))
        self.changed.set()
        if breaker.state == "open" and error is not None:
            OPENED.labels(request.agent).inc()
            seconds = round(breaker.retry_at - self._clock(), 3)
            told = {"agent": request.agent, "failures": breaker.failures, "pause_seconds": seconds}
            log.warning("breaker_opened", **told, error=error.message)
        elif breaker.state == "closed":
            log.info("breaker_closed", agent=request.agent)


def _state(breaker: Breaker, ahead: float) -> BreakerState:
    assert breaker.state != "closed"
    since, retry_at = utc(breaker.since + ahead), utc(breaker.retry_at + ahead)
    return BreakerState(state=breaker.state, since=since, failures=breaker.failures, retry_at=retry_at)


class Passage:
    """One attempt's way past its agent's breaker. Left without an `end`, it was cut off."""

    def __init__(self, breakers: Breakers, request: StepRequested, clock: Callable[[], float]) -> None:
        self._breakers, self._request, self._clock = breakers, request, clock
        self._breaker: Breaker | None = None
        self._entered: int | None = None

    def check(self) -> None:
        """Raises `AgentFailure` if the attempt would be refused now."""
        breaker = self._breakers.of(self._request)
        if breaker is not None and breaker.refuses(self._clock()):
            raise self._refusal(breaker)

    def enter(self) -> None:
        """Raises `AgentFailure` if the agent is left alone."""
        breaker = self._breaker = self._breakers.of(self._request)
        if breaker is None:
            return
        before = breaker.state
        self._entered = breaker.enter(self._clock())
        if self._entered is None:
            raise self._refusal(breaker)
        self._breakers.note(self._request, before, breaker, None)

    def end(self, error: ErrorInfo | None) -> None:
        breaker, entered, self._entered = self._breaker, self._entered, None
        if breaker is None or entered is None:
            return
        before = breaker.state
        failed = error is not None and error.retryable and error.code in COUNTED
        breaker.end(entered, failed, self._clock())
        self._breakers.note(self._request, before, breaker, error)

    def _refusal(self, breaker: Breaker) -> AgentFailure:
        seconds = max(0.0, breaker.retry_at - self._clock())
        when = "it is being tried now" if breaker.state == "half_open" else f"it is tried again in {seconds:.1f} s"
        message = f"the breaker of agent {self._request.agent} is open after {breaker.failures} failures; {when}"
        return AgentFailure("AGENT_UNAVAILABLE", message, retryable=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._breaker is not None and self._entered is not None:
            self._breaker.abandon(self._entered, self._clock())
