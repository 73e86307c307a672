"""WCP-2: several steps begin together."""

from patterns.conftest import Engine, agent, step


async def test_parallel_split(engine: Engine) -> None:
    run = await engine.run(step("split", "parallel", "a", "b"), agent("a", does="slow:50"), agent("b", does="slow:50"))
    kinds = [(entry.type, entry.event.get("step_id")) for entry in await run.history()]
    assert kinds.index(("step.started", "b")) < kinds.index(("step.completed", "a"))
