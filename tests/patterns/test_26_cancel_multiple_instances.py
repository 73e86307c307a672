"""WCP-26 and WCP-27: the instances of a step that still run are withdrawn, and the step is done with what somebody gives."""

from patterns.conftest import Engine, Run, agent, step


async def test_cancel_and_complete_multiple_instances(engine: Engine) -> None:
    async def skip(run: Run) -> None:
        await run.until("each[2].work")
        await run.control("skip", step_id="each", data=["enough"])

    loop = {"over": [1, 2, 3], "max_parallel": 3, "steps": [agent("work", does="slow:2000")]}
    run = await engine.run(
        step("each", "loop", "after", parameters=loop), agent("after", input="{{previous_output}}"), meanwhile=skip
    )
    [cancelled] = [entry.event["step_ids"] for entry in await run.history() if entry.type == "steps.cancelled"]
    assert sorted(cancelled) == ["each", "each[0].work", "each[1].work", "each[2].work"]
    assert '["enough"]' in engine.end(run)
