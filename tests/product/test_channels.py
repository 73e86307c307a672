"""The first platform's walk: subscribe, let a workflow run up to a person, and watch all of it on the WebSocket."""

from integration.channel_client import listening

from product.conftest import Api, step
from product.test_language_models import register, script
from product.test_suggestions import drafted, pending, suggesting

ENDED = ("draft", "completed")


async def test_a_run_up_to_a_person_and_on_is_watched_from_one_socket(api: Api) -> None:
    await register(api, "channel-writer")
    await script(api, "channel-writer", drafted("jane.channels@example.com"))
    workflow = await api.workflow(
        step("go", "trigger", "draft", parameters={"kind": "api"}),
        suggesting("draft", "done", does="channel-writer"),
        step("done", "data_transform", parameters={"output": "sent"}),
    )
    url = str(api.client.base_url).removesuffix("/api/v1/")
    async with listening(url, {"Authorization": api.client.headers["authorization"]}) as listener:
        await listener.subscribe("workflows", "tasks", "agents", "suggestions", "approvals")
        execution = await api.start(workflow)
        made = await listener.until(lambda m: m["type"] == "suggestion_created" and m["execution_id"] == execution)
        suggestion = await pending(api, execution)
        assert {name: suggestion[name] for name in ("id", "task_id", "agent_id", "action", "confidence")} == {
            name: value for name, value in made["data"].items() if name != "created_at"
        }
        await api.post(f"/suggestions/{made['data']['id']}/approve", status=200)
        await listener.until(
            lambda m: m.get("channel") == "tasks" and "step_id" in m and (m["step_id"], m["data"]["status"]) == ENDED
        )
    workflows = [m["data"]["status"] for m in listener.of("workflow_update") if m["execution_id"] == execution]
    assert set(workflows) <= {"running", "waiting", "completed"}  # what changes at once is told once
    assert "completed" in workflows
    drafts = [m["data"] for m in listener.of("task_update") if m["step_id"] == "draft" and m["channel"] == "tasks"]
    assert (made["data"]["task_id"], "waiting") in [(each["id"], each["status"]) for each in drafts]
    assert (drafts[-1]["status"], drafts[-1]["progress"]) == ("completed", 100)
    assert {m["data"]["agent_id"] for m in listener.of("agent_status")} >= {"channel-writer"}
    decided = [m["data"]["status"] for m in listener.of("approval_update") if m["data"]["id"] == made["data"]["id"]]
    assert decided[-1] == "approved"
