"""WCP-19: one step is withdrawn while it runs; the execution goes on without it."""

from patterns.conftest import Engine, Run, agent


async def test_cancel_activity(engine: Engine) -> None:
    async def skip(run: Run) -> None:
        await run.until("a")
        await run.control("skip", step_id="a", data="not needed")

    run = await engine.run(agent("a", "b", does="slow:2000"), agent("b", input="{{previous_output}}"), meanwhile=skip)
    kinds = [(entry.type, entry.event.get("step_id")) for entry in await run.history()]
    assert kinds.index(("step.completed", "a")) < kinds.index(("step.started", "b"))
    assert ("steps.cancelled", None) in kinds
    assert '"not needed"' in engine.end(run)
