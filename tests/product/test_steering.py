"""Steering over HTTP: each control, and each way in which it is impossible."""

from typing import Any

import pytest

from product.conftest import Api, agent, statuses, step

HOUR: dict[str, Any] = {"parameters": {"hours": 1}}


async def test_a_waiting_step_takes_another_input(api: Api) -> None:
    gate = step("ask", "human_approval", "end", parameters={"message": "pay 100?"})
    execution_id = await api.start(await api.workflow(gate, agent("end")))
    await api.at(execution_id, "ask")
    await api.post(f"/executions/{execution_id}/edit", {"step_id": "ask", "input": {"message": "pay 80?"}})
    await api.until(execution_id, lambda found: found["steps"][0]["attempt"] == 2)
    pages = [
        (await api.get("/approvals", execution_id=execution_id, status=status))["items"]
        for status in ("withdrawn", "pending")
    ]
    assert [[gate["message"] for gate in page] for page in pages] == [["pay 100?"], ["pay 80?"]]
    await api.post(f"/approvals/{pages[1][0]['id']}", {"decision": "approved"}, 200)
    assert (await api.ended(execution_id))["status"] == "completed"


async def test_a_rewind_keeps_what_came_before(api: Api) -> None:
    workflow_id = await api.workflow(
        agent("a", "b"),
        agent("b", "wait", input="{{previous_output}}"),
        step("wait", "delay", "end", **HOUR),
        agent("end"),
    )
    execution_id = await api.start(workflow_id)
    await api.at(execution_id, "wait")
    await api.post(f"/executions/{execution_id}/rewind", {"step_id": "b", "reason": "again"})
    found = await api.until(execution_id, lambda found: found["steps"][1]["attempt"] == 2 and len(found["steps"]) == 3)
    assert found["steps"][0]["attempt"] == 1
    await api.at(execution_id, "wait")
    await api.post(f"/executions/{execution_id}/edit", {"step_id": "wait", "input": 0})
    assert (await api.ended(execution_id))["status"] == "completed"


async def test_an_ended_execution_is_retried_by_a_new_one_that_keeps_what_was_done(api: Api) -> None:
    workflow_id = await api.workflow(
        agent("a", "b"), agent("b", "c", does="flaky:1"), agent("c", input="{{steps.a.output}}")
    )
    failed = await api.ended(await api.start(workflow_id))
    assert (failed["status"], statuses(failed)) == ("failed", {"a": "completed", "b": "failed", "c": "skipped"})
    answer = await api.post(f"/executions/{failed['id']}/retry", {"reason": "it is back"}, key="r1")
    assert (answer["origin_id"], answer["kept"]) == (failed["id"], ["a"])
    assert (await api.post(f"/executions/{failed['id']}/retry", {"reason": "it is back"}, key="r1")) == answer
    execution = await api.ended(answer["execution_id"])
    assert execution["origin_id"] == failed["id"]
    began = [event["step_id"] for event in await api.events(execution["id"]) if event["type"] == "step.started"]
    assert began[0] == "b"
    listed = (await api.get("/executions", origin_id=failed["id"]))["items"]
    assert [found["id"] for found in listed] == [execution["id"]]


async def test_a_fork_begins_at_a_step_with_recorded_answers_and_another_input(api: Api) -> None:
    workflow_id = await api.workflow(agent("a", "b"), agent("b", "c"), agent("c", input="{{input.n}}"))
    first = await api.ended(await api.start(workflow_id, {"n": 1}))
    forked = await api.post(f"/executions/{first['id']}/fork", {"step_id": "b", "input": {"n": 2}, "stub": True})
    execution = await api.ended(forked["execution_id"])
    assert (forked["kept"], execution["result"]) == (["a"], 1)
    asked = [event for event in await api.events(execution["id"]) if event.get("waits_for") == "agent"]
    assert asked == []


async def test_a_running_execution_moves_to_another_version(api: Api) -> None:
    workflow_id = await api.workflow(step("wait", "delay", "old", **HOUR), agent("old"))
    execution_id = await api.start(workflow_id)
    await api.at(execution_id, "wait")
    steps = [step("wait", "delay", "new", **HOUR), agent("new")]
    await api.put(f"/workflows/{workflow_id}", {"name": "w", "steps": steps})
    await api.put(f"/workflows/{workflow_id}", {"name": "w", "steps": [agent("other")]})
    dry = await api.post(f"/executions/{execution_id}/migrate", {"version": 3, "dry_run": True}, 200)
    assert (dry["possible"], dry["problems"]) == (False, ["step wait has begun, and there is none of that id"])
    refused = await api.post(f"/executions/{execution_id}/migrate", {"version": 3}, 409)
    assert refused["code"] == "NO_PLACE"
    await api.post(f"/executions/{execution_id}/migrate", {"version": 2})
    await api.until(execution_id, lambda found: found["workflow_version"] == 2)
    await api.post(f"/executions/{execution_id}/skip", {"step_id": "wait"})
    assert statuses(await api.ended(execution_id)) == {"wait": "completed", "new": "completed"}


@pytest.mark.parametrize(
    ("path", "body", "code", "told"),
    [
        ("retry", {"step_id": "nobody"}, "STEP_NOT_BEGUN", "Step 'nobody' has not begun"),
        ("retry", {"step_id": "wait"}, "NOT_RETRYABLE", "Step 'wait' is waiting; only one that failed"),
        ("retry", {}, "NOT_RETRYABLE", "Name the step to retry; none of its steps has failed."),
        (
            "skip",
            {"step_id": "a"},
            "NOT_SKIPPABLE",
            "Step 'a' is completed; only one that is under way can be skipped.",
        ),
        (
            "edit",
            {"step_id": "a", "input": 1},
            "NOT_EDITABLE",
            "Step 'a' (agent_execution) is completed; only agents",
        ),
        ("rewind", {"step_id": "later"}, "STEP_NOT_BEGUN", "Step 'later' has not begun, or there is none of that id."),
        ("fork", {"step_id": "nobody"}, "NO_SUCH_STEP", "There is no step 'nobody' in that version of the workflow."),
    ],
)
async def test_what_is_impossible_is_told(waiting: str, api: Api, path: str, body: Any, code: str, told: str) -> None:
    refused = await api.post(f"/executions/{waiting}/{path}", body, 409)
    assert refused["code"] == code
    assert told in refused["detail"]


@pytest.fixture
async def waiting(api: Api) -> str:
    workflow_id = await api.workflow(agent("a", "wait"), step("wait", "delay", "later", **HOUR), agent("later"))
    execution_id = await api.start(workflow_id)
    await api.at(execution_id, "wait")
    return execution_id


async def test_a_paused_execution_must_be_resumed_first(waiting: str, api: Api) -> None:
    await api.post(f"/executions/{waiting}/pause")
    await api.until(waiting, lambda found: found["status"] == "paused")
    for path, body in (("rewind", {"step_id": "a"}), ("edit", {"step_id": "wait", "input": 1})):
        refused = await api.post(f"/executions/{waiting}/{path}", body, 409)
        assert (refused["code"], refused["detail"][:45]) == ("PAUSED", "The execution is paused; resume it before you")


async def test_an_ended_execution_takes_no_control(api: Api) -> None:
    execution = await api.run(agent("a"))
    for path, body in (
        ("pause", {}), ("terminate", {}), ("skip", {"step_id": "a"}), ("edit", {"step_id": "a", "input": 1}),
        ("migrate", {"version": 1}), ("signals/paid", {}),
    ):  # fmt: skip
        refused = await api.post(f"/executions/{execution['id']}/{path}", body, 409)
        assert (refused["code"], refused["detail"]) == ("ALREADY_FINISHED", "The execution has ended: completed.")
    refused = await api.post(f"/executions/{execution['id']}/retry", {}, 409)
    assert "nothing failed" in refused["detail"]


async def test_bulk_counts_first_and_then_acts_on_all_that_match(api: Api) -> None:
    workflow_id = await api.workflow(step("wait", "delay", "z", **HOUR), agent("z"))
    ids = [await api.start(workflow_id, {"n": n}, attributes={"batch": "b1", "n": n}) for n in range(5)]
    for execution_id in ids:
        await api.at(execution_id, "wait")
    wanted = {"workflow_id": workflow_id, "attributes": {"batch": "b1"}}
    dry = await api.post(
        "/executions/bulk", {"action": "skip", "step_id": "wait", "filter": wanted, "dry_run": True}, 200
    )
    assert (dry["matched"], dry["accepted"], dry["refused"]) == (5, 5, [])
    done = await api.post("/executions/bulk", {"action": "skip", "step_id": "wait", "filter": wanted})
    assert done["accepted"] == 5
    for execution_id in ids:
        assert (await api.ended(execution_id))["status"] == "completed"
    again = await api.post("/executions/bulk", {"action": "cancel", "filter": wanted})
    assert (again["accepted"], {refused["code"] for refused in again["refused"]}) == (0, {"ALREADY_FINISHED"})
    forks = await api.post("/executions/bulk", {"action": "fork", "filter": wanted, "stub": True})
    assert set(forks["new_executions"]) == set(ids)
    for execution_id in forks["new_executions"].values():
        assert (await api.ended(execution_id))["status"] == "completed"
    refused = await api.post("/executions/bulk", {"action": "cancel", "filter": {}}, 422)
    assert "it would match every execution" in refused["detail"]


async def test_executions_are_found_by_text_attribute_and_time(api: Api) -> None:
    workflow_id = await api.workflow(agent("a"))
    one = await api.start(workflow_id, {"text": "The Heron flies"}, attributes={"customer": "ACME", "priority": 3})
    two = await api.start(workflow_id, {"text": "nothing"}, attributes={"customer": "Other", "priority": 3})
    await api.ended(one)
    await api.ended(two)

    async def found(**query: Any) -> list[str]:
        return [item["id"] for item in (await api.get("/executions", workflow_id=workflow_id, **query))["items"]]

    assert await found(text="heron") == [one]
    assert await found(attribute="customer:ACME") == [one]
    assert await found(attribute=["priority:3", "customer:Other"]) == [two]
    assert await found(started_before="2020-01-01T00:00:00Z") == []
    assert set(await found(started_after="2020-01-01T00:00:00Z", version=1)) == {one, two}
    assert "name:value" in (await api.get("/executions", 422, attribute="customer"))["detail"]


async def test_another_tenant_can_steer_nothing(waiting: str, api: Api) -> None:
    async with api.as_tenant("evil") as eve:
        for path, body in (("skip", {"step_id": "wait"}), ("terminate", {}), ("fork", {}), ("migrate", {"version": 1})):
            assert (await eve.post(f"/executions/{waiting}/{path}", body, 404))["code"] == "NOT_FOUND"
        bulk = await eve.post("/executions/bulk", {"action": "cancel", "filter": {"execution_ids": [waiting]}})
        assert bulk["matched"] == 0
        await eve.get(f"/executions/{waiting}/export", 404)


async def test_two_executions_are_compared_side_by_side(api: Api) -> None:
    workflow_id = await api.workflow(agent("a"), agent("b", input="{{input.n}}"))
    first = await api.ended(await api.start(workflow_id, {"n": 1}))
    forked = await api.post(f"/executions/{first['id']}/fork", {"step_id": "b", "input": {"n": 2}})
    await api.ended(forked["execution_id"])
    told = await api.get(f"/executions/{first['id']}/compare", **{"with": forked["execution_id"]})
    changed = {change["path"]: (change["before"], change["after"]) for change in told["changes"]}
    assert changed["steps[b].result"] == (1, 2)
    assert "steps[a].result" not in changed


async def test_a_canary_gets_its_share_and_is_rolled_back(api: Api) -> None:
    workflow_id = await api.workflow(agent("old"))
    await api.put(f"/workflows/{workflow_id}", {"name": "w", "steps": [agent("new")]})

    async def versions(count: int) -> list[int]:
        return [(await api.ended(await api.start(workflow_id)))["workflow_version"] for _ in range(count)]

    assert await versions(3) == [2, 2, 2]
    await api.put(f"/workflows/{workflow_id}/rollout", {"stable": 1, "canary": 2, "percent": 50})
    found = await versions(30)
    assert 5 <= found.count(2) <= 25
    await api.put(f"/workflows/{workflow_id}/rollout", {"stable": 1, "canary": 2, "percent": 0})
    assert set(await versions(5)) == {1}
    await api.delete(f"/workflows/{workflow_id}/rollout", 204)
    assert await versions(2) == [2, 2]
    refused = await api.client.put(f"/workflows/{workflow_id}/rollout", json={"stable": 1, "canary": 9, "percent": 5})
    assert refused.status_code == 404
