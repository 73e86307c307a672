"""WCP-1: a step begins after the one before it has ended."""

from patterns.conftest import Engine, agent


async def test_sequence(engine: Engine) -> None:
    run = await engine.run(agent("a", "b"), agent("b", "c"), agent("c"))
    assert await run.begun() == ["a", "b", "c"]
