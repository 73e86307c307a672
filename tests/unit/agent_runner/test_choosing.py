"""Which agent does a step that asks for capabilities."""

from collections import Counter
from typing import Any

import pytest
from handrail_agent_runner.choosing import RUNS_REMEMBERED, TURNS_REMEMBERED, Choosing
from handrail_agent_runner.registry import Registry
from handrail_contracts.steps import AgentRegistered, Choice, StepRequested
from hypothesis import given
from hypothesis import strategies as st
from unit.agent_runner.builders import SETTINGS, World, command, function, registered, request

NAMES = ("ann", "bob", "cyd", "dan")
IN_TURN = Choice(strategy="round_robin")
BY_TOPIC = Choice(prefer="topic")
MOVES = st.lists(st.one_of(st.just("begin"), st.integers(0, 50)), max_size=60)
"""Attempts begin; a number ends one of those under way."""


def wish(*capabilities: str, run: str = "r1", **changes: Any) -> StepRequested:
    return request(run, "", capabilities=capabilities or ("draft",), **changes)


def able(agent: str, *capabilities: str, owner: str = "", kind: str = "scripted", **config: Any) -> AgentRegistered:
    changes = {"capabilities": capabilities or ("draft",), "organization_id": owner}
    return registered(agent, kind, **config).model_copy(update=changes)


@given(
    st.lists(st.sampled_from(NAMES), unique=True),
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2)),
    st.lists(st.sampled_from(NAMES), max_size=8),
    st.lists(st.sampled_from(NAMES), max_size=4),
)
def test_closed_first_then_who_has_not_failed_then_the_least_busy_then_by_name(
    there: list[str], ranks: dict[str, int], busy: list[str], failed: list[str]
) -> None:
    choosing = Choosing(lambda _: [able(name) for name in there], lambda each: ranks.get(each.agent, 0))
    for number, name in enumerate(busy):
        choosing.began(f"b{number}", request(agent=name))
    for name in failed:
        choosing.answered(wish().model_copy(update={"agent": name}), failed=True)
    chosen = choosing.choose(wish()).agent

    def better(name: str) -> tuple[int, bool, int, str]:
        return ranks.get(name, 0), name in failed, busy.count(name), name

    assert chosen == (sorted(there, key=better)[0] if there else "")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(NAMES), st.booleans())))
def test_attempts_are_counted_from_their_beginning_to_their_end(steps: list[tuple[str, str, bool]]) -> None:
    choosing, at_work = Choosing(lambda _: [], lambda _: 0), dict[str, str]()
    for key, name, begins in steps:
        if begins:
            choosing.began(key, wish(run=key).model_copy(update={"agent": name}))
            at_work.pop(key, None)
            at_work[key] = name
        else:
            choosing.ended(key)
            at_work.pop(key, None)
    assert choosing.running == len(at_work)
    assert [each.agent for each in choosing.chosen()] == list(reversed(at_work.values()))
    assert choosing._running == {name: list(at_work.values()).count(name) for name in set(at_work.values())}


def carried_out(moves: list[str | int], agents: int, choice: Choice | None) -> tuple[Counter[str], bool]:
    """How often each agent was chosen, and whether each time it was one of those with the least to do."""
    names, open_, least = NAMES[:agents], list[tuple[str, str]](), True
    choosing, had = Choosing(lambda _: [able(name) for name in names], lambda _: 0), Counter(names)
    for number, move in enumerate(moves):
        if isinstance(move, int):
            if open_:
                choosing.ended(open_.pop(move % len(open_))[0])
            continue
        chosen = choosing.choose(wish(run=f"r{number}", choice=choice))
        loads = Counter(dict.fromkeys(names, 0))
        loads.update(name for _, name in open_)
        least = least and loads[chosen.agent] == min(loads.values())
        had[chosen.agent] += 1
        open_.append((f"k{number}", chosen.agent))
        choosing.began(f"k{number}", chosen)
    return had, least


@given(MOVES, st.integers(1, 4), st.sampled_from([None, Choice(), BY_TOPIC]))
def test_of_equals_the_least_loaded_is_taken_whatever_begins_and_ends(
    moves: list[str | int], agents: int, choice: Choice | None
) -> None:
    assert carried_out(moves, agents, choice)[1], "so whoever was chosen is within one of the least"


@given(MOVES, st.integers(1, 4))
def test_in_turn_counts_of_equals_stay_within_one_whatever_begins_and_ends(moves: list[str | int], agents: int) -> None:
    had, _ = carried_out(moves, agents, IN_TURN)
    assert max(had.values()) - min(had.values()) <= 1


def test_turns_are_kept_for_each_set_of_capabilities_and_forgotten_with_time() -> None:
    choosing = Choosing(lambda _: [able("ann"), able("bob")], lambda _: 0)

    def next_for(*capabilities: str) -> str:
        return choosing.choose(wish(*capabilities, choice=IN_TURN)).agent

    assert [next_for("draft"), next_for("german"), next_for("draft")] == ["ann", "ann", "bob"]
    assert [next_for("draft", "german"), next_for("german", "draft")] == ["ann", "bob"], "their order is none"
    for number in range(TURNS_REMEMBERED + 10):
        next_for(str(number))
    assert len(choosing._turns) == TURNS_REMEMBERED


@pytest.mark.parametrize("strategy", ["least_loaded", "round_robin"])
@pytest.mark.parametrize(
    ("given_input", "expected"),
    [
        ({"topic": "billing"}, "cyd"),
        ({"topic": ["billing", "german"]}, "dan"),
        ({"topic": "sailing"}, "bob"),
        ({"topic": ""}, "bob"),
        ({"topic": 7}, "bob"),
        ({"topic": [None, {}]}, "bob"),
        ({}, "bob"),
        ("billing", "bob"),
        (None, "bob"),
    ],
)
def test_who_has_what_the_input_prefers_goes_first_and_if_nobody_has_anybody_does(
    strategy: Any, given_input: Any, expected: str
) -> None:
    there = [able("ann"), able("bob"), able("cyd", "draft", "billing"), able("dan", "draft", "billing", "german")]
    choosing = Choosing(lambda _: there, lambda _: 0)
    for name in ("ann", "cyd", "dan"):
        choosing.began(f"busy {name}", request(agent=name))
    choosing.began("busy dan, too", request(agent="dan"))
    for _ in range(4 if strategy == "round_robin" else 0):
        choosing.choose(wish(choice=IN_TURN))
    chosen = choosing.choose(wish(choice=Choice(strategy=strategy, prefer="topic"), input=given_input)).agent
    assert chosen == ("ann" if strategy == "round_robin" and expected == "bob" else expected)


def test_a_breaker_and_a_failure_count_for_more_than_a_specialty_or_a_turn() -> None:
    there = [able("ann"), able("bob", "draft", "billing"), able("cyd", "draft", "billing")]
    choosing = Choosing(lambda _: there, lambda each: 1 if each.agent == "bob" else 0)
    asked = wish(choice=Choice(strategy="round_robin", prefer="topic"), input={"topic": "billing"})
    assert [choosing.choose(asked).agent for _ in range(2)] == ["cyd", "cyd"], "although it had its turn"
    choosing.answered(asked.model_copy(update={"agent": "cyd"}), failed=True)
    assert choosing.choose(asked).agent == "ann"


def test_what_failed_a_run_is_forgotten_when_another_has_done_it_and_with_time() -> None:
    choosing = Choosing(lambda _: [able("ann"), able("bob")], lambda _: 0)
    choosing.answered(wish().model_copy(update={"agent": "ann"}), failed=True)
    assert choosing.choose(wish()).agent == "bob"
    assert choosing.choose(wish(run="another")).agent == "ann"
    choosing.answered(wish().model_copy(update={"agent": "bob"}), failed=False)
    assert choosing.choose(wish()).agent == "ann"
    for number in range(RUNS_REMEMBERED + 10):
        choosing.answered(wish(run=f"run{number}").model_copy(update={"agent": "ann"}), failed=True)
    assert len(choosing._failed) == RUNS_REMEMBERED


def test_able_are_those_with_all_of_them_that_the_tenant_can_see() -> None:
    registry = Registry(SETTINGS)
    for agent in (
        able("shared", "draft", "german"), able("ours", "draft", "german", owner="acme"), able("half", "draft"),
        able("theirs", "draft", "german", owner="umbrella"), able("tool/x", "draft", "german", kind="tool"),
        able("broken", "draft", "german", kind="python", entry_point="no_such:thing"),
    ):  # fmt: skip
        registry.add(agent)
    assert [each.agent for each in registry.able(wish("german", "draft"))] == ["shared", "ours"]
    assert "broken" in registry.broken
    registry.add(able("ours", "french", owner="acme"))
    registry.add(able("shared").model_copy(update={"removed": True}))
    assert list(registry.able(wish("german", "draft"))) == []
    assert [each.agent for each in registry.able(wish("french"))] == ["ours"]


async def test_the_runner_chooses_when_it_takes_the_command_and_spreads_a_batch() -> None:
    world = World.new(able("ann"), able("bob"))
    world.take(*(command(wish(run=f"r{n}"), n) for n in range(4)))
    await world.finished()
    assert sorted(body["agent"] for body in world.answers.bodies()) == ["ann", "ann", "bob", "bob"]
    assert world.runner._choosing.running == 0


async def test_a_retry_goes_to_another_agent() -> None:
    world = World.new(able("ann", fail_attempts=9), able("bob"))
    world.take(command(wish(), 0))
    await world.finished()
    world.take(command(wish(attempt=2), 1))
    await world.finished()
    assert [(body["agent"], body["status"]) for body in world.answers.bodies()] == [
        ("ann", "failed"),
        ("bob", "completed"),
    ]


async def test_inline_agents_are_chosen_and_run_inline() -> None:
    world = World.new(function("quick", "echo").model_copy(update={"capabilities": ("draft",)}))
    world.take(command(wish()))
    assert [body["agent"] for body in world.answers.bodies()] == ["quick"], "nothing was waited for"


async def test_an_agent_that_comes_late_is_waited_for() -> None:
    world = World.new()
    world.take(command(wish()))
    world.registry.add(able("late"))
    await world.finished()
    assert [body["agent"] for body in world.answers.bodies()] == ["late"]
    assert world.runner._choosing.running == 0


async def test_capabilities_that_nobody_has_fail_the_attempt_with_their_names(monkeypatch: Any) -> None:
    monkeypatch.setattr("handrail_agent_runner.registrations.LATE_SECONDS", 0.05)
    world = World.new(able("ann"))
    world.take(command(wish("draft", "sing")))
    await world.finished()
    [body] = world.answers.bodies()
    assert (body["agent"], body["error"]["code"]) == ("", "NO_CAPABLE_AGENT")
    assert "draft, sing" in body["error"]["message"]
