"""Each fault of the broker proxy, against an upstream that frames like a broker and answers every request with its body."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from support.broker_proxy import BrokerProxy, CutConnection, Delay, Drop, Hold, Rewrite, Silence
from support.kafka_wire import Api, Frame

QUIET = 0.2
"""How long silence is listened to; longer only makes a wrong sound likelier to be heard."""


def packed(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


@dataclass
class EchoBroker:
    received: list[tuple[int, bytes]] = field(default_factory=list)
    address: str = ""
    heard: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await read_frame(reader)
                api, _, correlation, length = struct.unpack_from(">hhih", request)
                body = request[10 + length :]
                self.received.append((api, body))
                async with self.heard:
                    self.heard.notify_all()
                writer.write(packed(struct.pack(">i", correlation) + body))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def got(self, body: bytes) -> None:
        async with asyncio.timeout(5), self.heard:
            await self.heard.wait_for(lambda: body in [each for _, each in self.received])


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    correlation: int = 0

    async def send(self, api: int, body: bytes) -> None:
        self.correlation += 1
        self.writer.write(packed(struct.pack(">hhih", api, 5, self.correlation, 6) + b"tester" + body))
        await self.writer.drain()

    async def receive(self) -> tuple[int, bytes]:
        async with asyncio.timeout(5):
            frame = await read_frame(self.reader)
        return struct.unpack_from(">i", frame)[0], frame[4:]

    async def call(self, api: int, body: bytes) -> bytes:
        await self.send(api, body)
        correlation, answer = await self.receive()
        assert correlation == self.correlation
        return answer

    async def hears_nothing(self) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self.reader.readexactly(1), QUIET)

    async def is_cut(self) -> None:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await self.receive()


@asynccontextmanager
async def echo_broker() -> AsyncIterator[EchoBroker]:
    broker = EchoBroker()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield broker
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def client_of(proxy: BrokerProxy) -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))
    try:
        yield client
    finally:
        client.writer.transport.abort()


@asynccontextmanager
async def bench() -> AsyncIterator[tuple[EchoBroker, BrokerProxy, Client]]:
    async with echo_broker() as broker, BrokerProxy(broker.address) as proxy, client_of(proxy) as client:
        yield broker, proxy, client


PRODUCE_V5 = struct.pack(">hhi", -1, -1, 1000)  # no transactional id, acks=all, time-out


def produce_to(topic: str) -> bytes:
    name = topic.encode()
    partitions = struct.pack(">iiiB", 1, 0, 1, 0)
    return PRODUCE_V5 + struct.pack(">ih", 1, len(name)) + name + partitions


async def test_frames_pass_and_are_counted_per_api() -> None:
    async with bench() as (_, proxy, client):
        assert await client.call(Api.FETCH, b"one") == b"one"
        assert await client.call(Api.FETCH, b"two") == b"two"
        assert await client.call(Api.HEARTBEAT, b"three") == b"three"
        assert proxy.requests == proxy.responses == {Api.FETCH: 2, Api.HEARTBEAT: 1}


async def test_a_cut_response_was_carried_out_and_never_answered() -> None:
    async with bench() as (broker, proxy, client):
        rule = proxy.rule(Api.PRODUCE, "response", CutConnection())
        await client.send(Api.PRODUCE, produce_to("t"))
        await client.is_cut()
        assert (await rule.hit()).correlation_id == 1
        assert broker.received == [(Api.PRODUCE, produce_to("t"))]


async def test_a_cut_request_never_reaches_the_broker() -> None:
    async with bench() as (broker, proxy, client):
        proxy.rule(Api.FETCH, "request", CutConnection())
        await client.send(Api.FETCH, b"lost")
        await client.is_cut()
        async with client_of(proxy) as again:
            assert await again.call(Api.FETCH, b"later") == b"later"
        assert broker.received == [(Api.FETCH, b"later")]


async def test_a_request_cut_after_delivery_reaches_the_broker_whole() -> None:
    async with bench() as (broker, proxy, client):
        proxy.rule(Api.FETCH, "request", CutConnection(after=True))
        body = b"x" * 5_000_000
        await client.send(Api.FETCH, body)
        await client.is_cut()
        await broker.got(body)


async def test_a_response_cut_after_delivery_arrives_and_then_the_connection_ends() -> None:
    async with bench() as (_, proxy, client):
        proxy.rule(Api.FETCH, "response", CutConnection(after=True))
        assert await client.call(Api.FETCH, b"last") == b"last"
        await client.is_cut()


async def test_a_dropped_response_leaves_a_gap() -> None:
    async with bench() as (broker, proxy, client):
        proxy.rule(Api.FETCH, "response", Drop())
        await client.send(Api.FETCH, b"one")
        await client.send(Api.FETCH, b"two")
        assert await client.receive() == (2, b"two")
        assert len(broker.received) == 2


async def test_a_dropped_request_is_not_carried_out() -> None:
    async with bench() as (broker, proxy, client):
        proxy.rule(Api.FETCH, "request", Drop())
        await client.send(Api.FETCH, b"one")
        assert await client.call(Api.FETCH, b"two") == b"two"
        assert broker.received == [(Api.FETCH, b"two")]


async def test_silence_swallows_what_follows_on_that_connection_only() -> None:
    async with bench() as (broker, proxy, client):
        proxy.rule(Api.FETCH, "response", Silence())
        await client.send(Api.FETCH, b"one")
        await client.send(Api.HEARTBEAT, b"two")
        await broker.got(b"two")
        await client.hears_nothing()
        async with client_of(proxy) as other:
            assert await other.call(Api.FETCH, b"three") == b"three"
        proxy.heal()  # a stream with a gap is of no use to anyone
        await client.is_cut()


async def test_a_held_response_and_those_behind_it_wait_for_the_release_in_order() -> None:
    async with bench() as (broker, proxy, client):
        rule = proxy.rule(Api.FETCH, "response", Hold())
        await client.send(Api.FETCH, b"one")
        await client.send(Api.HEARTBEAT, b"two")
        await rule.hit()
        await broker.got(b"two")
        await client.hears_nothing()
        async with client_of(proxy) as other:
            assert await other.call(Api.FETCH, b"three") == b"three"
        rule.release()
        assert [await client.receive(), await client.receive()] == [(1, b"one"), (2, b"two")]


async def test_removing_a_rule_frees_what_it_held() -> None:
    async with bench() as (_, proxy, client):
        rule = proxy.rule(Api.FETCH, "request", Hold(), times=None)
        await client.send(Api.FETCH, b"one")
        await rule.hit()
        proxy.remove(rule)
        assert await client.receive() == (1, b"one")
        assert await client.call(Api.FETCH, b"two") == b"two"


async def test_a_delay_takes_its_time() -> None:
    async with bench() as (_, proxy, client):
        proxy.rule(Api.FETCH, "response", Delay(QUIET))
        before = asyncio.get_running_loop().time()
        assert await client.call(Api.FETCH, b"slow") == b"slow"
        assert asyncio.get_running_loop().time() - before >= QUIET


async def test_a_rewritten_frame_goes_in_the_place_of_the_old_one() -> None:
    def shout(frame: Frame) -> bytes:
        return frame.payload[:4] + frame.payload[4:].upper()

    async with bench() as (_, proxy, client):
        proxy.rule(Api.FETCH, "response", Rewrite(shout))
        assert await client.call(Api.FETCH, b"quiet") == b"QUIET"
        assert await client.call(Api.FETCH, b"quiet") == b"quiet"


async def test_a_rule_meets_only_its_frames_and_only_so_often() -> None:
    async with bench() as (_, proxy, client):
        rule = proxy.rule(
            Api.PRODUCE, "response", Drop(), where=lambda f: f.client_id == "tester" and f.writes_to("b"), times=2
        )
        for topic in ("a", "b", "c", "b", "b"):
            await client.send(Api.PRODUCE, produce_to(topic))
        await client.send(Api.FETCH, produce_to("b"))
        assert [(await client.receive())[0] for _ in range(4)] == [1, 3, 5, 6]
        assert rule.spent
        assert [frame.correlation_id for frame in rule.hits] == [2, 4]


async def test_the_oldest_matching_rule_acts_and_then_the_next() -> None:
    async with bench() as (_, proxy, client):
        first = proxy.rule(Api.FETCH, "response", Drop())
        second = proxy.rule(None, "response", CutConnection())
        await client.send(Api.FETCH, b"one")
        await client.send(Api.FETCH, b"two")
        await client.is_cut()
        assert (len(first.hits), len(second.hits)) == (1, 1)


@pytest.mark.parametrize("direction", ["request", "response", None])
async def test_a_pause_is_silent_and_loses_nothing(direction: str | None) -> None:
    async with bench() as (broker, proxy, client):
        assert await client.call(Api.FETCH, b"before") == b"before"
        proxy.pause(direction)  # type: ignore[arg-type]
        await client.send(Api.FETCH, b"during")
        await client.hears_nothing()
        assert ((Api.FETCH, b"during") in broker.received) == (direction == "response")
        proxy.resume()
        assert await client.receive() == (2, b"during")


async def test_refusing_is_loud_and_accepting_uses_the_same_port() -> None:
    async with bench() as (_, proxy, client):
        await client.call(Api.FETCH, b"before")
        await proxy.refuse()
        await client.is_cut()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        await proxy.accept()
        async with client_of(proxy) as again:
            assert await again.call(Api.FETCH, b"after") == b"after"


async def test_a_broker_that_is_away_ends_the_clients_connection() -> None:
    async with echo_broker() as broker:
        address = broker.address
    async with BrokerProxy(address) as proxy, client_of(proxy) as client:
        await client.is_cut()


async def test_a_rule_that_raises_cuts_the_link_and_fails_the_test() -> None:
    def broken(_: Frame) -> bool:
        raise KeyError("a mistake in the test")

    with pytest.raises(AssertionError, match="a mistake in the test"):
        async with bench() as (_, proxy, client):
            proxy.rule(Api.FETCH, "request", Drop(), where=broken)
            await client.send(Api.FETCH, b"one")
            await client.is_cut()


async def test_waiting_for_a_fault_that_never_comes_times_out() -> None:
    async with bench() as (_, proxy, _client):
        rule: Awaitable[Frame] = proxy.rule(Api.FETCH, "request", Drop()).hit(timeout=0.05)
        with pytest.raises(TimeoutError):
            await rule
