"""A proxy in front of a Kafka broker that aims faults at single kinds of requests or answers.

    async with BrokerProxy(broker.bootstrap_servers) as proxy:
        lost = proxy.rule(Api.PRODUCE, "response", CutConnection(), where=lambda f: f.writes_to("execution.events"))
        ...
        await lost.hit()          # the broker wrote it, and nobody was told

Clients that bootstrap through the proxy stay on it: addresses in Metadata, FindCoordinator and DescribeCluster answers
are rewritten on the way, so the broker needs no setting for it. For several brokers, use one proxy each and tell every
one of them the others with `advertise`. Plain text only (no TLS, no pre-KIP-152 SASL).
"""

import asyncio
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from support.kafka_wire import (
    Direction,
    Frame,
    expects_response,
    parse_request,
    parse_response,
    rewrite_addresses,
)
from support.links import HOST, Link, LinkEnded, Proxy


@dataclass(frozen=True, slots=True)
class Drop:
    """This frame vanishes, those behind it pass. aiokafka notices the gap at the next answer and reconnects."""


@dataclass(frozen=True, slots=True)
class Silence:
    """This frame and all behind it in its direction vanish on this connection, as when packets are lost."""


@dataclass(frozen=True, slots=True)
class Delay:
    """This frame waits, and so do those behind it on this connection: order is kept."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """As `Delay`, until the rule's `release`."""


@dataclass(frozen=True, slots=True)
class CutConnection:
    """The connection is reset instead of passing the frame on; with `after`, the receiver still gets the frame."""

    after: bool = False


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Another payload goes in the frame's place."""

    change: Callable[[Frame], bytes]


Action = Drop | Silence | Delay | Hold | CutConnection | Rewrite


def _always(_: Frame) -> bool:
    return True


@dataclass(eq=False)
class Rule:
    """A fault waiting for its frames. `hits` are the frames that it met, `times` how many it is good for."""

    api: int | None
    direction: Direction
    action: Action
    where: Callable[[Frame], bool] = _always
    times: int | None = 1
    hits: list[Frame] = field(default_factory=list)
    silenced: list[Link] = field(default_factory=list)
    _met: asyncio.Condition = field(default_factory=asyncio.Condition)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def spent(self) -> bool:
        return self.times is not None and len(self.hits) >= self.times

    def matches(self, frame: Frame) -> bool:
        if self.spent or frame.direction != self.direction:
            return False
        return self.api in (None, frame.api) and self.where(frame)

    async def hit(self, count: int = 1, timeout: float = 30.0) -> Frame:
        """Waits until the rule has met `count` frames and returns the last of them."""
        async with asyncio.timeout(timeout), self._met:
            await self._met.wait_for(lambda: len(self.hits) >= count)
        return self.hits[count - 1]

    def release(self) -> None:
        """Lets held frames go on, and lets later ones pass."""
        self._released.set()

    async def note(self, frame: Frame) -> None:
        self.hits.append(frame)
        async with self._met:
            self._met.notify_all()

    async def released(self) -> None:
        await self._released.wait()


class BrokerProxy(Proxy):
    """See the module. `requests` and `responses` count the frames seen per api key, dropped ones included."""

    def __init__(self, upstream: str, listen_port: int = 0) -> None:
        super().__init__(upstream, listen_port)
        self.requests: Counter[int] = Counter()
        self.responses: Counter[int] = Counter()
        self._rules: list[Rule] = []
        self._advertised: dict[int, tuple[str, int]] = {}
        self._unanswered: dict[Link, dict[int, Frame]] = {}

    def rule(
        self,
        api: int | None,
        direction: Direction,
        action: Action,
        where: Callable[[Frame], bool] = _always,
        times: int | None = 1,
    ) -> Rule:
        """Adds a fault; of several that match a frame the oldest acts. `api=None` is any, `times=None` is for ever."""
        rule = Rule(api, direction, action, where, times)
        self._rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Takes a fault away: frees what it held, and resets the connections that it silenced (they have a gap)."""
        self._rules.remove(rule)
        rule.release()
        for link in rule.silenced:
            link.abort()

    def heal(self) -> None:
        """Takes every fault away and resumes."""
        for rule in list(self._rules):
            self.remove(rule)
        self.resume()

    def advertise(self, node: int, address: str) -> None:
        """Where clients shall find that node; without it, every node is this proxy."""
        host, _, port = address.rpartition(":")
        self._advertised[node] = (host, int(port))

    def _route(self, node: int, host: str, port: int) -> tuple[str, int]:
        return self._advertised.get(node, (HOST, self.port))

    async def _run(self, link: Link) -> None:
        self._unanswered[link] = {}
        try:
            await super()._run(link)
        finally:
            del self._unanswered[link]

    async def _carry(self, link: Link, direction: Direction) -> None:
        source, sink = link.source(direction), link.sink(direction)
        while True:
            (size,) = struct.unpack(">i", await source.readexactly(4))
            frame = self._recognise(link, direction, await source.readexactly(size))
            await self._gate(direction)
            payload = await self._act(link, frame)
            if payload is not None:
                sink.write(packed(payload))
                await sink.drain()

    def _recognise(self, link: Link, direction: Direction, payload: bytes) -> Frame:
        unanswered = self._unanswered[link]
        if direction == "request":
            frame = parse_request(payload, link.number)
            if expects_response(frame):
                unanswered[frame.correlation_id] = frame
            self.requests[frame.api] += 1
            return frame
        frame = parse_response(payload, unanswered, link.number)
        self.responses[frame.api] += 1
        return replace(frame, payload=rewrite_addresses(frame, self._route))

    async def _act(self, link: Link, frame: Frame) -> bytes | None:
        """Carries out the fault for this frame, if there is one; returns what to pass on, None for nothing."""
        rule = next((rule for rule in self._rules if rule.matches(frame)), None)
        if rule is None:
            return frame.payload
        await rule.note(frame)
        match rule.action:
            case Drop():
                return None
            case Silence():
                rule.silenced.append(link)
                await self._swallow(link, frame.direction)
            case Delay(seconds):
                await asyncio.sleep(seconds)
            case Hold():
                await rule.released()
            case CutConnection(after):
                await self._cut(link, frame, after)
            case Rewrite(change):
                return change(frame)
        return frame.payload

    async def _swallow(self, link: Link, direction: Direction) -> None:
        while await link.source(direction).read(1 << 16):
            pass
        raise LinkEnded

    async def _cut(self, link: Link, frame: Frame, after: bool) -> None:
        sink = link.sink(frame.direction)
        if not after:
            link.abort()
        elif frame.direction == "request":
            link.abandon()  # before the broker has it, so that no answer can slip through
            sink.write(packed(frame.payload))
        else:
            sink.write(packed(frame.payload))
            await sink.drain()
        raise LinkEnded


def packed(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload
