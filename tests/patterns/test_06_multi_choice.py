"""WCP-6 and WCP-7: any number of branches, and a join that waits for those that were taken."""

from patterns.conftest import Engine, agent, step


async def test_multi_choice_and_structured_synchronizing_merge(engine: Engine) -> None:
    cases = [
        {"condition": f"input.n > {limit}", "next_steps": [name]} for limit, name in ((1, "a"), (3, "b"), (7, "c"))
    ]
    run = await engine.run(
        step("choose", "switch", parameters={"cases": cases, "mode": "all"}),
        agent("a", "join"), agent("b", "join", does="slow:50"), agent("c", "join"),
        agent("join", input="{{previous_output}}"),
        given={"n": 5},
    )  # fmt: skip
    assert sorted(await run.begun()) == ["a", "b", "choose", "join"]
    assert '{"a":"a","b":"b"}' in engine.end(run)
