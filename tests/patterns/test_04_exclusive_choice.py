"""WCP-4: one of several branches."""

import pytest
from patterns.conftest import Engine, agent, step


@pytest.mark.parametrize(("n", "taken"), [(1, "low"), (5, "middle"), (9, "high")])
async def test_exclusive_choice(engine: Engine, n: int, taken: str) -> None:
    cases = [
        {"condition": "input.n > 7", "next_steps": ["high"]},
        {"condition": "input.n > 3", "next_steps": ["middle"]},
    ]
    run = await engine.run(
        step("choose", "switch", parameters={"cases": cases}, else_steps=["low"]),
        agent("low"), agent("middle"), agent("high"),
        given={"n": n},
    )  # fmt: skip
    assert await run.begun() == ["choose", taken]
