"""Servers of tools, as the runner meets them: a real one in a process of its own, over HTTP and by pipes."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx2
import pytest
from handrail.embedded.process import free_port
from handrail_agent_runner.agents import AgentFailure
from handrail_agent_runner.agents.base import Progress
from handrail_agent_runner.mcp.servers import Servers
from handrail_agent_runner.tools import Toolbox
from handrail_contracts.steps import AgentRegistered
from support.mcp_server import calls
from support.processes import Process
from unit.agent_runner.builders import SETTINGS, answer, http_server, registered, request

Json = dict[str, Any]
SECRET = "tools-planted-secret-8152"
TESTS = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "support.mcp_server"]


@dataclass
class World:
    """A runner's servers, what it told, and the process of one server that can die and come back."""

    folder: Path
    port: int = field(default_factory=free_port)
    told: list[AgentRegistered] = field(default_factory=list)
    progress: list[tuple[str, Json]] = field(default_factory=list)
    token: str = ""
    older: bool = False
    process: Process | None = None

    def __post_init__(self) -> None:
        self.settings = SETTINGS.model_copy(update={"secrets": {"TOOLS_TOKEN": "127.0.0.1", "OTHER": "elsewhere"}})
        self.servers = Servers(self.settings, self.told.append)
        self.toolbox = Toolbox(self.settings, self.servers)

    @property
    def journal(self) -> Path:
        return self.folder / "calls.jsonl"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    async def start(self) -> None:
        command = [*COMMAND, "--journal", str(self.journal), "--port", str(self.port), "--token", self.token]
        command += ["--older"] if self.older else []
        self.process = Process("tools", command, self.folder / "tools.log", cwd=TESTS)
        self.process.start()
        async with httpx2.AsyncClient() as client, asyncio.timeout(20):
            while True:
                try:
                    await client.get(self.url)
                    return
                except httpx2.ConnectError:
                    await asyncio.sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()

    def register(self, name: str = "tools", number: int = 1, organization: str = "acme", **config: Any) -> None:
        message = registered(f"mcp/{name}", "mcp", **({"url": self.url} | config))
        update = {"organization_id": organization, "event_id": f"registration-{number}"}
        self.servers.add(message.model_copy(update=update))
        self.servers.discover()

    async def call(self, tool: str, arguments: Any = None, **changes: Any) -> Any:
        wish = request(kind="tool", agent=tool, input={} if arguments is None else arguments, **changes)
        return await self.toolbox.agent(tool).execute(
            wish, Progress(lambda kind, data: self.progress.append((kind, data)))
        )

    async def failure(self, tool: str, arguments: Any = None, **changes: Any) -> tuple[str, str, bool]:
        with pytest.raises(AgentFailure) as caught:
            await self.call(tool, arguments, **changes)
        info = caught.value.info
        return info.code, info.message, info.retryable

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                await asyncio.sleep(0.02)

    def tools(self) -> dict[str, AgentRegistered]:
        """The latest word about each tool that there is."""
        latest = {message.agent: message for message in self.told if message.kind == "tool"}
        return {name.removeprefix("tool/"): message for name, message in latest.items() if not message.removed}

    def states(self) -> list[str]:
        """One after the other, however often a reason was told."""
        said = [message.config for message in self.told if message.kind == "mcp_state"]
        return [state for (state, _), _ in groupby((config["state"], config["since"]) for config in said)]


@asynccontextmanager
async def world_in(folder: Path, running: bool = True, **options: Any) -> AsyncIterator[World]:
    world = World(folder, **options)
    try:
        if running:
            await world.start()
        yield world
    finally:
        await world.servers.close()
        if world.process is not None and world.process.running:
            world.process.kill()


@pytest.mark.parametrize("older", [False, True])
async def test_tools_are_found_told_and_called(tmp_path: Path, older: bool) -> None:
    async with world_in(tmp_path, older=older) as world:
        world.register()
        await world.until(lambda: world.states() == ["connected"])
        found = world.tools()
        assert {"tools:record", "tools:look", "tools:moody"} <= found.keys()
        assert found["tools:record"].config["parameters"]["required"] == ["text"]
        assert (found["tools:record"].config["repeatable"], found["tools:look"].config["repeatable"]) == (False, True)
        assert {message.organization_id for message in found.values()} == {"acme"}
        assert await world.call("tools:record", {"text": "a"}) == {"recorded": "a"}
        assert await world.call("tools:plain", {"text": "one|two"}) == "one\ntwo"
        [call] = calls(world.journal, "record")
        assert call["meta"]["handrail/idempotency-key"] == request().run_id
        assert call["meta"]["traceparent"].startswith("00-")
        tool = await world.toolbox.tool("tools:look", request())
        assert (tool.description, tool.repeatable) == ("Gives a text back.", True)


async def test_what_goes_wrong_is_told_as_what_it_is(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        world.register()
        assert await world.failure("tools:fail", {"text": "no ink"}) == (
            "TOOL_ERROR", "tool tools:fail failed: Error executing tool fail: no ink", True,
        )  # fmt: skip
        code, message, retryable = await world.failure("tools:fly")
        assert (code, retryable) == ("TOOL_ERROR", False)
        assert message.startswith("server tools has no tool 'fly'; it has big, change, fail, ")
        code, message, _ = await world.failure("tools:look", [1])
        assert (code, message) == (
            "VALIDATION_ERROR",
            "tool tools:look can't be called so: its arguments have to be an object",
        )
        _, message, _ = await world.failure("tools:look", {"txet": "a"})
        assert "text\n  Field required" in message
        _, message, _ = await world.failure("nowhere:look")
        assert message == "there is no server 'nowhere'; register it (PUT /api/v1/mcps/nowhere)"


async def test_a_tool_has_so_long_as_its_server_says_and_tells_how_far_it_is(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        world.register(timeout_seconds=0.5)
        code, message, retryable = await world.failure("tools:slow", {"seconds": 30})
        assert (code, retryable) == ("OUTCOME_UNKNOWN", False)
        assert message.startswith("tool tools:slow did not answer within 0.5 s, and nobody knows whether")
        assert world.progress == [("progress", {"done": 1, "total": 2, "message": "half way"})]
        assert await world.call("tools:look", {"text": "a"}) == {"seen": "a"}


@pytest.mark.parametrize("older", [False, True])
async def test_a_server_that_dies_is_a_defined_error_and_one_that_comes_back_works(tmp_path: Path, older: bool) -> None:
    async with world_in(tmp_path, older=older) as world:
        world.register()
        await world.call("tools:look", {"text": "a"})
        world.kill()
        code, message, retryable = await world.failure("tools:look", {"text": "a"})
        assert (code, retryable) == ("TOOL_ERROR", True)
        # The call may still have gone out on the connection that was just about to be found dead.
        assert any(told in message for told in ("can't be reached", "was not called", "did not answer"))
        await world.until(lambda: "127.0.0.1 can't be reached" in str(world.told[-1].config.get("reason")))
        assert world.states() == ["connected", "unreachable"]
        await world.start()
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await world.call("tools:look", {"text": "b"}) == {"seen": "b"}
                    break
                except AgentFailure as failure:
                    assert failure.info.retryable
                    await asyncio.sleep(0.1)
        assert world.states() == ["connected", "unreachable", "connected"]


@pytest.mark.parametrize("older", [False, True])
async def test_of_a_call_that_was_cut_off_nobody_knows_whether_it_took_effect(tmp_path: Path, older: bool) -> None:
    async with world_in(tmp_path, older=older) as world:
        world.register()
        calling = asyncio.create_task(world.failure("tools:slow", {"seconds": 30}))
        await world.until(lambda: calls(world.journal, "slow"))
        world.kill()
        async with asyncio.timeout(20):
            found, message, retryable = await calling
        assert (found, retryable) == ("OUTCOME_UNKNOWN", False)
        assert "nobody knows whether the call took effect" in message


@pytest.mark.parametrize("older", [False, True])
async def test_a_tool_that_is_described_otherwise_is_disabled_until_its_server_is_registered_anew(
    tmp_path: Path, older: bool
) -> None:
    async with world_in(tmp_path, older=older) as world:
        world.register()
        assert await world.call("tools:moody", {"text": "a"}) == {"said": "a"}
        pinned = world.tools()["tools:moody"]
        await world.call("tools:change", {"what": "description"})
        await world.until(lambda: "disabled" in world.tools()["tools:moody"].config)
        told = world.tools()["tools:moody"]
        assert (told.description, told.config["hash"]) == (pinned.description, pinned.config["hash"])
        code, message, retryable = await world.failure("tools:moody", {"text": "a"})
        assert (code, retryable) == ("TOOL_ERROR", False)
        assert message == (
            "tool tools:moody is disabled: the server describes it otherwise than when it was registered; "
            "look at it, and register the server anew (PUT /api/v1/mcps/tools)"
        )
        await world.call("tools:change", {"what": "before"})  # as it was: that does not make it trustworthy again
        await asyncio.sleep(0.3)
        assert (await world.failure("tools:moody", {"text": "a"}))[1] == message
        world.register(number=2)
        await world.until(lambda: "disabled" not in world.tools()["tools:moody"].config)
        assert await world.call("tools:moody", {"text": "b"}) == {"said": "b"}
        assert len(calls(world.journal, "moody")) == 2


async def test_tools_that_come_and_go_are_followed(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        world.register()
        await world.call("tools:change", {"what": "added"})
        await world.until(lambda: "tools:latecomer" in world.tools())
        assert await world.call("tools:latecomer", {"text": "a"}) == {"said": "a"}
        await world.call("tools:change", {"what": "gone"})
        await world.until(lambda: "disabled" in world.tools()["tools:moody"].config)
        _, message, _ = await world.failure("tools:moody", {"text": "a"})
        assert "the server does not offer it any more" in message
        await world.call("tools:change", {"what": "before"})
        await world.until(lambda: "disabled" not in world.tools()["tools:moody"].config)
        assert await world.call("tools:moody", {"text": "b"}) == {"said": "b"}


async def test_a_pin_outlives_the_runner(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        world.register()
        await world.call("tools:moody", {"text": "a"})
        await world.call("tools:change", {"what": "description"})
        earlier = [message for message in world.told if "disabled" not in message.config]
        await world.servers.close()
        later = World(tmp_path, world.port)  # it reads what the first has told, but the last word
        for message in earlier:
            later.servers.add(message)
        later.register()
        assert (await later.failure("tools:moody", {"text": "a"}))[1].startswith("tool tools:moody is disabled")
        await later.servers.close()


async def test_a_server_that_is_removed_takes_its_tools_with_it(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        world.register()
        await world.call("tools:look", {"text": "a"})
        world.servers.add(registered("mcp/tools", "mcp").model_copy(update={"removed": True, "event_id": "gone"}))
        assert world.tools() == {}
        assert "there is no server 'tools'" in (await world.failure("tools:look", {"text": "a"}))[1]


async def test_another_tenant_has_none_of_it(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        world.register()
        await world.call("tools:look", {"text": "a"})
        _, message, _ = await world.failure("tools:look", {"text": "a"}, organization_id="rivals")
        assert message == "there is no server 'tools'; register it (PUT /api/v1/mcps/tools)"
        with pytest.raises(AgentFailure, match="there is no server"):
            await world.toolbox.tool("tools:look", request(organization_id="rivals"))
        world.register("shared", organization="")
        assert await world.call("shared:look", {"text": "b"}, organization_id="rivals") == {"seen": "b"}


async def test_a_secret_goes_to_its_server_and_is_told_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLS_TOKEN", SECRET)
    async with world_in(tmp_path, token=SECRET) as world:
        world.register(token_env="TOOLS_TOKEN")
        assert await world.call("tools:look", {"text": f"my {SECRET}"}) == {"seen": "my ***"}
        [call] = calls(world.journal, "look")
        assert call["authorization"] == f"Bearer {SECRET}"
        _, message, _ = await world.failure("tools:fail", {"text": f"bad {SECRET}"})
        assert message.endswith("bad ***")
        assert SECRET not in str(world.told)


async def test_a_server_that_refuses_us_is_told_with_its_status(tmp_path: Path) -> None:
    async with world_in(tmp_path, token=SECRET) as world:
        world.register()
        code, message, retryable = await world.failure("tools:look", {"text": "a"})
        assert (code, retryable) == ("TOOL_ERROR", True)
        assert "server tools can't be reached: the server answered 401: who are you?" in message


@pytest.mark.parametrize(
    ("config", "organization", "told"),
    [
        ({"token_env": "OTHER"}, "acme", "the variable OTHER is not for 127.0.0.1"),
        ({"headers_env": {"X-Key": "PATH"}}, "acme", "the variable PATH is not for 127.0.0.1"),
        ({"token_env": "TOOLS_TOKEN"}, "acme", "there is no environment variable TOOLS_TOKEN"),
        ({"transport": "stdio", "url": None, "command": ["sh"]}, "acme", "agents file does not name it"),
        ({"transport": "stdio", "url": None, "command": ["sh"]}, "", "agents file does not name it"),
        ({"url": "http://169.254.169.254/mcp"}, "acme", "leads to 169.254.169.254, where no step may call"),
    ],
)
async def test_what_a_tenant_may_not_have(tmp_path: Path, config: Json, organization: str, told: str) -> None:
    async with world_in(tmp_path, running=False) as world:
        world.register(organization=organization, **config)
        _, message, _ = await world.failure("tools:look", {"text": "a"})
        assert told in message
        await world.until(lambda: world.states() == ["unreachable"])
        assert told in world.told[-1].config["reason"]


async def test_a_command_of_the_operators_file_is_started_with_the_variables_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_TOOLS", SECRET)
    async with world_in(tmp_path, running=False) as world:
        command = ["env", f"PYTHONPATH={TESTS}", *COMMAND, "--journal", str(world.journal)]
        entry = registered("mcp/local", "mcp", transport="stdio", command=command, env={"TOOLS_KEY": "KEY_OF_TOOLS"})
        public = world.servers.own(entry)
        assert public.config == {"transport": "stdio", "timeout_seconds": 60.0}
        world.servers.add(public)
        assert await world.call("local:look", {"text": "a"}) == {"seen": "a"}
        [call] = calls(world.journal, "look")
        assert call["env"] == SECRET
        os.kill(call["pid"], 9)
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await world.call("local:look", {"text": "b"}) == {"seen": "b"}
                    break
                except AgentFailure as failure:
                    assert failure.info.retryable
                    await asyncio.sleep(0.1)
        assert SECRET not in str(world.told)


async def test_an_answer_without_end_is_cut_off(tmp_path: Path) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": ["x" * 5_000_000]}}).encode()
    async with (
        http_server(lambda *_: answer(200, body, "content-type: application/json")) as url,
        world_in(tmp_path, running=False) as world,
    ):
        world.register(url=url)
        _, message, _ = await world.failure("tools:look", {"text": "a"})
        assert "the server answered more than 4194304 bytes" in message
