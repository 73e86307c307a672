"""Servers of tools: registered over HTTP, found by the runner, called by steps and by models, gone and back again."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from handrail.embedded.process import free_port
from handrail_contracts.topics import catalogue
from handrail_gateway import schemas
from support.logs import read_log
from support.mcp_server import calls
from support.processes import Process

from product.conftest import PLANTED_TOKEN, Api, agent, step
from product.test_language_models import register, script

Json = dict[str, Any]
TESTS = Path(__file__).parents[1]


@dataclass
class Tools:
    """A server in a process of its own; a registration of its name by `acme`."""

    api: Api
    journal: Path
    port: int
    process: Process

    async def start(self) -> None:
        self.process.start()
        async with httpx2.AsyncClient() as client, asyncio.timeout(20):
            while True:
                try:
                    await client.get(f"http://127.0.0.1:{self.port}/mcp")
                    return
                except httpx2.ConnectError:
                    await asyncio.sleep(0.05)

    async def register(self, **more: Any) -> Json:
        config = {"url": f"http://127.0.0.1:{self.port}/mcp", "token_env": "PLANTED_TOOLS_TOKEN", **more}
        await self.api.put("/mcps/crm", {"description": "Customers", **config})
        return await self.until(lambda found: found["state"]["state"] == "connected")

    async def until(self, holds: Callable[[Json], object]) -> Json:
        async with asyncio.timeout(20):
            while not holds(found := await self.api.get("/mcps/crm")):
                await asyncio.sleep(0.05)
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tools(api: Api, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tools]:
    folder, port = tmp_path_factory.mktemp("tools"), free_port()
    journal = folder / "calls.jsonl"
    command = [sys.executable, "-m", "support.mcp_server", "--journal", str(journal), "--port", str(port)]
    process = Process("tools", [*command, "--token", PLANTED_TOKEN], folder / "tools.log", cwd=TESTS)
    found = Tools(api, journal, port, process)
    await found.start()
    await found.register()
    yield found
    await api.delete("/mcps/crm", 204)
    process.kill()


def uses(tool: str, arguments: Json, **options: Any) -> Json:
    return step("use", "tool_call", parameters={"tool": tool, "arguments": arguments}, **options)


async def shown(api: Api, path: str) -> dict[str, Json]:
    return {found["name"]: found for found in (await api.get(path))["items"]}


async def test_a_servers_tools_appear_where_workflows_are_built(tools: Tools, api: Api) -> None:
    server = await api.get("/mcps/crm")
    schemas.Server.model_validate(server)
    assert (server["description"], server["shared"], server["state"]["reason"]) == ("Customers", False, "")
    assert server["config"]["token_env"] == "PLANTED_TOOLS_TOKEN"
    names = {tool["name"] for tool in server["tools"]}
    assert {"crm:record", "crm:look", "crm:moody"} <= names
    schemas.ToolList.model_validate(await api.get("/workflows/resources/tools"))
    palette = await shown(api, "/workflows/resources/tools")
    assert palette["crm:record"]["parameters"]["required"] == ["text"]
    assert (palette["crm:record"]["server"], palette["word_count"]["server"]) == ("crm", None)
    assert {tool["name"] for tool in (await shown(api, "/workflows/resources/mcps"))["crm"]["tools"]} == names
    page = await api.get("/mcps", limit=1)
    schemas.ServerPage.model_validate(page)
    assert [found["name"] for found in page["items"]] == ["crm"]
    page = await api.get("/mcps", limit=1, cursor=page["next_cursor"])
    assert [found["name"] for found in page["items"]] == ["local"]
    assert "mcp/crm" not in {found["agent"] for found in (await api.get("/agents", limit=200))["items"]}


async def test_a_step_calls_a_tool_with_the_steps_key(tools: Tools, api: Api) -> None:
    execution = await api.run(uses("crm:record", {"text": "{{input}}"}), given="Ada called")
    assert execution["result"] == {"recorded": "Ada called"}
    [call] = [call for call in calls(tools.journal, "record") if call["arguments"] == {"text": "Ada called"}]
    started = next(event for event in await api.events(execution["id"]) if event["type"] == "step.started")
    assert call["meta"]["handrail/idempotency-key"] == started["run_id"]
    assert call["authorization"] == f"Bearer {PLANTED_TOKEN}"


async def test_a_tool_that_fails_or_is_slow_ends_in_a_code(tools: Tools, api: Api) -> None:
    failed = await api.run(uses("crm:fail", {"text": "no such customer"}))
    assert failed["error"]["code"] == "TOOL_ERROR"
    assert failed["error"]["message"].endswith("no such customer")
    late = await api.run(uses("crm:slow", {"seconds": 30}, timeout_seconds=1))
    assert late["error"]["code"] == "TIMEOUT"


async def test_a_tool_that_no_server_has_is_told_when_the_workflow_is_saved(tools: Tools, api: Api) -> None:
    told = await api.post("/workflows", {"name": "w", "steps": [uses("crm:recrod", {})]}, 422)
    assert told["errors"][0]["message"] == "there is no tool 'crm:recrod'; did you mean 'crm:record'?"


async def test_a_model_calls_what_its_registration_lists_and_nothing_else(tools: Tools, api: Api) -> None:
    clerk = await register(api, "mcp-clerk", tools=["crm:look"], instructions="Look, then write it down.")
    wanted = [
        {"name": "crm__look", "arguments": {"text": "seen by a model"}},
        {"name": "crm__record", "arguments": {"text": "written by a model"}},
        {"name": "crm:record", "arguments": {"text": "written by a model"}},
    ]
    await script(api, clerk, {"tool_calls": wanted}, {"text": "Done."})
    execution = await api.run(agent("work", does=clerk))
    assert execution["result"] == "Done."
    assert [call["arguments"]["text"] for call in calls(tools.journal, "look")] == ["seen by a model"]
    assert "written by a model" not in tools.journal.read_text()
    async with httpx2.AsyncClient() as client:
        first, second = (await client.get(f"{api.platform.model_url}/calls/{clerk}")).json()
    assert [tool["function"]["name"] for tool in first["tools"]] == ["crm__look"]
    heard = [message["content"] for message in second["messages"] if message["role"] == "tool"]
    assert sorted("there is no tool" in said for said in heard) == [False, True, True]


async def test_a_tool_that_a_person_has_to_allow_is_called_only_then(tools: Tools, api: Api) -> None:
    keen = await register(api, "mcp-keen", tools=["crm:record"], ask_first=["crm:record"])
    wanted = {"name": "crm__record", "arguments": {"text": "only if allowed"}}
    await script(api, keen, {"tool_calls": [wanted]}, {"text": "Done."})
    execution_id = await api.start(await api.workflow(agent("work", does=keen)))
    await api.at(execution_id, "work", "waiting")
    assert "only if allowed" not in tools.journal.read_text()
    async with asyncio.timeout(20):
        while not (wishes := (await api.get("/suggestions", execution_id=execution_id))["items"]):
            await asyncio.sleep(0.05)
    [wish] = wishes
    await api.post(f"/suggestions/{wish['id']}/approve", {}, 200)
    assert (await api.ended(execution_id))["result"] == "Done."
    assert [call["arguments"]["text"] for call in calls(tools.journal, "record")][-1] == "only if allowed"


async def test_a_server_says_which_of_its_tools_ask_first_whoever_calls_them(tools: Tools, api: Api) -> None:
    await tools.register(ask_first=["record"])
    execution_id = await api.start(await api.workflow(uses("crm:record", {"text": "by a step"})))
    async with asyncio.timeout(20):
        while not (wishes := (await api.get("/suggestions", execution_id=execution_id))["items"]):
            await asyncio.sleep(0.05)
    assert "by a step" not in tools.journal.read_text()
    await api.post(f"/suggestions/{wishes[0]['id']}/approve", {}, 200)
    assert (await api.ended(execution_id))["status"] == "completed"
    assert [call["arguments"]["text"] for call in calls(tools.journal, "record")][-1] == "by a step"
    await tools.register()


async def test_a_tool_that_changes_its_description_is_disabled_until_its_server_is_registered_anew(
    tools: Tools, api: Api
) -> None:
    def moody(found: Json) -> Any:
        return next(tool["disabled"] for tool in found["tools"] if tool["name"] == "crm:moody")

    assert (await api.run(uses("crm:moody", {"text": "a"})))["result"] == {"said": "a"}
    await api.run(uses("crm:change", {"what": "description"}))
    await tools.until(moody)
    execution = await api.run(uses("crm:moody", {"text": "a"}))
    assert execution["error"]["code"] == "TOOL_ERROR"
    assert "register the server anew (PUT /api/v1/mcps/crm)" in execution["error"]["message"]
    assert "describes it otherwise" in (await shown(api, "/workflows/resources/tools"))["crm:moody"]["disabled"]
    await tools.register()
    await tools.until(lambda found: moody(found) is None)
    assert (await api.run(uses("crm:moody", {"text": "b"})))["result"] == {"said": "b"}


async def test_a_server_that_dies_is_a_defined_error_and_one_that_comes_back_works(tools: Tools, api: Api) -> None:
    tools.process.kill()
    execution = await api.run(uses("crm:look", {"text": "a"}))
    assert execution["error"]["code"] == "TOOL_ERROR"
    found = await tools.until(lambda found: "127.0.0.1 can't be reached" in found["state"]["reason"])
    assert found["state"]["state"] == "unreachable"
    assert found["state"]["since"]
    assert "crm:look" in {tool["name"] for tool in found["tools"]}
    async with httpx2.AsyncClient() as client:
        metrics = (await client.get(api.platform.cluster.url("agent-runner") + "/metrics")).text
    assert 'handrail_mcp_connected{server="crm"} 0.0' in metrics
    await tools.start()
    retry = {"max_attempts": 20, "backoff_seconds": 0.2, "multiplier": 1}
    assert (await api.run(uses("crm:look", {"text": "b"}, retry=retry)))["result"] == {"seen": "b"}
    await tools.until(lambda found: found["state"]["state"] == "connected")


async def test_a_server_of_the_operators_file_is_for_everybody(api: Api) -> None:
    async with api.as_tenant("rivals") as rivals:
        execution = await rivals.run(uses("local:moody", {"text": "a"}))
        assert execution["result"] == {"said": "a"}
        shown_ = await rivals.get("/mcps/local")
        assert (shown_["shared"], shown_["config"], shown_["description"]) == (True, {}, "The operator's own")
        await rivals.put("/mcps/local", {"url": "https://evil.example/mcp"}, 403)
    [call, *_] = calls(api.folder / "local.jsonl", "moody")
    assert call["env"] == PLANTED_TOKEN


async def test_another_tenant_sees_none_of_it(tools: Tools, api: Api) -> None:
    async with api.as_tenant("rivals") as rivals:
        await rivals.get("/mcps/crm", 404)
        assert "crm" not in await shown(rivals, "/mcps")
        assert "crm:look" not in await shown(rivals, "/workflows/resources/tools")
        await rivals.put("/mcps/crm", {"url": "https://evil.example/mcp"}, 409)
        await rivals.delete("/mcps/crm", 404)
        execution = await rivals.run(uses("crm:look", {"text": "a"}))
        assert "there is no server 'crm'" in execution["error"]["message"]
        spy = await register(rivals, "mcp-spy", tools=["crm:look"])
        execution = await rivals.run(agent("spy", does=spy))
        assert execution["status"] == "failed" and "there is no server 'crm'" in execution["error"]["message"]


async def test_what_a_tenant_may_not_register_is_refused_or_never_reached(api: Api) -> None:
    for body, words in (
        ({"url": "ftp://x"}, "beginning with http:// or https://"),
        ({"url": "https://a:b@x/mcp"}, "must not hold a name and password"),
        ({"url": "https://x/mcp", "command": ["sh"]}, "Extra inputs are not permitted"),
    ):
        assert words in str((await api.put("/mcps/wrong", body, 422))["errors"])
    async with api.as_tenant("rivals") as rivals:
        await rivals.put("/mcps/thief", {"url": "http://localhost:1/mcp", "token_env": "PLANTED_TOOLS_TOKEN"})
        async with asyncio.timeout(20):
            while (found := await rivals.get("/mcps/thief"))["state"]["state"] == "unknown":
                await asyncio.sleep(0.05)
        assert "variable PLANTED_TOOLS_TOKEN is not for localhost" in found["state"]["reason"]
        await rivals.delete("/mcps/thief", 204)
        await rivals.get("/mcps/thief", 404)


async def test_a_secret_is_seen_by_its_server_and_by_nobody_else(tools: Tools, api: Api) -> None:
    said = [
        await api.run(uses(f"{server}:whoami", {"fails": bad})) for server in ("crm", "local") for bad in (False, True)
    ]
    assert said[0]["result"] == {"you": ["***"], "***": 1}
    assert [execution["status"] for execution in said] == ["completed", "failed"] * 2
    for execution in said:
        for part in ("", "/events", "/timeline", "/export"):
            assert PLANTED_TOKEN not in str(await api.get(f"/executions/{execution['id']}{part}"))
    for path in ("/mcps/crm", "/mcps", "/workflows/resources/mcps", "/workflows/resources/tools"):
        assert PLANTED_TOKEN not in str(await api.get(path))
    for name in catalogue():
        for record in await read_log(api.platform.broker.bootstrap, name):
            assert PLANTED_TOKEN.encode() not in (record.value or b""), name
    logs = sorted((api.folder / "services").glob("*.log"))
    assert len(logs) >= 5
    assert not [log.name for log in logs if PLANTED_TOKEN in log.read_text()]


async def test_a_server_that_is_removed_is_gone_at_once_with_its_tools(tools: Tools, api: Api) -> None:
    await api.delete("/mcps/crm", 204)
    await api.get("/mcps/crm", 404)
    assert "crm:look" not in await shown(api, "/workflows/resources/tools")
    await tools.register()
    assert (await api.run(uses("crm:look", {"text": "c"})))["result"] == {"seen": "c"}
