"""The platform as an MCP server: over HTTP and as a command, by the SDK's client and by one that shares no code with it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from handrail.tokens import mint
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from support.mcp_client import StrictClient, strict_client

from product.conftest import Api, agent, step

Json = dict[str, Any]
TOOLS = {
    "list_workflows", "get_workflow", "start_workflow", "get_execution", "list_executions", "list_approvals",
    "decide_approval",
}  # fmt: skip


def token(api: Api, user: str = "ada", organization: str = "acme") -> str:
    return mint(api.folder / "auth", user=user, organization=organization, project="p", ttl=3600)


def url_of(api: Api) -> str:
    return api.platform.cluster.url("gateway") + "/mcp"


@asynccontextmanager
async def over_http(api: Api, mode: str = "auto", **who: str) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token(api, **who)}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(url_of(api), http_client=http), mode=mode) as client,
    ):
        yield client


@asynccontextmanager
async def over_stdio(api: Api) -> AsyncIterator[Client]:
    command, url = str(Path(sys.executable).with_name("handrail")), api.platform.cluster.url("gateway")
    server = StdioServerParameters(command=command, args=["mcp", "--url", url], env={"HANDRAIL_TOKEN": token(api)})
    async with Client(server) as client:
        yield client


@asynccontextmanager
async def strict(api: Api, **who: str) -> AsyncIterator[StrictClient]:
    async with strict_client(url_of(api), {"Authorization": f"Bearer {token(api, **who)}"}) as client:
        yield client


async def gated(api: Api) -> str:
    return await api.workflow(
        agent("draft", "check", input="{{input.topic}}"),
        step("check", "human_approval", "send", parameters={"message": "Send it?"}),
        agent("send", input="sent: {{steps.draft.output}}"),
        name="Letter",
        description="Writes a letter, and sends it if somebody likes it.",
    )


async def use(client: Client, api: Api) -> None:
    """A letter, from finding its workflow to its end."""
    assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
    letter = await gated(api)
    listed = await called(client, "list_workflows", limit=200)
    assert {"Letter"} <= {found["name"] for found in listed["items"]}
    shown = await called(client, "get_workflow", workflow_id=letter)
    assert [found["step_id"] for found in shown["definition"]["steps"]] == ["draft", "check", "send"]
    state = await called(client, "start_workflow", workflow_id=letter, input={"topic": "rain"}, wait_seconds=30)
    assert (state["status"], state["ended"]) == ("waiting", False)
    assert state["waits_for"] == "Step check waits for a decision of anyone."
    [gate] = state["approvals"]
    assert gate["message"] == "Send it?"
    found = await called(client, "list_approvals", execution_id=state["execution_id"])
    assert [each["id"] for each in found["items"]] == [gate["id"]]
    for _ in range(2):  # the same decision again changes nothing
        decided = await called(client, "decide_approval", approval_id=gate["id"], decision="approved", comment="Nice.")
        assert (decided["status"], decided["decided_by"], decided["comment"]) == ("approved", "ada", "Nice.")
    other = await client.call_tool("decide_approval", {"approval_id": gate["id"], "decision": "rejected"})
    assert other.is_error and "ALREADY_DECIDED: The gate was approved by ada before." in text_of(other)
    wanted = {"execution_id": state["execution_id"], "wait_seconds": 30, "step_results": True}
    ended = await called(client, "get_execution", **wanted)
    assert (ended["status"], ended["ended"], ended["result"]) == ("completed", True, "sent: rain")
    assert next(each["result"] for each in ended["steps"] if each["step_id"] == "draft") == "rain"
    listed = await called(client, "list_executions", workflow_id=letter, status="completed")
    assert [each["id"] for each in listed["items"]] == [state["execution_id"]]


async def called(client: Client, tool: str, **arguments: Any) -> Json:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result
    found: Json = result.structured_content
    return found


def text_of(result: Any) -> str:
    return str(result.content[0].text)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_letter_over_http(api: Api, mode: str) -> None:
    async with over_http(api, mode) as client:
        await use(client, api)


async def test_a_letter_by_the_command(api: Api) -> None:
    async with over_stdio(api) as client:
        await use(client, api)


async def test_a_letter_by_a_client_of_other_making(api: Api) -> None:
    letter = await gated(api)
    async with strict(api) as client:
        assert (await client.list_tools()).keys() == TOOLS
        asked = {"workflow_id": letter, "input": {"topic": "snow"}, "wait_seconds": 30}
        state = (await client.call("start_workflow", asked, progress=True))["structuredContent"]
        told = [note["params"]["message"] for note in client.notes if note["method"] == "notifications/progress"]
        assert told == ["step draft: running", "step draft: completed", "step check: running"]
        [gate] = state["approvals"]
        decision = {"approval_id": gate["id"], "decision": "rejected", "comment": "No."}
        await client.call("decide_approval", decision)
        wanted = {"execution_id": state["execution_id"], "wait_seconds": 30}
        ended = (await client.call("get_execution", wanted))["structuredContent"]
        assert (ended["status"], ended["error"]["code"]) == ("failed", "APPROVAL_REJECTED")


async def test_what_tools_do_is_what_their_annotations_say(api: Api) -> None:
    async with strict(api) as client:
        tools = await client.list_tools()
    reads = {name for name, tool in tools.items() if tool["annotations"]["readOnlyHint"]}
    assert reads == TOOLS - {"start_workflow", "decide_approval"}
    for name, tool in tools.items():
        assert len(tool["description"]) > 20, name
        for argument, schema in tool["inputSchema"]["properties"].items():
            assert schema.get("description") or schema.get("enum"), f"{name}.{argument} says nothing of itself"
    assert tools["decide_approval"]["annotations"]["idempotentHint"] is True
    assert tools["start_workflow"]["annotations"]["idempotentHint"] is False


async def test_a_start_with_a_key_happens_once(api: Api) -> None:
    workflow_id = await api.workflow(agent("say"))
    async with strict(api) as client:
        asked = {"workflow_id": workflow_id, "input": 1}
        ids = set()
        for extra, meta in (
            ({"idempotency_key": "order-1"}, None),
            ({"idempotency_key": "order-1"}, None),
            ({}, {"handrail/idempotency-key": "order-1"}),
        ):
            result = await client.call("start_workflow", asked | extra, meta=meta)
            ids.add(result["structuredContent"]["execution_id"])
        assert len(ids) == 1
        wrong = await client.call("start_workflow", asked | {"input": 2, "idempotency_key": "order-1"})
        assert wrong["isError"] and "IDEMPOTENCY_KEY_REUSED" in wrong["content"][0]["text"]


async def test_mistakes_are_told_so_that_a_model_can_mend_them(api: Api) -> None:
    async with strict(api) as client:
        for tool, arguments, words in (
            ("get_workflow", {"workflow_id": "nothing"}, "NOT_FOUND: There is no workflow 'nothing'"),
            ("get_workflow", {"workflow_id": "../agents"}, "NOT_FOUND"),
            ("get_workflow", {}, "workflow_id\n  Field required"),
            ("list_workflows", {"limit": 0}, "limit\n  Input should be greater than or equal to 1"),
            ("list_executions", {"cursor": "none of yours"}, "query.cursor: use `next_cursor` as it was"),
            ("get_execution", {"execution_id": "nothing", "wait_seconds": 5}, "NOT_FOUND: There is no execution"),
            ("decide_approval", {"approval_id": "x", "decision": "maybe"}, "'approved' or 'rejected'"),
        ):
            result = await client.call(tool, arguments)
            assert result["isError"] and words in result["content"][0]["text"], (tool, result)


async def test_a_wait_ends_in_time_although_nothing_happens(api: Api) -> None:
    workflow_id = await api.workflow(step("rest", "delay", parameters={"seconds": 3600}))
    async with over_http(api) as client:
        async with asyncio.timeout(20):
            state = await called(client, "start_workflow", workflow_id=workflow_id, wait_seconds=1)
        assert not state["ended"]
        assert state["waits_for"].startswith("Step rest waits for its time until ")
    await api.post(f"/executions/{state['execution_id']}/cancel")


async def test_pages_follow_each_other(api: Api) -> None:
    names = {await api.workflow(agent("say"), name=f"paged {number}") for number in range(3)}
    async with over_http(api) as client:
        seen, cursor = [], None
        while True:
            page = await called(client, "list_workflows", limit=2, cursor=cursor)
            seen += [found["id"] for found in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
    assert names <= set(seen) and len(seen) == len(set(seen))


async def test_nobody_comes_in_without_a_token_or_sees_what_is_not_theirs(api: Api) -> None:
    letter = await gated(api)
    execution_id = await api.start(letter, {"topic": "x"})
    async with httpx2.AsyncClient() as http:
        refused = await http.post(url_of(api), json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Bearer")
        assert refused.json()["code"] == "UNAUTHENTICATED"
    async with strict(api, user="eve", organization="rivals") as client:
        listed = (await client.call("list_executions", {}))["structuredContent"]["items"]
        assert execution_id not in {each["id"] for each in listed}
        for tool, arguments in (
            ("get_workflow", {"workflow_id": letter}),
            ("start_workflow", {"workflow_id": letter}),
            ("get_execution", {"execution_id": execution_id}),
        ):
            result = await client.call(tool, arguments)
            assert result["isError"] and "NOT_FOUND" in result["content"][0]["text"]
    headers = {"X-elevAIte-OrganizationId": "acme", "Authorization": f"Bearer {token(api, 'eve', 'rivals')}"}
    async with httpx2.AsyncClient(headers=headers) as http:
        foreign = await http.post(url_of(api), json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        assert foreign.status_code == 403
    await api.post(f"/executions/{execution_id}/cancel")


@pytest.mark.parametrize("given", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
async def test_a_page_that_leads_a_browser_here_by_a_name_of_its_own_is_refused(
    api: Api, given: dict[str, str]
) -> None:
    headers = {"Authorization": f"Bearer {token(api)}", "Accept": "application/json, text/event-stream", **given}
    async with httpx2.AsyncClient() as http:
        refused = await http.post(
            url_of(api), json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=headers
        )
    assert refused.status_code in (403, 421)
    assert "HANDRAIL_MCP_HOSTS" in refused.json()["detail"]
