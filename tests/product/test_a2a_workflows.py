"""Workflows as A2A agents, met with the official client over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.client.errors import AgentCardResolutionError
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskNotCancelableError,
    TaskNotFoundError,
    TaskState,
    UnsupportedOperationError,
)
from a2a.utils.errors import InvalidParamsError
from google.protobuf.json_format import MessageToDict, ParseDict

from product.conftest import Api, agent, step

Json = dict[str, Any]
BOTH = pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
GATE = step("ask", "human_approval", "end", parameters={"message": "Pay 100 EUR?", "approvers": ["ada"]})


def place(api: Api, workflow_id: str) -> str:
    return f"{api.platform.cluster.url('gateway')}/a2a/workflows/{workflow_id}"


@asynccontextmanager
async def speaking(
    api: Api, workflow_id: str, binding: str = "JSONRPC", **options: Any
) -> AsyncIterator[tuple[Client, AgentCard]]:
    """The SDK's client, made from the workflow's card."""
    headers = {"Authorization": api.client.headers["Authorization"]}
    async with httpx.AsyncClient(headers=headers, timeout=30) as http:
        card = await A2ACardResolver(http, place(api, workflow_id)).get_agent_card()
        config = ClientConfig(httpx_client=http, supported_protocol_bindings=[binding], **options)
        yield ClientFactory(config).create(card), card


def message(given: Any, message_id: str = "", **fields: Any) -> SendMessageRequest:
    part = ParseDict({"text": given} if isinstance(given, str) else {"data": given}, Part())
    return SendMessageRequest(
        message=Message(message_id=message_id or str(uuid4()), role=Role.ROLE_USER, parts=[part], **fields)
    )


async def sent(client: Client, request: SendMessageRequest) -> list[StreamResponse]:
    return [event async for event in client.send_message(request)]


async def task_of(client: Client, request: SendMessageRequest) -> Task:
    [event] = await sent(client, request)
    return event.task


def result(task: Task) -> Any:
    [artifact] = task.artifacts
    return [MessageToDict(part) for part in artifact.parts]


async def test_a_card_says_what_the_workflow_is_and_where_it_listens(api: Api) -> None:
    await api.workflow(agent("a"))
    workflow_id = await api.workflow(agent("a"), name="Greeter", description="Greets whoever comes.")
    async with speaking(api, workflow_id) as (_, card):
        assert (card.name, card.description, card.version) == ("Greeter", "Greets whoever comes.", "1")
        assert {interface.url for interface in card.supported_interfaces} == {place(api, workflow_id)}
        assert card.capabilities.streaming
        assert card.security_schemes["bearer"].http_auth_security_scheme.scheme == "Bearer"
        assert [skill.name for skill in card.skills] == ["Greeter"]
    async with httpx.AsyncClient(headers={"Authorization": api.client.headers["Authorization"]}) as http:
        page = (await http.get(f"{api.platform.cluster.url('gateway')}/a2a/workflows?limit=1")).json()
    assert [card["name"] for card in page["items"]] == ["Greeter"]
    assert page["next_cursor"]


@BOTH
@pytest.mark.parametrize(
    ("given", "part"),
    [("hello", {"text": "hello"}), ({"n": 1, "of": ["a", None]}, {"data": {"n": 1, "of": ["a", None]}})],
)
async def test_a_message_starts_an_execution_and_its_result_is_the_artifact(
    api: Api, binding: str, given: Any, part: Json
) -> None:
    workflow_id = await api.workflow(agent("a", input="{{input}}"))
    async with speaking(api, workflow_id, binding, streaming=False) as (client, _):
        task = await task_of(client, message(given, "m-1", context_id="c-1"))
        assert TaskState.Name(task.status.state) == "TASK_STATE_COMPLETED"
        assert result(task) == [part]
        assert (task.context_id, [asked.message_id for asked in task.history]) == ("c-1", ["m-1"])
        execution = await api.get(f"/executions/{task.id}")
        assert (execution["input"], execution["session_id"]) == (given, "c-1")
        assert await client.get_task(GetTaskRequest(id=task.id)) == task


@BOTH
async def test_a_stream_tells_the_steps_and_ends_with_the_result(api: Api, binding: str) -> None:
    await api.put("/agents/a2a-poet", {"kind": "scripted", "config": {"deltas": ["ro", "ses"], "output": "roses"}})
    workflow_id = await api.workflow(agent("write", "end", does="a2a-poet"), agent("end", input="{{previous_output}}"))
    async with speaking(api, workflow_id, binding) as (client, _):
        first, *others = await sent(client, message("go"))
    assert first.task.status.state == TaskState.TASK_STATE_SUBMITTED
    *updates, artifact, last = others
    texts = [part.text for update in updates for part in update.status_update.status.message.parts]
    assert [text for text in texts if text.startswith("Step")] == [
        "Step write begins.", "Step write: completed.", "Step end begins.", "Step end: completed.",
    ]  # fmt: skip
    assert [MessageToDict(part) for part in artifact.artifact_update.artifact.parts] == [{"text": "roses"}]
    assert last.status_update.status.state == TaskState.TASK_STATE_COMPLETED
    assert {update.status_update.task_id for update in updates} == {first.task.id}


@BOTH
async def test_the_same_message_again_starts_nothing_new(api: Api, binding: str) -> None:
    workflow_id = await api.workflow(agent("a", input="{{input}}"))
    async with speaking(api, workflow_id, binding, streaming=False) as (client, _):
        first, again = [await task_of(client, message("once", "m-same")) for _ in range(2)]
        assert again == first
        with pytest.raises(InvalidParamsError, match="was used before"):
            await task_of(client, message("another", "m-same"))
    async with speaking(api, workflow_id, binding) as (client, _):
        [event] = await sent(client, message("once", "m-same"))
        assert event.task == first
    assert len((await api.get(f"/workflows/{workflow_id}/executions"))["items"]) == 1


@BOTH
async def test_an_approval_is_an_input_that_is_required(api: Api, binding: str) -> None:
    workflow_id = await api.workflow(GATE, agent("end", input="paid"))
    async with speaking(api, workflow_id, binding) as (client, _):
        *_, asked = await sent(client, message("pay"))
        status = asked.status_update.status
        assert status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        assert status.message.parts[0].text == "Step ask waits for a decision of ada. Pay 100 EUR?"
        task_id = asked.status_update.task_id
        assert (await client.get_task(GetTaskRequest(id=task_id))).status == status
        with pytest.raises(UnsupportedOperationError, match="Approvals are decided"):
            await sent(client, message("yes", task_id=task_id))
        watching = asyncio.create_task(_watched(client, task_id))
        await approved(api, workflow_id)
        assert (await asyncio.wait_for(watching, 20))[-1] == TaskState.TASK_STATE_COMPLETED
        with pytest.raises(UnsupportedOperationError, match="has ended"):
            await _watched(client, task_id)
    async with speaking(api, workflow_id, binding, streaming=False) as (client, _):
        waiting = await task_of(client, message("pay again"))
        assert waiting.status.state == TaskState.TASK_STATE_INPUT_REQUIRED


async def _watched(client: Client, task_id: str) -> list[int]:
    events = [event async for event in client.subscribe(SubscribeToTaskRequest(id=task_id))]
    assert events[0].task.id == task_id
    return [event.status_update.status.state for event in events if event.HasField("status_update")]


@BOTH
async def test_a_task_can_be_cancelled_and_lists_by_context(api: Api, binding: str) -> None:
    workflow_id = await api.workflow(agent("a", does="slow:2000"))
    async with speaking(api, workflow_id, binding, streaming=False, polling=True) as (client, _):
        task = await task_of(client, message("x", context_id="c-2"))
        assert task.status.state in (TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING)
        await api.at(task.id, "a")
        cancelled = await client.cancel_task(CancelTaskRequest(id=task.id))
        assert cancelled.status.state == TaskState.TASK_STATE_CANCELED
        assert (await client.cancel_task(CancelTaskRequest(id=task.id))).status == cancelled.status
        others = [await task_of(client, message("y", context_id="c-3")) for _ in range(3)]
        [listed] = (await client.list_tasks(ListTasksRequest(context_id="c-2"))).tasks
        assert listed.id == task.id
        first = await client.list_tasks(ListTasksRequest(page_size=3))
        rest = await client.list_tasks(ListTasksRequest(page_size=3, page_token=first.next_page_token))
        assert first.total_size == 4
        assert [found.id for found in [*first.tasks, *rest.tasks]] == [*(o.id for o in reversed(others)), task.id]
        done = await api.ended(others[0].id)
        with pytest.raises(TaskNotCancelableError, match="has ended: completed"):
            await client.cancel_task(CancelTaskRequest(id=done["id"]))


async def test_an_execution_that_fails_is_a_task_that_failed(api: Api) -> None:
    workflow_id = await api.workflow(agent("a", does="fail:400"))
    async with speaking(api, workflow_id) as (client, _):
        *_, last = await sent(client, message("x"))
    assert last.status_update.status.state == TaskState.TASK_STATE_FAILED
    assert last.status_update.status.message.parts[0].text.startswith("VALIDATION_ERROR: ")


async def test_a_conversation_goes_on_in_its_context(api: Api) -> None:
    await api.put("/agents/a2a-hearer", {"kind": "scripted", "config": {"output": "{{input}}"}})
    workflow_id = await api.workflow(
        step("hear", "trigger", "talk", parameters={"kind": "chat"}),
        step("talk", "agent_execution", parameters={"agent_id": "a2a-hearer"}),
    )
    async with speaking(api, workflow_id, streaming=False) as (client, _):
        first = await task_of(client, message("I am Ada."))
        second = await task_of(client, message("Who am I?", context_id=first.context_id))
    history = (await api.get(f"/executions/{second.id}"))["input"]["history"]
    assert history[0]["content"] == "I am Ada."


async def test_others_see_neither_the_agent_nor_its_tasks(api: Api) -> None:
    workflow_id = await api.workflow(agent("a"))
    other_id = await api.workflow(agent("a"))
    async with speaking(api, workflow_id, streaming=False) as (client, _):
        task = await task_of(client, message("x"))
    async with speaking(api, other_id) as (client, _):
        with pytest.raises(TaskNotFoundError):
            await client.get_task(GetTaskRequest(id=task.id))
    async with api.as_tenant("rivals") as rival:
        with pytest.raises(AgentCardResolutionError) as hidden:
            async with speaking(rival, workflow_id):
                pass
        assert hidden.value.status_code == 404
        own_id = await rival.workflow(agent("a"))
        async with speaking(rival, own_id) as (client, _):
            for request in (
                client.get_task(GetTaskRequest(id=task.id)),
                client.cancel_task(CancelTaskRequest(id=task.id)),
            ):
                with pytest.raises(TaskNotFoundError):
                    await request
        asked = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": task.id}}
        answer = await rival.client.post(place(rival, workflow_id), json=asked, headers={"A2A-Version": "1.0"})
        assert answer.status_code == 404
        cards = (await rival.client.get(f"{rival.platform.cluster.url('gateway')}/a2a/workflows")).json()["items"]
        assert [card["skills"][0]["id"] for card in cards] == [own_id]


async def test_nobody_is_served_without_a_token(api: Api) -> None:
    workflow_id = await api.workflow(agent("a"))
    async with httpx.AsyncClient(base_url=place(api, workflow_id)) as nobody:
        answers = [
            await nobody.get("/.well-known/agent-card.json"),
            await nobody.post("", json={"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "x"}}),
            await nobody.post("/message:send", json={}),
            await nobody.get("/tasks"),
        ]
    assert [answer.status_code for answer in answers] == [401] * 4


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"method": "GetTask", "params": {"id": "x"}}, -32001),
        ({"method": "Dance", "params": {}}, -32601),
        ({"method": "SendMessage", "params": {"message": {"role": "ROLE_USER", "parts": [{"text": "x"}]}}}, -32602),
        (
            {"method": "SendMessage", "params": {"message": {"messageId": "m", "role": "ROLE_USER", "parts": []}}},
            -32602,
        ),
        ({"method": "SubscribeToTask", "params": {"id": "x"}}, -32001),
        ({"method": "ListTasks", "params": {"pageToken": "!!"}}, -32602),
    ],
)
async def test_what_cannot_be_done_is_an_error_of_the_protocol(api: Api, body: Json, code: int) -> None:
    workflow_id = await api.workflow(agent("a"))
    sent = {"jsonrpc": "2.0", "id": 7, **body}
    answer = await api.client.post(place(api, workflow_id), json=sent, headers={"A2A-Version": "1.0"})
    assert (answer.status_code, answer.json()["id"], answer.json()["error"]["code"]) == (200, 7, code), answer.text


async def test_a_workflow_calls_another_one_as_a_remote_agent(api: Api) -> None:
    inner = await api.workflow(agent("double", input={"twice": ["{{input.word}}", "{{input.word}}"]}), name="inner")
    card = f"{place(api, inner)}/.well-known/agent-card.json"
    config = {"card_url": card, "header_env": "PLATFORM_TOKEN"}
    await api.put("/agents/a2a-inner", {"kind": "a2a", "config": config})
    execution = await api.run(agent("call", does="a2a-inner", input={"word": "hey"}))
    assert (execution["status"], execution["result"]) == ("completed", {"twice": ["hey", "hey"]}), execution["error"]
    [called] = (await api.get(f"/workflows/{inner}/executions"))["items"]
    assert called["status"] == "completed"


async def test_a_caller_waits_for_the_other_workflows_approval_if_it_is_told_to(api: Api) -> None:
    inner = await api.workflow(GATE, agent("end", input="paid"), name="inner")
    config = {"card_url": f"{place(api, inner)}/.well-known/agent-card.json", "header_env": "PLATFORM_TOKEN"}
    await api.put("/agents/a2a-patient", {"kind": "a2a", "config": {**config, "wait_for_input": True}})
    await api.put("/agents/a2a-hasty", {"kind": "a2a", "config": config})
    hasty = await api.run(agent("call", does="a2a-hasty", input="pay"))
    assert "asks for an input, which a step can't give: Step ask waits" in hasty["error"]["message"]
    [left] = (await api.get(f"/workflows/{inner}/executions"))["items"]
    assert (await api.ended(left["id"]))["status"] == "cancelled"
    execution_id = await api.start(await api.workflow(agent("call", does="a2a-patient", input="pay")))
    await approved(api, inner)
    assert (await api.ended(execution_id))["result"] == "paid"


async def approved(api: Api, workflow_id: str) -> None:
    """Waits for a gate of the workflow, and says yes."""
    gates: list[Json] = []
    while not gates:
        gates = [g for g in (await api.get("/approvals", status="pending"))["items"] if g["workflow_id"] == workflow_id]
        await asyncio.sleep(0.05)
    await api.post(f"/approvals/{gates[0]['id']}", {"decision": "approved"}, 200)


async def test_a_killed_runners_task_is_found_again_by_the_next_one(api: Api) -> None:
    inner = await api.workflow(GATE, agent("end", input="paid"), name="inner")
    card = f"{place(api, inner)}/.well-known/agent-card.json"
    config = {"card_url": card, "header_env": "PLATFORM_TOKEN", "wait_for_input": True}
    await api.put("/agents/a2a-survivor", {"kind": "a2a", "config": config})
    execution_id = await api.start(await api.workflow(agent("call", does="a2a-survivor", input="pay")))
    while not (await api.get(f"/workflows/{inner}/executions", status="waiting"))["items"]:
        await asyncio.sleep(0.05)
    await api.platform.cluster.restart("agent-runner")
    await approved(api, inner)
    assert (await api.ended(execution_id))["result"] == "paid"
    assert len((await api.get(f"/workflows/{inner}/executions"))["items"]) == 1


async def test_workflows_that_call_themselves_come_to_an_end(api: Api) -> None:
    workflow_id = await api.workflow(agent("again"))
    config = {"card_url": f"{place(api, workflow_id)}/.well-known/agent-card.json", "header_env": "PLATFORM_TOKEN"}
    await api.put("/agents/a2a-itself", {"kind": "a2a", "config": config})
    steps = [agent("again", does="a2a-itself", input="once more")]
    await api.put(f"/workflows/{workflow_id}", {"name": "w", "steps": steps})
    execution = await api.ended(await api.start(workflow_id, "x"))
    assert "agents call one another more than 8 deep" in execution["error"]["message"]
    assert len((await api.get(f"/workflows/{workflow_id}/executions"))["items"]) == 1 + 8


async def test_a_client_that_leaves_is_waited_for_no_longer(api: Api) -> None:
    workflow_id = await api.workflow(step("nap", "delay", parameters={"hours": 1}))
    async with speaking(api, workflow_id, streaming=False) as (client, _):
        asking = asyncio.create_task(task_of(client, message("x")))
        await streams(api, 1)
        asking.cancel()
        await streams(api, 0)


async def streams(api: Api, count: int) -> None:
    """Returns when the gateway has so many open ones."""
    async with asyncio.timeout(5):
        while f"handrail_gateway_streams {count}.0" not in (await api.client.get(metrics_url(api))).text:
            await asyncio.sleep(0.05)


def metrics_url(api: Api) -> str:
    return f"{api.platform.cluster.url('gateway')}/metrics"
