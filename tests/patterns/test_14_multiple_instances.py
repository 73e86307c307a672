"""WCP-13 and WCP-14: as many instances of a step as the definition, or the data, says; what follows waits for all."""

from patterns.conftest import Engine, agent, step


async def test_multiple_instances_known_at_run_time(engine: Engine) -> None:
    body = agent("work", input="{{loop.item}}", does="slow:50")
    run = await engine.run(
        step("each", "loop", "after", parameters={"over": "{{input.items}}", "max_parallel": 3, "steps": [body]}),
        agent("after", input="{{previous_output}}"),
        given={"items": ["x", "y", "z"]},
    )
    assert sorted(await run.begun()) == ["after", "each", "each[0].work", "each[1].work", "each[2].work"]
    kinds = [(entry.type, entry.event.get("step_id")) for entry in await run.history()]
    assert kinds.index(("step.started", "each[2].work")) < kinds.index(("step.completed", "each[0].work"))
    assert '["x","y","z"]' in engine.end(run)
