"""Approvals is killed in the midst of decisions: none is lost, none counts twice, and the chain of its journal holds."""

import asyncio
import random
from typing import Any

from handrail.chains import read_chains
from handrail_runtime.settings import Settings

from product.conftest import Api, step

DECISIONS, KILLS = 500, 3


async def test_approvals_is_killed_in_the_midst_of_500_decisions(api: Api) -> None:
    gate = step("gate", "human_approval", parameters={"message": "go on?"})
    workflow_id = await api.workflow(gate, name="decided under fire")
    permits = asyncio.Semaphore(50)

    async def begin(_: int) -> str:
        async with permits:
            return await api.start(workflow_id)

    executions = await asyncio.gather(*map(begin, range(DECISIONS)))
    gates: dict[str, str] = {}
    async with asyncio.timeout(60):
        while len(gates) < DECISIONS:
            gates = await pending(api, set(executions))
    killing = asyncio.create_task(kill_now_and_then(api))
    told = await asyncio.gather(*(decide(api, gate_id, permits) for gate_id in gates))
    await killing
    ended = [await api.ended(execution_id) for execution_id in executions]
    assert {execution["status"] for execution in ended} == {"completed"}
    assert set(told) <= {200, 409}
    for gate_id in random.sample(list(gates), 50):
        history = [entry["event"]["type"] for entry in (await api.get(f"/approvals/{gate_id}"))["history"]]
        assert (history.count("approval.voted"), history.count("approval.closed")) == (1, 1)
    chains = await read_chains(Settings(brokers=api.platform.broker.bootstrap), [])
    assert [problem for chain in chains for problem in chain.problems] == []


async def pending(api: Api, executions: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    query: dict[str, Any] = {"status": "pending", "limit": 200}
    while True:
        page = await api.get("/approvals", **query)
        found |= {item["id"]: item["execution_id"] for item in page["items"] if item["execution_id"] in executions}
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


async def decide(api: Api, gate_id: str, permits: asyncio.Semaphore) -> int:
    """As a client does that is not told how it went: again, with the same key."""
    async with permits:
        while True:
            headers = {"Idempotency-Key": f"decide-{gate_id}"}
            answer = await api.client.post(f"/approvals/{gate_id}", json={"decision": "approved"}, headers=headers)
            if answer.status_code not in (202, 503):
                return int(answer.status_code)
            await asyncio.sleep(0.2)


async def kill_now_and_then(api: Api) -> None:
    for _ in range(KILLS):
        await asyncio.sleep(random.uniform(0.2, 0.8))
        api.platform.cluster.get("approvals").kill()
        await api.platform.cluster.restart("approvals")
