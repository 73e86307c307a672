"""WCP-9: the first branch to end lets the next step begin; the others end without effect on it."""

from patterns.conftest import Engine, agent, step


async def test_discriminator(engine: Engine) -> None:
    run = await engine.run(
        step("split", "parallel", "quick", "slow"),
        agent("quick", "go"), agent("slow", "go", does="slow:2000"), agent("go", join="any"),
    )  # fmt: skip
    kinds = [(entry.type, entry.event.get("step_id")) for entry in await run.history()]
    assert kinds.index(("step.started", "go")) < kinds.index(("step.completed", "slow"))
    assert kinds.count(("step.started", "go")) == 1
