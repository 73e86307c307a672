"""No pattern of the catalogue, and asked for as often: what was done is undone in reverse order."""

from patterns.conftest import Engine, agent


async def test_compensation(engine: Engine) -> None:
    run = await engine.run(
        agent("flight", "hotel", compensate_with="cancel-flight"),
        agent("hotel", "pay", compensate_with="cancel-hotel"),
        agent("pay", does="fail:400"),
        agent("cancel-flight"), agent("cancel-hotel"),
    )  # fmt: skip
    assert await run.begun() == ["flight", "hotel", "pay", "cancel-hotel", "cancel-flight"]
    assert '"workflow.failed"' in engine.end(run)
