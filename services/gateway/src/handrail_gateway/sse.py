"""The stream of one execution: its history, then what happens, without a gap and without a repetition."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace

import orjson
import structlog
from aiokafka.errors import KafkaError
from handrail_contracts.ids import partition_of
from handrail_contracts.topics import EXECUTION_EVENTS, EXECUTION_PARTITIONS
from handrail_runtime.errors import Unavailable
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from handrail_gateway.identity.caller import Caller
from handrail_gateway.live import LiveTail, Said, Subscription, Tailing
from handrail_gateway.metrics import STREAMS, STREAMS_ENDED
from handrail_gateway.problems import Problem
from handrail_gateway.progress import Missed
from handrail_gateway.streaming import START, Frame, frame, frames_of
from handrail_gateway.waiting import Fetch, Positions

log = structlog.get_logger()

HEARTBEAT_SECONDS = 15.0
WRITE_SECONDS = 15.0
HISTORY_ROWS = 200
RETRY_MS = 1000
PROJECTION_SECONDS = 1.0
LAST_WORDS = ("step_complete", "complete")
"""Before these a client is told all words that were said: progress has a log of its own, which may be behind for a moment."""

Position = tuple[int, int]


@dataclass(slots=True)
class ExecutionStream:
    """Frames of one execution after `position`, until it ends, the client is too slow, or its token expires.

    Progress is told from `progress` on; of an execution that a client has not heard of, from `since` on.
    """

    database: Fetch
    positions: Positions
    tail: LiveTail
    missed: Missed
    caller: Caller
    execution_id: str
    position: Position
    progress: int | None = None
    since: float = 0.0
    looked_at: int = 0
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    reason: str = "gone"
    clock: Callable[[], float] = time.time

    async def frames(self) -> AsyncGenerator[Frame, None]:
        if self.progress is not None:
            for found in self._fresh(await self._progress_before(None)):
                yield found
        async for found in self._history():
            yield found
        if self.reason == "complete":
            return
        subscription = self.tail.subscribe(self.execution_id)
        try:
            async for found in self._live(subscription):
                yield found
        finally:
            self.tail.unsubscribe(subscription)

    async def _live(self, subscription: Subscription) -> AsyncGenerator[Frame, None]:
        loop = asyncio.get_running_loop()
        owed: Tailing | None = None
        beat = loop.time() + self.heartbeat_seconds
        while not self._over(subscription):
            if loop.time() >= beat:
                beat = loop.time() + self.heartbeat_seconds
                yield frame("heartbeat", {"execution_id": self.execution_id})
            elif owed is not None:
                if await self._projected(owed.offset, min(PROJECTION_SECONDS, beat - loop.time())):
                    tailing, owed = owed, None
                    async for found in self._history():
                        yield found
                    for found in self._fresh(await self._progress_before(tailing.progress)):
                        yield found
            elif isinstance(item := await subscription.get(max(0.0, beat - loop.time())), Tailing):
                owed = item
            elif isinstance(item, Said):
                if self.progress is not None and any(found.event in LAST_WORDS for found in item.frames):
                    for found in self._fresh(await self._progress_before(None)):
                        yield found
                for found in self._fresh(item.frames):
                    yield found

    def _over(self, subscription: Subscription) -> bool:
        if self.reason == "complete":
            return True
        if subscription.lost:
            self.reason = "slow"
        elif subscription.closed:
            self.reason = "stopping"
        elif self.clock() >= self.caller.expires_at:
            self.reason = "expired"
        else:
            return False
        return True

    def _fresh(self, frames: Sequence[Frame]) -> list[Frame]:
        """Those that the client does not have; moves `position` and `progress` on."""
        fresh = []
        for found in frames:
            if found.progress is not None and found.progress > (self.progress or 0):
                self.progress = found.progress
                fresh.append(replace(found, position=self.position if self.position > START else None))
            elif found.position is not None and found.position > self.position:
                self.position = found.position
                fresh.append(found if self.progress is None else replace(found, progress=self.progress))
        if any(found.event == "complete" for found in frames):  # even if the client has it already: nothing follows
            self.reason = "complete"
        return fresh

    async def _progress_before(self, end: int | None) -> list[Frame]:
        """What the client has not heard, up to that place, or up to now. Best effort, as progress is."""
        if self.reason == "complete":
            return []
        start = None if self.progress is None else max(self.progress, self.looked_at)
        try:
            heard = await self.missed.between(self.execution_id, start, self.since, end)
        except (KafkaError, Unavailable, TimeoutError) as error:
            log.warning("progress_missed", execution_id=self.execution_id, error=repr(error))
            return []
        self.looked_at = heard.end
        return heard.frames

    async def _projected(self, offset: int, timeout: float) -> bool:
        """Whether everything before `offset` is in the history by now."""
        place = (EXECUTION_EVENTS, partition_of(self.execution_id, EXECUTION_PARTITIONS))
        try:
            return await self.positions.wait({place: offset}, max(0.05, timeout))
        except Problem:
            await asyncio.sleep(0.2)  # the database is away: the stream stays, and goes on when it is back
            return False

    async def _history(self) -> AsyncGenerator[Frame, None]:
        """What the history has after `position`. The event that was cut in the middle is read again for its last frames."""
        after = self.position[0] - 1
        whose = (self.caller.organization_id, self.caller.project_id, self.execution_id)
        while rows := await self.database.fetch("history", *whose, after, HISTORY_ROWS):
            for row in rows:
                for found in self._fresh(list(frames_of(self.execution_id, orjson.loads(row["events"])))):
                    yield found
            after = rows[-1]["last_n"]


class StreamResponse(Response):
    """Writes frames as they come. A client that does not take one within `WRITE_SECONDS` is let go."""

    def __init__(self, stream: ExecutionStream, status: str) -> None:
        super().__init__(status_code=200)
        self.stream, self.status = stream, status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        STREAMS.inc()
        writing = asyncio.create_task(self._write(send), name=f"stream-{self.stream.execution_id}")
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (writing, leaving):
                task.cancel()
            await asyncio.gather(writing, leaving, return_exceptions=True)
            STREAMS.dec()
            STREAMS_ENDED.labels(self.stream.reason).inc()

    async def _write(self, send: Send) -> None:
        frames = self.stream.frames()
        try:
            hello = frame("connected", {"execution_id": self.stream.execution_id, "status": self.status})
            await _send(send, b"retry: %d\n" % RETRY_MS + hello.encode())
            async for found in frames:
                await _send(send, found.encode())
        except TimeoutError:
            self.stream.reason = "slow"
            return
        except Problem as problem:  # the database is away: the client comes back with its last id
            log.warning("stream_interrupted", execution_id=self.stream.execution_id, cause=problem.detail)
        finally:
            await frames.aclose()
        await _send(send, b"", more=False)


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    await asyncio.wait_for(send({"type": "http.response.body", "body": body, "more_body": more}), WRITE_SECONDS)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
