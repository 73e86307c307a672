"""Not in the catalogue: an execution that is paused begins nothing new, and goes on where it stood."""

import asyncio

from patterns.conftest import Engine, Run, agent


async def test_pause_and_resume(engine: Engine) -> None:
    async def hold(run: Run) -> None:
        await run.until("a")
        await run.control("pause", reason="look first")
        await asyncio.sleep(2.5)
        assert [entry.type for entry in await run.history()][-1] == "step.completed"
        await run.control("resume")

    run = await engine.run(agent("a", "b", does="slow:2000"), agent("b"), meanwhile=hold)
    assert await run.begun() == ["a", "b"]
