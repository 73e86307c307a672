"""WCP-18: a step waits until the execution has come to a state; here, somebody says so."""

from patterns.conftest import Engine, Run, agent, step


async def test_milestone(engine: Engine) -> None:
    async def reach(run: Run) -> None:
        await run.until("wait", "a")
        assert "b" not in await run.begun()
        await run.control("signal", signal="contract signed")

    run = await engine.run(
        step("split", "parallel", "a", "wait"),
        agent("a"), step("wait", "signal", "b", parameters={"name": "contract signed"}), agent("b"),
        meanwhile=reach,
    )  # fmt: skip
    assert (await run.begun())[-1] == "b"
