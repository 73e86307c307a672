"""Which agents a desk has no more once it is configured anew."""

import pytest
from handrail_gateway.desk.flow import agents_of, left_over
from handrail_gateway.schemas import DeskRequest, Tier

PREFIX = "desk-d-1"
KNOWN = [f"{PREFIX}-classifier", *(f"{PREFIX}-{tier}-{place}" for tier in (1, 2) for place in (1, 2)), f"{PREFIX}0-1-9"]


@pytest.mark.parametrize(
    ("sizes", "gone"),
    [
        ((2, 2), set()),
        ((1, 2), {f"{PREFIX}-1-2"}),
        ((1,), {f"{PREFIX}-1-2"}),
        ((2, 1, 5), {f"{PREFIX}-2-2"}),
    ],
)
def test_agents_of_a_tier_that_is_gone_stay_for_what_is_under_way(sizes: tuple[int, ...], gone: set[str]) -> None:
    desk = DeskRequest(tiers=[Tier(name=f"T{number}", agents=size) for number, size in enumerate(sizes)])
    assert left_over(KNOWN, agents_of(desk, PREFIX, "d"), PREFIX, len(desk.tiers)) == gone
