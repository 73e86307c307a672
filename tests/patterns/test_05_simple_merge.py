"""WCP-5: branches of which one is taken come together again, without waiting for the others."""

from patterns.conftest import Engine, agent, step


async def test_simple_merge(engine: Engine) -> None:
    run = await engine.run(
        step("check", "condition", "a", parameters={"condition": "input.n > 5"}, else_steps=["b"]),
        agent("a", "merge"), agent("b", "merge"), agent("merge"),
        given={"n": 1},
    )  # fmt: skip
    assert await run.begun() == ["check", "b", "merge"]
