"""Rate limits of agents: evenly spaced, and each runner its share."""

import pytest
from handrail_agent_runner.limits import Limits, RateLimit
from hypothesis import given
from hypothesis import strategies as st


@given(
    st.integers(1, 50), st.floats(0.1, 60), st.lists(st.floats(0, 5), max_size=200),
    st.sampled_from([1.0, 0.5, 1 / 12]),
)  # fmt: skip
def test_no_window_holds_more_than_its_share(count: int, per: float, pauses: list[float], share: float) -> None:
    limits, now, asked = Limits(), 0.0, []
    for pause in pauses:
        now += pause
        asked.append(now + limits.reserve("a", RateLimit(count, per), share, now))
    for first in asked:
        assert sum(first <= at < first + per - 1e-6 for at in asked) <= max(1, count * share) + 1


def test_agents_do_not_wait_for_each_other() -> None:
    limits, one = Limits(), RateLimit(1, 10)
    assert [limits.reserve(agent, one, 1.0, 100.0) for agent in ("a", "b", "a", "b")] == [0, 0, 10, 10]


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({}, None), ({"rate_limit": {"count": 5}}, RateLimit(5, 1)),
        ({"rate_limit": {"count": 5, "per_seconds": 60}}, RateLimit(5, 60)),
        ({"rate_limit": 5}, None), ({"rate_limit": {"count": -1}}, None), ({"rate_limit": {"count": "many"}}, None),
    ],
)  # fmt: skip
def test_what_a_registration_says(config: dict[str, object], limit: RateLimit | None) -> None:
    assert RateLimit.of(config) == limit
