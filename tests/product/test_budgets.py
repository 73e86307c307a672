"""Budgets over HTTP: what agents use counts, who finds nothing left waits with a named blocker, and raising it lets him go on."""

import asyncio
from typing import Any

from product.conftest import Api, agent
from product.test_conversations import converse
from product.test_language_models import register, script

Json = dict[str, Any]


async def waits(api: Api, execution_id: str) -> Json:
    return await api.until(
        execution_id, lambda found: any((step["error"] or {}).get("code") == "BUDGET_SPENT" for step in found["steps"])
    )


async def settled(api: Api, scope: str, name: str) -> Json:
    async with asyncio.timeout(10):
        while (found := await api.get(f"/budgets/{scope}/{name}"))["open"]:
            await asyncio.sleep(0.03)
    return found


async def test_what_is_used_counts_and_a_spent_budget_is_a_named_blocker_until_it_is_raised(api: Api) -> None:
    name = await register(api, "llm-thrifty")
    await script(api, name, {"text": "one two three"})
    await api.put(f"/budgets/agent/{name}", {"limits": {"calls": 1}})
    workflow_id = await api.workflow(agent("write", does=name))
    assert (await api.ended(await api.start(workflow_id)))["status"] == "completed"
    found = await settled(api, "agent", name)
    assert (found["used"]["calls"], found["used"]["tokens"] > 3, found["used"]["seconds"] > 0) == (1, True, True)
    execution_id = await api.start(workflow_id)
    waiting = await waits(api, execution_id)
    assert waiting["status"] == "waiting"
    why = (await api.get(f"/executions/{execution_id}/why"))["why"]
    assert f"the budget of agent {name} is spent: 1 of 1 model calls are used; raise it" in why
    [attempt] = (await api.get(f"/budgets/agent/{name}"))["attempts"]
    assert (attempt["execution_id"], attempt["state"]) == (execution_id, "waits")
    await api.put(f"/budgets/agent/{name}", {"limits": {"calls": 10}})
    assert (await api.ended(execution_id))["result"] == "one two three"
    await api.delete(f"/budgets/agent/{name}", 204)
    await api.get(f"/budgets/agent/{name}", 404)


async def test_a_conversation_that_has_used_up_its_part_goes_on_where_it_stood(api: Api) -> None:
    call = {"tool_calls": [{"name": "word_count", "arguments": {"text": "x"}}]}
    workflow_id = await converse(api, "llm-talker", *[call] * 3, {"text": "at last"}, tools=["word_count"])
    document = await api.get(f"/workflows/{workflow_id}")
    await api.put(f"/workflows/{workflow_id}", {**document["definition"], "budget": {"calls": 2}})
    execution_id = await api.start(workflow_id)
    await waits(api, execution_id)
    await api.put(f"/budgets/execution/{execution_id}", {"limits": {"calls": 20}})
    assert (await api.ended(execution_id))["result"] == "at last"
    calls = (await api.get(f"/executions/{execution_id}/model-calls"))["items"]
    assert len(calls) == 4, "no call of the model was made twice"
    found = await settled(api, "execution", execution_id)
    assert found["used"]["calls"] == 4


async def test_many_at_once_use_no_more_than_their_tenant_has(api: Api) -> None:
    async with api.as_tenant("thrifty-tenant") as other:
        name = await register(other, "llm-crowd")
        await script(other, name, {"text": "done"})
        await other.put("/budgets/tenant/all", {"limits": {"calls": 5}})
        workflow_id = await other.workflow(agent("write", does=name))
        started = [await other.start(workflow_id) for _ in range(8)]
        async with asyncio.timeout(20):
            while (found := await other.get("/budgets/tenant/all"))["waiting"] != 3 or found["open"]:
                await asyncio.sleep(0.05)
        assert found["used"]["calls"] == 5
        await other.put("/budgets/tenant/all", {"limits": {"calls": 50}})
        for execution_id in started:
            assert (await other.ended(execution_id))["status"] == "completed"
        assert (await settled(other, "tenant", "all"))["used"]["calls"] == 8
        assert [item["scope"] for item in (await other.get("/budgets"))["items"]] == ["tenant"]
    assert all(item["name"] != "all" for item in (await api.get("/budgets"))["items"])


async def test_what_can_not_be_is_said(api: Api) -> None:
    await api.put("/budgets/agent/x", {"limits": {}}, 422)
    await api.put("/budgets/planet/x", {"limits": {"calls": 1}}, 422)
    told = await api.post("/workflows", {"name": "w", "steps": [agent("a")], "budget": {"coins": 3}}, 422)
    assert told["errors"][0]["path"] == "budget.coins"
