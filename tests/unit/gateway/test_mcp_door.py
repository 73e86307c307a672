"""The MCP server's door: what it costs who does not use it, who it takes itself for, and its road to the API."""

import asyncio
import subprocess
import sys
from typing import Any

import httpx2
import pytest
from handrail_gateway.identity.caller import Caller
from handrail_gateway.mcp.inprocess import InProcess
from starlette.types import Receive, Scope, Send
from support.mcp_client import strict_client
from unit.gateway.builders import World

ADA = Caller("ada", "acme", "apollo", float("inf"))


def test_a_gateway_that_nobody_asks_for_mcp_does_not_import_it() -> None:
    code = "import sys, handrail_gateway.app; sys.exit('mcp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("hosts", "host", "status"), [((), "handrail.example", 421), (("handrail.example",), "handrail.example:8443", 200)]
)
async def test_names_beside_this_machines_own_are_for_the_operator_to_say(
    hosts: tuple[str, ...], host: str, status: int
) -> None:
    world = World(mcp_hosts=hosts)
    headers = {"Host": host, "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
    async with world.client() as client:
        answer = await client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=headers)
    assert answer.status_code == status
    await world.app.state.door.close()


async def test_a_read_model_that_is_away_is_told_with_when_to_try_again() -> None:
    world = World()
    world.database.away = True
    transport = httpx2.ASGITransport(app=world.app, raise_app_exceptions=False)
    async with strict_client("http://localhost/mcp", world.issuer.bearer(), transport) as client:
        result = await client.call("list_workflows", {})
    assert result["isError"]
    assert "DATABASE_UNAVAILABLE: away Try again in 2 s." in result["content"][0]["text"]
    await world.app.state.door.close()


async def test_an_answer_streams_and_who_leaves_it_ends_it() -> None:
    ended = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for number in range(1_000_000):
                await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": True})
        finally:
            ended.set()

    async with (
        httpx2.AsyncClient(transport=InProcess(endless, ADA), base_url="http://gateway") as client,
        client.stream("GET", "/") as answer,
    ):
        lines = answer.aiter_lines()
        assert [await anext(lines) for _ in range(100)] == [str(number) for number in range(100)]
        assert not ended.is_set()
    await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.parametrize("answers", [False, True])
async def test_an_application_that_fails_is_an_error_and_no_silence(answers: bool) -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        if answers:
            await send({"type": "http.response.start", "status": 500, "headers": []})
        raise RuntimeError("as told")

    async with httpx2.AsyncClient(transport=InProcess(fails, ADA), base_url="http://gateway") as client:
        found: Any
        try:
            found = (await client.get("/")).status_code
        except httpx2.ReadError:
            found = "no answer"
    assert found == (500 if answers else "no answer")
