"""A proxy for any TCP protocol (PostgreSQL, HTTP): pass, pause, refuse, cut, delay, and cut at chosen bytes.

async with TcpProxy("127.0.0.1:5432") as proxy:
    lost = proxy.cut_at(b"COMMIT")                       # the server gets the COMMIT, the client no answer
    never = proxy.cut_at(b"COMMIT", delivered=False)     # the server never gets it
    done = proxy.cut_at(b"COMMIT\\0", "response")         # PostgreSQL has committed for sure, the client never knows
"""

import asyncio
from dataclasses import dataclass, field

from support.kafka_wire import Direction
from support.links import Link, LinkEnded, Proxy

CHUNK = 1 << 16


@dataclass(eq=False)
class Trigger:
    """Cuts a link at the bytes `pattern`, `times` times; `hits` counts them."""

    pattern: bytes
    direction: Direction
    delivered: bool
    times: int | None = 1
    hits: int = 0
    _met: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def spent(self) -> bool:
        return self.times is not None and self.hits >= self.times

    async def hit(self, count: int = 1, timeout: float = 30.0) -> None:
        """Waits until `count` links were cut by this trigger."""
        async with asyncio.timeout(timeout), self._met:
            await self._met.wait_for(lambda: self.hits >= count)

    async def note(self) -> None:
        self.hits += 1
        async with self._met:
            self._met.notify_all()


class TcpProxy(Proxy):
    """See the module. `bytes_moved` counts per direction; `delay(seconds)` holds each chunk back that long."""

    def __init__(self, upstream: str, listen_port: int = 0) -> None:
        super().__init__(upstream, listen_port)
        self.bytes_moved: dict[Direction, int] = {"request": 0, "response": 0}
        self._delays: dict[Direction, float] = {"request": 0.0, "response": 0.0}
        self._triggers: list[Trigger] = []

    def delay(self, seconds: float, direction: Direction | None = None) -> None:
        """From now on, in one direction or both; 0 ends it."""
        for each in self._delays if direction is None else (direction,):
            self._delays[each] = seconds

    def cut_at(
        self, pattern: bytes, direction: Direction = "request", *, delivered: bool | None = None, times: int | None = 1
    ) -> Trigger:
        """Cuts a link when these bytes pass, also across chunks.

        `delivered` says whether the receiver still gets the chunk that completes them: by default requests are, so that
        the upstream acts on them, and responses are not. The next link lives, save that `times` allows more.
        """
        trigger = Trigger(pattern, direction, direction == "request" if delivered is None else delivered, times)
        self._triggers.append(trigger)
        return trigger

    def heal(self) -> None:
        """Forgets triggers and delays and resumes."""
        self._triggers.clear()
        self.delay(0)
        self.resume()

    async def _carry(self, link: Link, direction: Direction) -> None:
        source, sink = link.source(direction), link.sink(direction)
        tail = b""
        while chunk := await source.read(CHUNK):
            if self._delays[direction]:
                await asyncio.sleep(self._delays[direction])
            await self._gate(direction)
            trigger = self._triggered(direction, tail, chunk)
            if trigger is not None:
                await self._cut(link, trigger, chunk)
            self.bytes_moved[direction] += len(chunk)
            sink.write(chunk)
            await sink.drain()
            tail = (tail + chunk)[-self._longest_pattern() :]

    def _longest_pattern(self) -> int:
        return max((len(trigger.pattern) for trigger in self._triggers), default=1)

    def _triggered(self, direction: Direction, tail: bytes, chunk: bytes) -> Trigger | None:
        for trigger in self._triggers:
            if trigger.direction == direction and not trigger.spent:
                overlap = tail[1 - len(trigger.pattern) :] if len(trigger.pattern) > 1 else b""
                if trigger.pattern in overlap + chunk:
                    return trigger
        return None

    async def _cut(self, link: Link, trigger: Trigger, chunk: bytes) -> None:
        await trigger.note()
        sink = link.sink(trigger.direction)
        if not trigger.delivered:
            link.abort()
        elif trigger.direction == "request":
            link.abandon()  # before the upstream has it, so that no answer can slip through
            sink.write(chunk)
        else:
            sink.write(chunk)
            await sink.drain()
        raise LinkEnded
