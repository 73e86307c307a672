"""WCP-16: what happens first decides: a signal, or the time that it may take."""

from patterns.conftest import Engine, Run, agent, step

WAIT = step("wait", "signal", "check", parameters={"name": "paid", "timeout_seconds": 1, "on_timeout": "continue"})
CHECK = step("check", "condition", "ship", parameters={"condition": "previous_output != null"}, else_steps=["remind"])


async def test_deferred_choice_by_signal(engine: Engine) -> None:
    async def pay(run: Run) -> None:
        await run.until("wait")
        await run.control("signal", signal="paid", data={"amount": 5})

    run = await engine.run(WAIT, CHECK, agent("ship"), agent("remind"), meanwhile=pay)
    assert (await run.begun())[-1] == "ship"


async def test_deferred_choice_by_time(engine: Engine) -> None:
    run = await engine.run(WAIT, CHECK, agent("ship"), agent("remind"))
    assert (await run.begun())[-1] == "remind"
