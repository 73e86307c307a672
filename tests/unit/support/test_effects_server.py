"""The effect-counting agent as the runner will meet it: over HTTP, in its own process."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from support.effects import Effect, load_effects
from support.processes import Process

TESTS = Path(__file__).parents[2]


class Agent:
    def __init__(self, url: str, process: Process, journal: Path) -> None:
        self.client = httpx2.AsyncClient(base_url=url, timeout=5)
        self.process = process
        self.journal = journal

    async def execute(self, agent: str, key: str = "k1", value: Any = None, attempt: int = 1) -> httpx2.Response:
        headers = {
            "Idempotency-Key": key,
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "X-Handrail-Execution-Id": "e1",
            "X-Handrail-Step-Id": "s1",
            "X-Handrail-Attempt": str(attempt),
        }
        body = {"agent": agent, "input": value, "context": {}, "execution_id": "e1", "step_id": "s1", "run_id": "r1"}
        return await self.client.post("/api/v1/execute", headers=headers, json=body | {"attempt": attempt})

    def effects(self) -> list[Effect]:
        return load_effects(self.journal)

    async def began(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.effects()) < count:
                await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    journal = tmp_path / "effects.jsonl"
    process = Process.of_module(
        "support.effects", tmp_path / "log", {"PYTHONPATH": str(TESTS)}, "--journal", str(journal)
    )
    process.start()
    try:
        agent = Agent(await process.printed("http://"), process, journal)
        async with agent.client:
            yield agent
    finally:
        assert await process.shut_down() == 0 or process.outages


async def test_an_effect_is_journaled_with_who_asked_for_it(agent: Agent) -> None:
    response = await agent.execute("echo", key="run-7", value={"a": [1]}, attempt=2)
    assert response.json() == {"output": {"a": [1]}}
    (effect,) = agent.effects()
    assert (effect.key, effect.execution_id, effect.step_id, effect.run_id) == ("run-7", "e1", "s1", "r1")
    assert (effect.attempt, effect.agent, effect.pid, effect.status) == (2, "echo", agent.process.pid, 200)
    assert effect.finished is not None
    assert effect.started <= effect.finished


async def test_flaky_counts_failures_per_key(agent: Agent) -> None:
    statuses = [(await agent.execute("flaky:2", key)).status_code for key in ("a", "a", "b", "a", "b", "b")]
    assert statuses == [503, 503, 503, 200, 503, 200]


async def test_agents_do_what_their_names_say(agent: Agent) -> None:
    assert (await agent.execute("fail:418")).status_code == 418
    assert len((await agent.execute("big:100000")).json()["output"]) == 100_000
    assert (await agent.execute("slow:1", value="x")).json() == {"output": "x"}
    assert (await agent.execute("writer", value="x")).json() == {"output": "x"}
    with pytest.raises(ValueError):
        (await agent.execute("garbage")).json()


@pytest.mark.parametrize("name", ["close", "torn"])
async def test_a_reset_answer_is_still_a_finished_effect(agent: Agent, name: str) -> None:
    with pytest.raises(httpx2.TransportError):
        await agent.execute(name, value="x" * 1000)
    (effect,) = agent.effects()
    assert effect.finished is not None


async def test_a_hanging_agent_started_and_never_finished(agent: Agent) -> None:
    asking = asyncio.create_task(agent.execute("hang"))
    await agent.began(1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert (await agent.execute("echo", key="k2")).status_code == 200
    hanging, echo = agent.effects()
    assert (hanging.finished, echo.status) == (None, 200)


async def test_a_caller_who_leaves_does_not_undo_the_effect(agent: Agent) -> None:
    asking = asyncio.create_task(agent.execute("slow:100"))
    await agent.began(1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    async with asyncio.timeout(5):
        while agent.effects()[0].finished is None:
            await asyncio.sleep(0.01)


async def test_a_killed_server_leaves_started_effects_and_counts_on_after_a_restart(agent: Agent) -> None:
    asking = asyncio.create_task(agent.execute("slow:60000"))
    await agent.began(1)
    agent.process.kill()
    with pytest.raises(httpx2.TransportError):
        await asking
    (effect,) = agent.effects()
    assert effect.finished is None


async def test_many_effects_at_once_on_kept_connections(agent: Agent) -> None:
    keys = [f"k{n}" for n in range(200)]
    responses = await asyncio.gather(*(agent.execute("slow:5", key) for key in keys))
    assert {response.status_code for response in responses} == {200}
    assert sorted(effect.key for effect in agent.effects()) == sorted(keys)


async def test_what_is_not_an_execute_call_is_refused_and_counts_for_nothing(agent: Agent) -> None:
    assert (await agent.client.get("/healthz")).status_code == 200
    assert (await agent.client.get("/api/v1/execute")).status_code == 404
    assert (await agent.client.post("/api/v1/execute", content=b"{")).status_code == 400
    assert (await agent.client.post("/api/v1/execute", json=[])).status_code == 400
    assert not agent.journal.read_bytes()
