"""Waiting for an execution, by its stream of events."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx2
import orjson
from mcp.server.mcpserver.exceptions import ToolError

from handrail_gateway.mcp.api import Api, at, told, unreachable
from handrail_gateway.streaming import TERMINAL

QUIET_SECONDS = 0.5
"""A `waiting` that nothing follows for so long is what the execution is at, and not its history."""
SHOWN_SECONDS = 0.02

Tell = Callable[[str], Awaitable[None]]


async def follow(api: Api, execution_id: str, seconds: float, tell: Tell) -> None:
    """Returns once the execution has ended or asks for a person, and after `seconds` at the latest."""
    said: asyncio.Queue[httpx2.ServerSentEvent | None] = asyncio.Queue()
    reading = asyncio.create_task(_read(api, execution_id, said), name=f"follow-{execution_id}")
    try:
        async with asyncio.timeout(seconds):
            await _until_over(api, execution_id, said, tell)
        if reading.done():
            reading.result()
    except TimeoutError:
        pass
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _until_over(
    api: Api, execution_id: str, said: "asyncio.Queue[httpx2.ServerSentEvent | None]", tell: Tell
) -> None:
    waiting = False
    while True:
        try:
            event = await asyncio.wait_for(said.get(), QUIET_SECONDS if waiting else None)
        except TimeoutError:
            if await asks_for_a_person(api, execution_id):
                return
            continue
        if event is None:
            return
        if event.event == "complete":
            await _until_shown(api, execution_id)
            return
        if event.event == "status":
            waiting = orjson.loads(event.data)["status"] == "waiting"
        elif event.event in ("step_start", "step_complete"):
            data = orjson.loads(event.data)
            await tell(f"step {data['step']}: {data.get('status', 'running')}")


async def _until_shown(api: Api, execution_id: str) -> None:
    """A stream is ahead of the read models: returns once they show the end, too."""
    while True:
        if (await api.get(at("executions", execution_id)))["status"] in TERMINAL:
            return
        await asyncio.sleep(SHOWN_SECONDS)


async def _read(api: Api, execution_id: str, said: "asyncio.Queue[httpx2.ServerSentEvent | None]") -> None:
    """Puts None behind the last event, whatever ended the stream."""
    try:
        async with api.client.stream("GET", at("executions", execution_id, "stream"), timeout=None) as answer:
            if answer.status_code != 200:
                await answer.aread()
                raise ToolError(told(answer))
            async for event in httpx2.EventSource(answer):
                await said.put(event)
    except httpx2.HTTPError as error:
        raise unreachable(api.client, error) from error
    finally:
        said.put_nowait(None)


async def asks_for_a_person(api: Api, execution_id: str) -> bool:
    """Whether it stands at a gate that can be decided, or at a failed step that somebody has to retry or skip."""
    waits = (await api.get(at("executions", execution_id, "why")))["waits"]
    if any(wait["for"] == "person" for wait in waits):
        return True
    return bool((await api.get("/approvals", execution_id=execution_id, status="pending", limit=1))["items"])
