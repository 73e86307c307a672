"""What the load on a desk tells of how evenly its agents were used."""

from handrail.bench.desk import COMPLEX, Unevenness, Work, inquiries, teams_of, unevenness

TEAM = [["a", "b", "c"]]


def test_agents_in_turn_are_used_evenly() -> None:
    done = [Work("a", 0, 9), Work("b", 1, 9), Work("c", 2, 9)]
    assert unevenness(done, TEAM) == Unevenness(count=0, load=1, chosen_above_least=0)


def test_an_agent_that_nobody_asks_counts() -> None:
    done = [Work("a", 0, 9), Work("b", 1, 9), Work("a", 2, 9)]
    assert unevenness(done, TEAM) == Unevenness(count=2, load=2, chosen_above_least=1)


def test_loads_that_differ_by_what_ends_are_no_wrong_choice() -> None:
    done = [Work("a", 0, 3), Work("b", 0, 3), Work("c", 0, 9), Work("a", 1, 3), Work("b", 1, 3), Work("c", 1, 9)]
    assert unevenness(done, TEAM) == Unevenness(count=0, load=2, chosen_above_least=0)


def test_who_ends_as_another_begins_is_free() -> None:
    done = [Work("a", 0, 1), Work("a", 1, 2)]
    assert unevenness(done, [["a", "b"]]).chosen_above_least == 0


def test_others_are_no_equals() -> None:
    done = [Work("a", 0, 9), Work("z", 0, 9), Work("z", 1, 9)]
    assert unevenness(done, [*TEAM, ["z"]]) == Unevenness(count=1, load=1, chosen_above_least=0)


def test_the_complex_ones_are_spread_evenly() -> None:
    texts = list(inquiries(10, 0.3))
    assert [n for n, text in enumerate(texts) if text in COMPLEX] == [3, 6, 9]
    assert not set(inquiries(10, 0.0)) & set(COMPLEX) and set(inquiries(10, 1.0)) <= set(COMPLEX)


def test_equal_are_agents_of_one_tier_with_the_same_specialties() -> None:
    said = [("a", "One", ["x", "y"]), ("b", "One", []), ("c", "One", ["y", "x"]), ("d", "Two", [])]
    agents = [{"id": each, "tier": tier, "specialties": specialties} for each, tier, specialties in said]
    assert teams_of(agents) == [["a", "c"], ["b"], ["d"]]
