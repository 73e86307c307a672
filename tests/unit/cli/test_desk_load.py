"""What the load on a desk tells of how evenly its agents were used."""

from handrail.bench.desk import COMPLEX, Unevenness, Work, inquiries, unevenness

TEAM = {"Frontline": ["a", "b", "c"]}


def work(agent: str, began: float, ended: float, tier: str = "Frontline") -> Work:
    return Work(tier, agent, began, ended)


def test_agents_in_turn_are_used_evenly() -> None:
    done = [work("a", 0, 9), work("b", 1, 9), work("c", 2, 9)]
    assert unevenness(done, TEAM) == Unevenness(count=0, load=1, chosen_above_least=0)


def test_an_agent_that_nobody_asks_counts() -> None:
    done = [work("a", 0, 9), work("b", 1, 9), work("a", 2, 9)]
    assert unevenness(done, TEAM) == Unevenness(count=2, load=2, chosen_above_least=1)


def test_loads_that_differ_by_what_ends_are_no_wrong_choice() -> None:
    done = [work("a", 0, 3), work("b", 0, 3), work("c", 0, 9), work("a", 1, 3), work("b", 1, 3), work("c", 1, 9)]
    assert unevenness(done, TEAM) == Unevenness(count=0, load=2, chosen_above_least=0)


def test_who_ends_as_another_begins_is_free() -> None:
    done = [work("a", 0, 1), work("a", 1, 2)]
    assert unevenness(done, {"Frontline": ["a", "b"]}).chosen_above_least == 0


def test_other_tiers_are_no_equals() -> None:
    done = [work("a", 0, 9), work("z", 0, 9, "Expert"), work("z", 1, 9, "Expert")]
    assert unevenness(done, {**TEAM, "Expert": ["z"]}) == Unevenness(count=1, load=1, chosen_above_least=0)


def test_the_complex_ones_are_spread_evenly() -> None:
    texts = list(inquiries(10, 0.3))
    assert [n for n, text in enumerate(texts) if text in COMPLEX] == [3, 6, 9]
    assert not set(inquiries(10, 0.0)) & set(COMPLEX) and set(inquiries(10, 1.0)) <= set(COMPLEX)
