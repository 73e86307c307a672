"""Which agent does a step that asks for capabilities."""

from typing import Any

from handrail_agent_runner.choosing import RUNS_REMEMBERED, Choosing
from handrail_agent_runner.registry import Registry
from handrail_contracts.steps import AgentRegistered, StepRequested
from hypothesis import given
from hypothesis import strategies as st
from unit.agent_runner.builders import SETTINGS, World, command, function, registered, request

NAMES = ("ann", "bob", "cyd", "dan")


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
