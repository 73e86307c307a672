"""WCP-3: a step begins when all branches have ended."""

from patterns.conftest import Engine, agent, step


async def test_synchronization(engine: Engine) -> None:
    run = await engine.run(
        step("split", "parallel", "quick", "slow"),
        agent("quick", "join"),
        agent("slow", "join", does="slow:50"),
        agent("join", input="{{previous_output}}"),
    )
    assert (await run.begun())[-1] == "join"
    assert '{"quick":"quick","slow":"slow"}' in engine.end(run)
