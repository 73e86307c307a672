"""A client of `/ws` for tests: it keeps what it hears, and holds each message to the model that the guide shows."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from handrail_gateway.schemas.channels import (
    AgentUpdate,
    ApprovalUpdate,
    DeskUpdate,
    SuggestionCreated,
    TaskUpdate,
    WorkflowUpdate,
)
from pydantic import BaseModel
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

MODELS: dict[str, type[BaseModel]] = {
    "workflow_update": WorkflowUpdate,
    "task_update": TaskUpdate,
    "agent_status": AgentUpdate,
    "suggestion_created": SuggestionCreated,
    "approval_update": ApprovalUpdate,
    "desk_update": DeskUpdate,
}
Json = dict[str, Any]


class Listener:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.heard: list[Json] = []
        self.positions: dict[str, str] = {}

    async def say(self, kind: str, **members: Any) -> None:
        await self.connection.send(orjson.dumps({"type": kind, **members}).decode())

    async def hear(self) -> Json:
        """The next message."""
        async with asyncio.timeout(20):
            said: Json = orjson.loads(await self.connection.recv())
        if said["type"] in MODELS and not said["channel"].startswith("execution:"):
            model = MODELS[said["type"]].model_validate(said)
            assert set(model.model_dump(exclude_unset=True)) == set(said)
        if "channel" in said and "position" in said:
            self.positions[said["channel"]] = said["position"]
        self.heard.append(said)
        return said

    async def until(self, true: Callable[[Json], Any]) -> Json:
        """Reads on to a message of which that holds."""
        while not true(said := await self.hear()):
            pass
        return said

    async def subscribe(self, *channels: str, **members: Any) -> None:
        await self.say("subscribe", channels=list(channels), **members)
        for _ in channels:
            await self.until(lambda said: said["type"] == "subscribed")

    async def closed(self) -> int:
        """Reads to the end; gives the close code."""
        try:
            while True:
                await self.hear()
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd is not None else 1006

    def of(self, kind: str) -> list[Json]:
        return [said for said in self.heard if said["type"] == kind]


@asynccontextmanager
async def listening(
    url: str, headers: dict[str, str] | None = None, path: str = "/ws", **options: Any
) -> AsyncIterator[Listener]:
    address = url.replace("http://", "ws://") + path
    options.setdefault("max_queue", None)  # one that holds messages back cannot read the answer to its goodbye
    async with connect(address, additional_headers=headers, compression=None, **options) as connection:
        yield Listener(connection)
