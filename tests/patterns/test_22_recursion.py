"""WCP-22: a workflow runs itself, until its data says that it is enough."""

from patterns.conftest import Engine, agent, step


async def test_recursion(engine: Engine) -> None:
    first = await engine.run(agent("a"))
    condition = {"condition": "input.n > 0"}
    call = {"workflow_id": first.workflow_id, "input": {"n": "{{input.n - 1}}"}}
    await engine.define(
        first.workflow_id, 2,
        step("check", "condition", "again", parameters=condition, else_steps=["stop"]),
        step("again", "sub_workflow", parameters=call),
        step("stop", "data_transform", parameters={"output": "the bottom, at {{input.n}}"}),
    )  # fmt: skip
    run = await engine.start(first.workflow_id, 2, given={"n": 3})
    assert '"the bottom, at 0"' in engine.end(run)
