"""One client of `/ws`: what it asks, what it is told, and when it has to go."""

import asyncio
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson
from handrail_contracts.envelope import utc
from pydantic import ValidationError
from starlette.types import Receive

from handrail_gateway.channels.hub import Hub, Joining
from handrail_gateway.channels.outbox import Item, Outbox, frame
from handrail_gateway.channels.positions import decode_position
from handrail_gateway.executions import find
from handrail_gateway.gateway import Gateway
from handrail_gateway.identity.authenticator import Authenticator
from handrail_gateway.identity.caller import Caller
from handrail_gateway.metrics import CHANNEL_ENDED, CHANNEL_MESSAGES
from handrail_gateway.problems import Problem
from handrail_gateway.schemas.channels import ASKED, CHANNEL, Authenticate, Ping, Subscribe, Unsubscribe
from handrail_gateway.sse import ExecutionStream
from handrail_gateway.streaming import START, Frame, parse_position
from handrail_gateway.streaming import frame as event_frame

MOST_CHANNELS = 100
EXECUTION = "execution:"
EXPIRED, SLOW, STOPPING = "expired", "slow", "stopping"
FAREWELLS: Mapping[str, tuple[int, str, str]] = {
    EXPIRED: (4401, "TOKEN_EXPIRED", "The token has expired: come back with a new one, and with these positions."),
    SLOW: (4408, "SLOW_CLIENT", "More was to be told than you took: come back, and go on from these positions."),
    STOPPING: (1012, "STOPPING", "This gateway stops: come back, and go on from these positions."),
}
"""Close code, and what is said before."""


class Pipe(Protocol):
    """What is used of `Wire`."""

    roomy: Callable[[], None]

    @property
    def full(self) -> bool: ...
    def write(self, frames: bytes) -> None: ...
    def leave(self, code: int, reason: str) -> None: ...


class Client:
    def __init__(self, gateway: Gateway, hub: Hub, authenticator: Authenticator, caller: Caller, pipe: Pipe) -> None:
        self._gateway, self._hub, self._authenticator, self._pipe = gateway, hub, authenticator, pipe
        self._caller = caller
        self._told: dict[str, str] = {}
        """The channels that it listens to, and how far it has been told."""
        self._streams: dict[str, tuple[ExecutionStream, asyncio.Task[None]]] = {}
        self._outbox = Outbox()
        self._room = asyncio.Event()
        self._left = "gone"
        self._expiry: asyncio.TimerHandle | None = None
        pipe.roomy = self._drain

    async def run(self, receive: Receive) -> None:
        """Until it goes, or has to."""
        self._until(self._caller.expires_at)
        revoked = asyncio.create_task(self._revoked(), name="revoked")
        try:
            while (message := await receive())["type"] == "websocket.receive":
                await self._asked(message.get("text") or "")
        finally:
            revoked.cancel()
            self._over()

    async def _revoked(self) -> None:
        if self._caller.key_id is not None:
            await self._authenticator.keys.ended(self._caller).wait()
            self.end(EXPIRED)

    def end(self, reason: str) -> None:
        """Tells it why, and where it can go on; then the connection is closed."""
        if self._left != "gone":
            return
        self._left = reason
        code, name, sentence = FAREWELLS[reason]
        self._outbox.clear()
        said = {"type": "error", "code": name, "message": sentence, "positions": self._positions(self._told)}
        self._pipe.write(frame(orjson.dumps(said)))
        self._pipe.leave(code, name)

    def _over(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        for channel in list(self._told):
            self._leave(channel)
        CHANNEL_ENDED.labels(self._left).inc()

    # --- what it is told ----------------------------------------------------------------------------------------------

    def hear(self, item: Item) -> None:
        if self._left != "gone":
            return
        if not self._pipe.full and not self._outbox.items:
            self._write(item)
        elif not self._outbox.put(item):
            self.end(SLOW)

    def joined(self, channel: str, position: str) -> None:
        place = {"position": position} if position else {}
        self._say({"type": "subscribed", "channel": channel, **place}, channel, position)

    def lost(self, channel: str, position: str) -> None:
        sentence = (
            "What was missed cannot be told any more: read the lists afresh. You are subscribed from this position on."
        )
        self._error("POSITION_TOO_OLD", sentence, channel, position)

    def _error(self, code: str, sentence: str, channel: str = "", position: str = "") -> None:
        said: dict[str, Any] = {"type": "error", "code": code, "message": sentence}
        if channel:
            said["channel"] = channel
        if position:
            said["position"] = position
        self._say(said, channel, position)

    def _say(self, said: Mapping[str, Any], channel: str = "", position: str = "") -> None:
        self.hear(Item(frame(orjson.dumps(said)), 1, channel, position))

    def _drain(self) -> None:
        while not self._pipe.full and (item := self._outbox.take()) is not None:
            self._write(item)
        if self._outbox.roomy:
            self._room.set()

    def _write(self, item: Item) -> None:
        self._pipe.write(item.frames)
        CHANNEL_MESSAGES.inc(item.count)
        if item.position and item.channel in self._told:
            self._told[item.channel] = item.position

    @staticmethod
    def _positions(told: Mapping[str, str]) -> dict[str, str]:
        return {channel: position for channel, position in told.items() if position}

    # --- what it asks -------------------------------------------------------------------------------------------------

    async def _asked(self, text: str) -> None:
        try:
            asked = ASKED.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"][1:])
            sentence = f"{where}: {first['msg']}" if where else first["msg"]
            self._error("INVALID_MESSAGE", f"The message cannot be used: {sentence}")
            return
        match asked:
            case Ping():
                self._pong()
            case Authenticate():
                await self._renew(asked.token)
            case Unsubscribe():
                for channel in _named(asked):
                    self._unsubscribe(channel, "asked")
            case Subscribe():
                for channel in dict.fromkeys((*_named(asked), *asked.positions)):
                    self._subscribe(channel, asked.positions.get(channel, asked.after or ""))

    def _pong(self) -> None:
        """Everything up to the hub's position is on its way to who has joined, and comes before this."""
        here = self._hub.position()
        now = {
            channel: position if channel.startswith(EXECUTION) else here or position
            for channel, position in self._told.items()
            if position
        }
        self._say({"type": "pong", "positions": now})

    async def _renew(self, token: str) -> None:
        mine = self._caller
        headers = [
            (b"authorization", f"Bearer {token}".encode()),
            (b"x-elevaite-organizationid", mine.organization_id.encode()),
            (b"x-elevaite-projectid", mine.project_id.encode()),
        ]
        try:
            caller = await self._authenticator.caller({"type": "websocket", "headers": headers})
        except Problem as problem:
            self._error(problem.code, problem.detail)
            return
        if caller.user_id != mine.user_id:
            self._error("FORBIDDEN", "The token is somebody else's; open another connection for it.")
            return
        self._caller = caller
        for stream, _ in self._streams.values():
            stream.caller = caller
        self._until(caller.expires_at)
        until = utc(caller.expires_at).isoformat() if math.isfinite(caller.expires_at) else None
        self._say({"type": "authenticated", "expires_at": until})

    def _until(self, expires_at: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        left = max(0.0, expires_at - time.time())
        if math.isfinite(left):
            self._expiry = asyncio.get_running_loop().call_later(left, self.end, EXPIRED)

    def _subscribe(self, channel: str, after: str) -> None:
        start = None
        if not re.fullmatch(CHANNEL, channel):
            self._error("UNKNOWN_CHANNEL", f"There is no channel {channel[:100]!r}.")
        elif channel not in self._told and len(self._told) >= MOST_CHANNELS:
            self._error("TOO_MANY_CHANNELS", f"A connection may listen to {MOST_CHANNELS} channels.", channel)
        elif after and (start := (parse_position if channel.startswith(EXECUTION) else decode_position)(after)) is None:
            self._error("INVALID_POSITION", "The position is none of ours: subscribe without it.", channel)
        else:
            self._leave(channel)
            self._told[channel] = ""
            self._join(channel, after, start)

    def _join(self, channel: str, after: str, start: Any) -> None:
        if not channel.startswith(EXECUTION):
            self._hub.join(self._tenant, Joining(self, channel, after, start))
            return
        place, progress = start or (START, None)
        stream = ExecutionStream(
            self._gateway.database, self._gateway.positions, self._gateway.tail, self._gateway.progress, self._caller,
            channel.removeprefix(EXECUTION), place, progress,
        )  # fmt: skip
        self._streams[channel] = (stream, asyncio.create_task(self._follow(channel, stream, after), name=channel))

    @property
    def _tenant(self) -> tuple[str, str]:
        return self._caller.organization_id, self._caller.project_id

    def _unsubscribe(self, channel: str, reason: str) -> None:
        if channel in self._told:
            self._leave(channel)
            self._say({"type": "unsubscribed", "channel": channel, "reason": reason})

    def _leave(self, channel: str) -> None:
        if self._told.pop(channel, None) is None:
            return
        if channel.startswith(EXECUTION):
            self._streams.pop(channel)[1].cancel()
        else:
            self._hub.leave(self._tenant, self, channel)

    # --- one execution ------------------------------------------------------------------------------------------------

    async def _follow(self, channel: str, stream: ExecutionStream, after: str) -> None:
        """Its event stream, as messages. The client is waited for while it takes what there is."""
        frames = stream.frames()
        try:
            found = await find(self._gateway, self._caller, stream.execution_id)
            stream.since = 0.0 if found["started_at"] is None else found["started_at"].timestamp()
            self.joined(channel, after)
            told = {"execution_id": stream.execution_id, "status": found["status"]}
            await self._pass_on(channel, event_frame("connected", told))
            async for each in frames:
                if each.event != "heartbeat":
                    await self._pass_on(channel, each)
        except Problem as problem:
            self._error(problem.code, problem.detail, channel)
            self._told.pop(channel, None)
            self._streams.pop(channel, None)
            return
        finally:
            await frames.aclose()
        self._streams_end(channel, stream)

    def _streams_end(self, channel: str, stream: ExecutionStream) -> None:
        if stream.reason == "complete":
            self._told.pop(channel, None)
            self._streams.pop(channel, None)
            self._say({"type": "unsubscribed", "channel": channel, "reason": "complete"})
        elif stream.reason in FAREWELLS:
            self.end(stream.reason)

    async def _pass_on(self, channel: str, found: Frame) -> None:
        while not self._outbox.roomy:
            self._room.clear()
            await self._room.wait()
        tail = orjson.dumps({"channel": channel, **({"position": found.id} if found.id else {})})[1:]
        body = b'{"type":"%s","data":%s,%s' % (found.event.encode(), found.data, tail)
        self.hear(Item(frame(body), 1, channel, found.id))


def _named(asked: Subscribe | Unsubscribe) -> list[str]:
    return [*asked.channels, *([] if asked.channel is None else [asked.channel])]
