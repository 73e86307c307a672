"""An execution as a client of its workflow's agent watches it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import orjson
from a2a.server.events import Event
from a2a.types import StreamResponse
from a2a.utils.errors import TaskNotFoundError
from google.protobuf.json_format import ParseDict

from handrail_gateway import executions
from handrail_gateway.a2a.tasks import INPUT_REQUIRED, events_of, status_event
from handrail_gateway.database import Row
from handrail_gateway.gateway import Gateway
from handrail_gateway.identity.caller import Caller
from handrail_gateway.metrics import STREAMS
from handrail_gateway.sse import ExecutionStream, Position
from handrail_gateway.streaming import TERMINAL, Frame

LOOK_AGAIN_SECONDS, LOOKS = 0.03, 150
ALL = 2**31
"""Beyond every frame of an event."""


@dataclass(frozen=True, slots=True)
class Asked:
    """By whom, of which workflow (a row of its newest version)."""

    gateway: Gateway
    caller: Caller
    workflow: Row

    @property
    def workflow_id(self) -> str:
        return str(self.workflow["workflow_id"])

    async def execution(self, execution_id: str) -> Row:
        """With its steps. Raises `TaskNotFoundError` for one of another workflow or tenant, too."""
        found = await executions.find(self.gateway, self.caller, execution_id, "execution_with_steps")
        if found["workflow_id"] != self.workflow_id:
            raise TaskNotFoundError
        return found

    def from_now_on(self, row: Row) -> "Watch":
        """What happens to it after the row was read, whoever's input is required."""
        return Watch(self, row, (row["last_n"] or 0, ALL), self.gateway.now(), through_input=True)


@dataclass(slots=True)
class Watch:
    """What happens to an execution after `position`, to its end, or until somebody's input is required.

    What agents tell on the way is heard from the moment `since` on.
    It may stop before, as any stream: when the client is too slow, its token expires, or the gateway stops.
    """

    asked: Asked
    ids: Row
    position: Position
    since: float
    through_input: bool = False
    ended: bool = False

    async def events(self) -> AsyncGenerator[Event, None]:
        gateway, execution_id = self.asked.gateway, self.ids["execution_id"]
        stream = ExecutionStream(
            gateway.database, gateway.positions, gateway.tail, gateway.progress, self.asked.caller, execution_id,
            self.position, since=self.since,
        )  # fmt: skip
        with STREAMS.track_inprogress():
            async with aclosing(stream.frames()) as frames:
                async for frame in frames:
                    self.position = stream.position
                    for found in await self._said(frame):
                        yield _event(found)
                        if not self.through_input and _state(found) == INPUT_REQUIRED:
                            return

    async def to_the_end(self, seconds: float | None = None) -> None:
        """Returns when there is nothing more to wait for, or the time is over."""
        if self.ended:
            return
        try:
            async with asyncio.timeout(seconds), aclosing(self.events()) as events:
                async for _ in events:
                    pass
        except TimeoutError:
            pass

    async def row(self) -> Row:
        """The execution with its steps when the read models have what was watched, or as it is when that takes too long."""
        found = await self.asked.execution(self.ids["execution_id"])
        for _ in range(LOOKS):
            if (found["last_n"] or 0) >= self.position[0]:
                break
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            found = await self.asked.execution(self.ids["execution_id"])
        return found

    async def _said(self, frame: Frame) -> list[dict[str, Any]]:
        data = orjson.loads(frame.data)
        if frame.event == "status" and data["status"] == "waiting":
            now = await self.row()
            return [] if now["status"] in TERMINAL else [status_event(now)]
        if frame.event == "complete":
            await self.row()  # who hears of the end finds it when he asks
        return events_of(self.ids, frame.event, data, str(uuid4()))


def _event(found: dict[str, Any]) -> Event:
    response = ParseDict(found, StreamResponse())
    event: Event = getattr(response, response.WhichOneof("payload") or "")
    return event


def _state(found: dict[str, Any]) -> Any:
    return found["statusUpdate"]["status"]["state"] if "statusUpdate" in found else None
