"""WCP-29 and WCP-32: the first branch, or the first n, let the next step begin, and the others are withdrawn."""

import pytest
from patterns.conftest import Engine, agent, step


@pytest.mark.parametrize(("join", "slow"), [("any", ["b", "c"]), (2, ["c"])])
async def test_cancelling_discriminator_and_partial_join(engine: Engine, join: object, slow: list[str]) -> None:
    branches = [agent(name, "go", does="slow:2000" if name in slow else "echo") for name in ("a", "b", "c")]
    run = await engine.run(
        step("split", "parallel", "a", "b", "c"), *branches, agent("go", join=join, cancel_rest=True)
    )
    [cancelled] = [entry.event["step_ids"] for entry in await run.history() if entry.type == "steps.cancelled"]
    assert sorted(cancelled) == slow
    completed = {entry.event["step_id"] for entry in await run.history() if entry.type == "step.completed"}
    assert completed == {"split", "a", "b", "c", "go"} - set(slow)
