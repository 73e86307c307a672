"""Workflows that start by themselves: schedules, webhooks, events, chats; and in each other."""

import asyncio
import hmac
import json
import time
from hashlib import sha256
from typing import Any

import httpx2
import pytest

from product.conftest import Api, Json, agent, step


async def runs(api: Api, workflow_id: str, count: int) -> list[Json]:
    async with asyncio.timeout(20):
        while True:
            found = (await api.get(f"/workflows/{workflow_id}/executions"))["items"]
            if len(found) >= count:
                return [await api.ended(item["id"]) for item in found]
            await asyncio.sleep(0.05)


async def test_a_schedule_starts_runs_and_tells_of_them(api: Api) -> None:
    workflow_id = await api.workflow(agent("a", input="{{input.topic}}"))
    body = {"workflow_id": workflow_id, "every_seconds": 1, "input": {"topic": "spring"}, "overlap": "allow"}
    schedule = await api.post("/schedules", body, 201)
    found = await runs(api, workflow_id, 2)
    assert {run["result"] for run in found} == {"spring"}
    assert found[0]["trigger"]["schedule"] == schedule["id"]
    paused = await api.post(f"/schedules/{schedule['id']}/pause", None, 200)
    assert paused["paused"] is True
    async with asyncio.timeout(10):
        while (shown := await api.get(f"/schedules/{schedule['id']}"))["next_due"] is not None:
            await asyncio.sleep(0.05)
    assert shown["fired"] >= 2
    assert shown["last_outcome"] == "started"
    assert len((await api.get(f"/schedules/{schedule['id']}/upcoming", count=3))["due"]) == 3
    await api.delete(f"/schedules/{schedule['id']}", 204)
    await api.get(f"/schedules/{schedule['id']}", 404)


async def test_a_trigger_of_the_workflow_is_a_schedule_that_follows_it(api: Api) -> None:
    def document(**trigger: Any) -> Json:
        parameters = {"kind": "schedule", **trigger} if trigger else {"kind": "api"}
        return {"name": "w", "steps": [step("t", "trigger", "a", parameters=parameters), agent("a")]}

    workflow_id = (await api.post("/workflows", document(cron="0 9 * * 1-5", timezone="Europe/Berlin"), 201))["id"]
    schedule = await api.get(f"/schedules/{workflow_id}")
    assert schedule["timetable"] == {"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin"}
    refused = await api.delete(f"/schedules/{workflow_id}", 409)
    assert "belongs to the workflow's own trigger" in refused["detail"]
    await api.put(f"/workflows/{workflow_id}", document(cron="0 10 * * *"))
    assert (await api.get(f"/schedules/{workflow_id}"))["timetable"]["cron"] == "0 10 * * *"
    await api.put(f"/workflows/{workflow_id}", document())
    await api.get(f"/schedules/{workflow_id}", 404)


@pytest.mark.parametrize(
    ("timetable", "path", "told"),
    [
        ({"cron": "61 * * * *"}, "cron", "'61 * * * *' is no cron expression: bad minute; write five fields"),
        ({"cron": "0 9 * * *", "timezone": "Europe/Berlinn"}, "timezone", "there is no time zone 'Europe/Berlinn'"),
        ({}, "cron", "say when: one of cron, every_seconds"),
    ],
)
async def test_a_timetable_that_is_none_is_told_where(api: Api, timetable: Json, path: str, told: str) -> None:
    workflow_id = await api.workflow(agent("a"))
    refused = await api.post("/schedules", {"workflow_id": workflow_id, **timetable}, 422)
    assert refused["errors"][0]["path"] == path
    assert told in refused["errors"][0]["message"]
    document = {"name": "w", "tasks": [{"agent": "echo"}], "trigger": {"type": "schedule", **timetable}}
    refused = await api.post("/workflows", document, 422)
    assert refused["errors"][0]["path"] == f"trigger.{path}"


async def test_an_event_starts_each_workflow_that_waits_for_it_once(api: Api) -> None:
    trigger = {"type": "event", "source": "email", "condition": "new_support_ticket"}
    task = {"id": "analyse", "agent_id": "echo", "input": "{{input.subject}}", "depends_on": []}
    workflow_id = await api.workflow(tasks=[task], trigger=trigger)
    event = {"type": "new_support_ticket", "source": "email", "data": {"subject": "My order"}, "event_id": "t-1"}
    for _ in range(2):
        await api.post("/events", event)
    await api.post("/events", {**event, "source": "chat", "event_id": "t-2"})
    await api.post("/events", {**event, "event_id": "t-3", "data": {"subject": "Another"}})
    found = await runs(api, workflow_id, 2)
    assert sorted(run["result"] for run in found) == ["Another", "My order"]
    assert found[0]["trigger"] == {"type": "event", "event": "new_support_ticket", "source": "email"}


def signed(secret: str, body: bytes, at: float) -> str:
    stamp = str(int(at))
    return f"t={stamp},v1={hmac.new(secret.encode(), stamp.encode() + b'.' + body, sha256).hexdigest()}"


async def test_a_webhook_starts_the_workflow_if_it_is_signed(api: Api) -> None:
    workflow_id = await api.workflow(
        step("t", "trigger", "a", parameters={"kind": "webhook"}), agent("a", input="{{input.action}}")
    )
    hook = await api.get(f"/workflows/{workflow_id}/webhook")
    body = json.dumps({"action": "opened"}).encode()
    github = {"X-Hub-Signature-256": "sha256=" + hmac.new(hook["secret"].encode(), body, sha256).hexdigest()}
    now = time.time()

    async def send(headers: dict[str, str], content: bytes = body, url: str = hook["url"]) -> httpx2.Response:
        given = {"Content-Type": "application/json", **headers}
        async with httpx2.AsyncClient(timeout=20) as stranger:
            return await stranger.post(url, content=content, headers=given)

    accepted = [
        (await send(headers)).json()["execution_id"]
        for headers in (
            {"X-Handrail-Signature": signed(hook["secret"], body, now)},
            {"Stripe-Signature": signed(hook["secret"], body, now - 10) + ",v0=abc"},
            github, github,
        )
    ]  # fmt: skip
    assert len(set(accepted)) == 3
    assert accepted[2] == accepted[3]
    assert (await api.ended(accepted[0]))["result"] == "opened"
    for headers, told in (
        ({}, "There is no signature"),
        ({"X-Handrail-Signature": signed("wrong", body, now)}, "does not fit"),
        ({"X-Handrail-Signature": signed(hook["secret"], body, now - 400)}, "more than 300 s from now"),
        ({"X-Handrail-Signature": "v1=abc"}, "has no time stamp"),
        ({"X-Hub-Signature-256": "sha256=é"}, "does not fit"),
    ):
        answer = await send({name: value.encode() if "é" in value else value for name, value in headers.items()})  # type: ignore[misc]
        assert (answer.status_code, answer.json()["code"]) == (401, "BAD_SIGNATURE")
        assert told in answer.json()["detail"]
    assert (await send(github, body + b" ")).status_code == 401
    assert (await send(github, url=hook["url"][:-40] + "0" * 40)).status_code == 404
    assert (await send(github, b'{"x":"' + b"y" * 1_100_000 + b'"}')).status_code == 413
    other = await api.workflow(agent("a"))
    assert (await api.get(f"/workflows/{other}/webhook", 409))["code"] == "NO_WEBHOOK"


async def test_a_chat_is_told_what_was_said_before_in_its_session(api: Api) -> None:
    workflow_id = await api.workflow(
        step("t", "trigger", "a", parameters={"kind": "chat"}), agent("a", input="{{input.history}}")
    )
    for number, message in enumerate(("Hello", "And then?")):
        execution_id = await api.start(workflow_id, {"current_message": message}, session_id="s-1")
        result = (await api.ended(execution_id))["result"]
        assert len(result) == 2 * number
    assert result[0] == {"role": "user", "content": "Hello"}
    assert result[1] == {"role": "assistant", "content": []}


async def test_a_workflow_runs_in_another_and_is_cancelled_with_it(api: Api) -> None:
    child = await api.workflow(
        agent("work", "wait", input="{{input.n}}"), step("wait", "signal", parameters={"name": "go"})
    )
    call = step("call", "sub_workflow", "after", parameters={"workflow_id": child, "input": {"n": "{{input.n}}"}})
    parent = await api.workflow(call, agent("after", input="{{previous_output}}"))
    first, second = [await api.start(parent, {"n": n}) for n in (1, 2)]
    children = {}
    for execution_id in (first, second):
        await api.at(execution_id, "call", "waiting")
        async with asyncio.timeout(10):
            while not (listed := (await api.get("/executions", parent_id=execution_id))["items"]):
                await asyncio.sleep(0.05)
        children[execution_id] = listed[0]["id"]
        await api.at(children[execution_id], "wait")
    await api.post(f"/executions/{children[first]}/signals/go", {"data": "the result"})
    assert (await api.ended(first))["result"] == "the result"
    assert "waits for its sub-workflow" in (await api.get(f"/executions/{second}/why"))["why"]
    await api.post(f"/executions/{second}/cancel")
    assert (await api.ended(second))["status"] == "cancelled"
    assert (await api.ended(children[second]))["status"] == "cancelled"


async def test_a_sub_workflow_that_is_not_there_fails_its_step(api: Api) -> None:
    execution = await api.run(step("call", "sub_workflow", parameters={"workflow_id": "nobody"}))
    assert execution["status"] == "failed"
    assert "there is no active workflow nobody" in execution["error"]["message"]


async def test_workflows_that_run_each_other_without_end_are_stopped(api: Api) -> None:
    workflow_id = await api.workflow(agent("a"))
    call = step("call", "sub_workflow", parameters={"workflow_id": workflow_id})
    await api.put(f"/workflows/{workflow_id}", {"name": "w", "steps": [call]})
    execution = await api.ended(await api.start(workflow_id))
    assert execution["status"] == "failed"
    assert "workflows may be nested 8 deep" in execution["error"]["message"]


async def test_a_native_tool_is_called_by_name(api: Api) -> None:
    tool = step("count", "tool_call", parameters={"tool": "word_count", "arguments": {"text": "{{input.text}}"}})
    assert (await api.run(tool, given={"text": "two words"}))["result"] == {"characters": 9, "words": 2, "lines": 1}
    wrong = step("count", "tool_call", parameters={"tool": "word_cuont"})
    told = await api.post("/workflows", {"name": "w", "steps": [wrong]}, 422)
    assert told["errors"][0]["message"] == "there is no tool 'word_cuont'; did you mean 'word_count'?"
    execution = await api.run(step("read", "tool_call", parameters={"tool": "files:read"}))
    assert "there is no server 'files'; register it (PUT /api/v1/mcps/files)" in execution["error"]["message"]
    tools = (await api.get("/workflows/resources/tools"))["items"]
    native = [tool["name"] for tool in tools if tool["server"] is None]
    assert {"parse_csv", "parse_json", "word_count"} <= set(native)
