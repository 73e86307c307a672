"""WCP-30: a step begins when n of m branches have ended."""

from patterns.conftest import Engine, agent, step


async def test_partial_join(engine: Engine) -> None:
    run = await engine.run(
        step("split", "parallel", "a", "b", "c"),
        agent("a", "go"), agent("b", "go"), agent("c", "go", does="slow:2000"), agent("go", join=2),
    )  # fmt: skip
    kinds = [(entry.type, entry.event.get("step_id")) for entry in await run.history()]
    began = kinds.index(("step.started", "go"))
    assert {kinds.index(("step.completed", name)) < began for name in ("a", "b")} == {True}
    assert began < kinds.index(("step.completed", "c"))
