"""Breakers: with a clock that the test moves, and in the runner."""

import asyncio
from typing import Any

import pytest
from handrail_agent_runner.agents import AgentFailure
from handrail_agent_runner.breakers import Breaker, Breakers, Policy
from handrail_agent_runner.registry import Registry
from handrail_contracts.envelope import ErrorInfo
from handrail_runtime.settings import Settings
from hypothesis import given
from hypothesis import strategies as st
from unit.agent_runner.builders import SETTINGS, World, command, function, registered, request

POLICY = Policy(failures=3, window=3, pause=10, longest=40)
FAILED = ErrorInfo(code="AGENT_ERROR", message="no", retryable=True)


def attempt(breaker: Breaker, failed: bool, now: float) -> bool:
    """Whether it was let through."""
    entered = breaker.enter(now)
    if entered is not None:
        breaker.end(entered, failed, now)
    return entered is not None


def state(breaker: Breaker) -> str:
    return breaker.state


def opened(policy: Policy = POLICY, now: float = 0.0) -> Breaker:
    breaker = Breaker(policy)
    for _ in range(policy.failures):
        attempt(breaker, True, now)
    assert state(breaker) == "open"
    return breaker


def test_it_opens_after_failures_in_a_row_and_a_success_begins_a_new_row() -> None:
    breaker = Breaker(POLICY)
    for failed in (True, True, False, True, True):
        assert attempt(breaker, failed, 0)
    assert state(breaker) == "closed"
    attempt(breaker, True, 1)
    assert (state(breaker), breaker.since, breaker.retry_at, breaker.failures) == ("open", 1, 11, 3)


def test_with_a_wider_window_a_share_of_failures_opens_it() -> None:
    breaker = Breaker(Policy(3, 6, 10, 40))
    for failed in (True, False, True, False, True):
        attempt(breaker, failed, 0)
    assert state(breaker) == "open"


def test_while_it_is_open_nobody_passes_and_then_one_attempt_tries() -> None:
    breaker = opened()
    assert not attempt(breaker, False, 9.9)
    trying = breaker.enter(10)
    assert trying is not None
    assert state(breaker) == "half_open"
    assert breaker.enter(10) is None
    breaker.end(trying, False, 11)
    assert (state(breaker), breaker.failures) == ("closed", 0)
    assert attempt(breaker, True, 12), "a closed one counts from nothing"
    assert state(breaker) == "closed"


def test_pauses_grow_while_tries_fail_and_begin_anew_after_a_success() -> None:
    breaker, now, pauses = opened(), 0.0, []
    for _ in range(4):
        pauses.append(breaker.retry_at - now)
        now = breaker.retry_at
        assert attempt(breaker, True, now)
    assert pauses == [10, 20, 40, 40]
    assert (breaker.since, breaker.failures) == (0, 7), "one time of trouble"
    now = breaker.retry_at
    attempt(breaker, False, now)
    for _ in range(3):
        attempt(breaker, True, now)
    assert breaker.retry_at - now == 10


def test_a_try_that_is_cut_off_leaves_the_next_one_to_try() -> None:
    breaker = opened()
    trying = breaker.enter(10)
    assert trying is not None
    breaker.abandon(trying, 12)
    assert state(breaker) == "open"
    assert breaker.enter(12) is not None


def test_answers_to_what_began_before_it_opened_change_nothing() -> None:
    breaker = Breaker(POLICY)
    late = [breaker.enter(0) for _ in range(5)]
    for entered in late[:3]:
        assert entered is not None
        breaker.end(entered, True, 1)
    assert state(breaker) == "open"
    breaker.end(late[3] or 0, False, 2)
    trying = breaker.enter(11)
    assert trying is not None
    breaker.end(late[4] or 0, True, 12)
    assert state(breaker) == "half_open"
    breaker.end(trying, False, 13)
    assert state(breaker) == "closed"


def test_one_that_nobody_tried_for_long_is_chosen_like_a_closed_one() -> None:
    breaker = opened()
    assert [breaker.rank(now) for now in (0, 9, 10, 49, 50)] == [2, 2, 1, 1, 0]
    assert Breaker(POLICY).rank(0) == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=100), st.integers(1, 5), st.integers(0, 5))
def test_it_never_opens_early_and_never_stays_closed(tries: list[tuple[bool, int]], limit: int, more: int) -> None:
    policy = Policy(limit, limit + more, 10, 40)
    breaker, now, seen = Breaker(policy), 0.0, list[bool]()
    for failed, pause in tries:
        now += pause
        before = state(breaker)
        passed = attempt(breaker, failed, now)
        assert passed or now < breaker.retry_at
        if before == "closed":
            seen = [*seen, failed][-policy.window :]
            assert (state(breaker) == "open") == (sum(seen) >= limit)
        elif passed:
            assert state(breaker) == ("open" if failed else "closed")
            seen = []
        assert state(breaker) == "closed" or breaker.retry_at - breaker.since >= 10


@pytest.mark.parametrize(
    ("kind", "config", "policy"),
    [
        ("http", {}, Policy(5, 5, 10, 300)),
        ("http", {"breaker": {"failures": 2, "pause_seconds": 400}}, Policy(2, 2, 400, 400)),
        ("python", {"breaker": {"window": 20}}, Policy(5, 20, 10, 300)),
        ("http", {"breaker": False}, None),
        ("http", {"breaker": "often"}, Policy(5, 5, 10, 300)),
        ("scripted", {"breaker": {"failures": 2}}, None),
    ],
)
def test_what_a_registration_says(kind: str, config: dict[str, Any], policy: Policy | None) -> None:
    assert Policy.of(registered("a", kind, **config), Settings()) == policy


def test_settings_can_turn_breakers_off_but_for_agents_that_want_one() -> None:
    settings = Settings(breaker_failures=0)
    assert Policy.of(registered("a", "http"), settings) is None
    assert Policy.of(registered("a", "http", breaker={"failures": 3}), settings) == Policy(3, 3, 10, 300)


@pytest.mark.parametrize(
    ("code", "retryable", "becomes"),
    [
        ("AGENT_ERROR", True, "open"), ("TIMEOUT", True, "open"), ("AGENT_ERROR", False, "closed"),
        ("VALIDATION_ERROR", False, "closed"), ("RATE_LIMIT", True, "closed"), ("AGENT_UNAVAILABLE", True, "closed"),
    ],
)  # fmt: skip
def test_only_what_may_pass_and_is_the_agents_fault_counts(code: str, retryable: bool, becomes: str) -> None:
    breakers, wish = breakers_of(registered("a", "http", url="http://127.0.0.1:1", breaker={"failures": 1}))
    passage = breakers.passage(wish)
    passage.enter()
    passage.end(ErrorInfo(code=code, message="", retryable=retryable))
    breaker = breakers.of(wish)
    assert breaker is not None
    assert state(breaker) == becomes


def breakers_of(agent: Any, now: list[float] | None = None) -> tuple[Breakers, Any]:
    registry, clock = Registry(SETTINGS), now or [0.0]
    registry.add(agent)
    return Breakers(registry, SETTINGS, lambda: clock[0]), request(agent=agent.agent)


async def test_a_refusal_says_when_it_is_tried_again_and_a_new_registration_begins_anew() -> None:
    agent, now = registered("a", "http", url="http://127.0.0.1:1", breaker={"failures": 1}), [100.0]
    breakers, wish = breakers_of(agent, now)
    with breakers.passage(wish) as passage:
        passage.enter()
        passage.end(FAILED)
    assert breakers.changed.is_set()
    now[0] = 103.0
    with pytest.raises(
        AgentFailure, match="the breaker of agent a is open after 1 failures; it is tried again in 7.0 s"
    ):
        breakers.passage(wish).check()
    [told] = breakers.states(wall=1_800_000_003.0)
    assert told.breaker is not None
    assert (told.agent, told.breaker.state, told.breaker.failures) == ("a", "open", 1)
    assert (told.breaker.since.timestamp(), told.breaker.retry_at.timestamp()) == (1_800_000_000, 1_800_000_010)
    breakers._registry.add(agent.model_copy(update={"description": "mended"}))
    assert breakers.states(wall=0) == []
    breakers.passage(wish).enter()


async def test_the_runner_does_not_ask_an_agent_whose_breaker_is_open() -> None:
    failing = registered("a", entry_point="unit.agent_runner.functions:own_timeout", breaker={"failures": 2})
    world = World.new(failing)
    for number in range(4):
        world.take(command(request(f"r{number}", "a"), number))
        await world.finished()
    errors = [body["error"] for body in world.answers.bodies()]
    assert [error["code"] for error in errors] == [
        "AGENT_ERROR",
        "AGENT_ERROR",
        "AGENT_UNAVAILABLE",
        "AGENT_UNAVAILABLE",
    ]
    assert all(error["retryable"] for error in errors)


async def test_an_attempt_that_is_cut_off_gives_its_try_back() -> None:
    waits = registered(
        "a", entry_point="unit.agent_runner.functions:waits", breaker={"failures": 1, "pause_seconds": 1e-9}
    )
    world = World.new(waits)
    world.take(command(request("r0", "a", timeout_seconds=0.01, input={"seconds": 60}), 0))
    await world.finished()
    wish = request("r1", "a", input={"seconds": 60})
    world.take(command(wish, 1))
    breaker = world.runner._breakers.of(wish)
    assert breaker is not None
    while state(breaker) != "half_open":
        await asyncio.sleep(0)
    [task] = world.runner._running
    task.cancel()
    await world.finished()
    assert state(breaker) == "open"
    assert not breaker.refuses(breaker.retry_at)


async def test_inline_agents_have_none() -> None:
    world = World.new(function("inline", "echo"))
    wish = request(agent="inline")
    world.registry.find(wish)
    assert world.runner._breakers.of(wish) is None
