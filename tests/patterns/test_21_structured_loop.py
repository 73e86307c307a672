"""WCP-21: steps are repeated until a condition holds."""

from patterns.conftest import Engine, agent, step


async def test_structured_loop(engine: Engine) -> None:
    body = agent("again", input={"n": "{{loop.index}}"})
    run = await engine.run(
        step("repeat", "loop", "after", parameters={"until": "loop.last.n >= 2", "steps": [body]}),
        agent("after", input="{{previous_output}}"),
    )
    assert await run.begun() == ["repeat", "repeat[0].again", "repeat[1].again", "repeat[2].again", "after"]
    assert '"n":2' in engine.end(run)
