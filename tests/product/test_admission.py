"""Concurrency limits over HTTP, and the platform's own limit."""

import asyncio
from datetime import datetime

from product.conftest import Api, Json, agent, step


async def test_executions_of_one_customer_take_turns(api: Api) -> None:
    wait = step("wait", "signal", parameters={"name": "go"})
    limits = {"limit": 1, "key": "{{input.customer}}"}
    workflow_id = await api.workflow(wait, concurrency=limits)
    first = await api.start(workflow_id, {"customer": "ACME"})
    await api.at(first, "wait")
    second = await api.start(workflow_id, {"customer": "ACME"})
    urgent = await api.start(workflow_id, {"customer": "ACME"}, priority=10)
    other = await api.start(workflow_id, {"customer": "Other"})
    await api.at(other, "wait")
    for execution_id in (second, urgent):
        await api.until(execution_id, lambda found: found["status"] == "queued")
    assert "waits for a place" in (await api.get(f"/executions/{second}/why"))["why"]
    assert (await api.post(f"/executions/{second}/pause", None, 409))["code"] == "QUEUED"
    await api.post(f"/executions/{first}/signals/go")
    await api.at(urgent, "wait")
    assert (await api.get(f"/executions/{second}"))["status"] == "queued"
    await api.post(f"/executions/{urgent}/cancel")
    await api.at(second, "wait")


async def test_or_the_new_one_is_refused_with_the_reason(api: Api) -> None:
    workflow_id = await api.workflow(
        step("wait", "signal", parameters={"name": "go"}), concurrency={"limit": 1, "on_conflict": "reject"}
    )
    first = await api.start(workflow_id)
    await api.at(first, "wait")
    refused = await api.ended(await api.start(workflow_id))
    assert refused["error"]["code"] == "CONCURRENCY_LIMIT"
    assert refused["error"]["message"] == "1 execution of this workflow runs already, and no more may"


async def test_a_limit_that_is_none_is_told_where(api: Api) -> None:
    told = await api.post(
        "/workflows",
        {"name": "w", "steps": [agent("a")], "concurrency": {"limit": 0, "key": "{{steps.a.output}}"}},
        422,
    )
    assert {error["path"] for error in told["errors"]} == {"concurrency.limit", "concurrency.key"}


async def test_above_the_limit_of_the_platform_nothing_is_accepted(api: Api) -> None:
    """A second gateway that lets nothing wait, while a scheduler that is down lets everything wait."""
    workflow_id = await api.workflow(agent("a"))
    strict = await api.platform.cluster.add("gateway", {"HANDRAIL_MAX_PENDING": "3"})
    base = api.platform.cluster.url("gateway", 1) + "/api/v1"
    await api.platform.cluster.remove("scheduler")
    try:
        accepted = [await api.start(workflow_id) for _ in range(4)]
        for execution_id in accepted:
            await api.until(execution_id, lambda found: found["status"] == "pending")
        await asyncio.sleep(1.2)
        refused = await api.client.post(f"{base}/workflows/{workflow_id}/execute", json={})
        assert (refused.status_code, refused.json()["code"]) == (429, "TOO_MANY_PENDING")
        assert int(refused.headers["Retry-After"]) >= 1
        assert "4 executions were accepted and have not begun" in refused.json()["detail"]
    finally:
        await api.platform.cluster.add("scheduler")
    for execution_id in accepted:
        assert (await api.ended(execution_id))["status"] == "completed"
    assert len((await api.get(f"/workflows/{workflow_id}/executions"))["items"]) == 4
    assert strict.running


async def test_an_agent_is_not_asked_more_often_than_it_may_be(api: Api) -> None:
    limited: Json = {
        "kind": "python",
        "config": {"entry_point": "handrail_agent_runner.builtin:echo", "rate_limit": {"count": 24}},
    }
    await api.put("/agents/limited", limited)
    loop = step(
        "each",
        "loop",
        parameters={"over": list(range(36)), "max_parallel": 36, "steps": [agent("ask", does="limited")]},
    )
    execution = await api.run(loop)
    assert execution["status"] == "completed", execution["error"]
    timeline = (await api.get(f"/executions/{execution['id']}/timeline"))["attempts"]
    ended = sorted(datetime.fromisoformat(attempt["ended_at"]) for attempt in timeline if attempt["agent"] == "limited")
    assert len(ended) == 36
    assert (ended[-1] - ended[0]).total_seconds() > 36 / 24 * 0.8
    refused = await api.put("/agents/limited", {**limited, "config": {**limited["config"], "rate_limit": 3}}, 422)
    assert "`config.rate_limit` is" in refused["errors"][0]["message"]
