"""WCP-20: the whole execution is withdrawn; what runs is given up."""

from patterns.conftest import Engine, Run, agent


async def test_cancel_case(engine: Engine) -> None:
    async def cancel(run: Run) -> None:
        await run.until("a")
        await run.control("cancel", reason="changed my mind")

    run = await engine.run(agent("a", "b", does="slow:2000"), agent("b"), meanwhile=cancel)
    kinds = [entry.type for entry in await run.history()]
    assert kinds[-3:] == ["steps.cancelled", "steps.skipped", "execution.cancelled"]
    assert '"workflow.cancelled"' in engine.end(run)
