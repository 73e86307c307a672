"""The generic proxy, against an upstream that answers each line with `<line>: done`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from support.tcp_proxy import TcpProxy

QUIET = 0.2


@dataclass
class LineServer:
    lines: list[bytes] = field(default_factory=list)
    address: str = ""
    heard: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := (await reader.readline()).strip():
                self.lines.append(line)
                async with self.heard:
                    self.heard.notify_all()
                writer.write(line + b": done\n")
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def got(self, line: bytes) -> None:
        async with asyncio.timeout(5), self.heard:
            await self.heard.wait_for(lambda: line in self.lines)


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def line(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readline()

    async def ask(self, line: bytes) -> bytes:
        await self.send(line + b"\n")
        return await self.line()

    async def is_cut(self) -> None:
        try:
            assert await self.line() == b""
        except ConnectionError:
            pass


@asynccontextmanager
async def client_of(proxy: TcpProxy) -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))
    try:
        yield client
    finally:
        client.writer.transport.abort()


@asynccontextmanager
async def bench() -> AsyncIterator[tuple[LineServer, TcpProxy, Client]]:
    upstream = LineServer()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    async with server, TcpProxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as proxy, client_of(proxy) as client:
        yield upstream, proxy, client


async def test_bytes_pass_both_ways_and_are_counted() -> None:
    async with bench() as (_, proxy, client):
        assert await client.ask(b"hello") == b"hello: done\n"
        assert proxy.bytes_moved == {"request": 6, "response": 12}


async def test_the_upstream_acts_on_the_cut_request_and_the_client_hears_nothing() -> None:
    async with bench() as (upstream, proxy, client):
        lost = proxy.cut_at(b"COMMIT")
        assert await client.ask(b"BEGIN") == b"BEGIN: done\n"
        await client.send(b"COMMIT;\n")
        await client.is_cut()
        await lost.hit()
        await upstream.got(b"COMMIT;")


async def test_an_undelivered_cut_keeps_the_bytes_from_the_upstream() -> None:
    async with bench() as (upstream, proxy, client):
        proxy.cut_at(b"COMMIT", delivered=False)
        await client.send(b"COMMIT;\n")
        await client.is_cut()
        async with client_of(proxy) as again:
            assert await again.ask(b"COMMIT;") == b"COMMIT;: done\n"
        assert upstream.lines == [b"COMMIT;"]


async def test_a_cut_response_has_been_carried_out_and_stays_unsaid() -> None:
    async with bench() as (upstream, proxy, client):
        proxy.cut_at(b"COMMIT;: done", "response")
        await client.send(b"COMMIT;\n")
        await client.is_cut()
        assert upstream.lines == [b"COMMIT;"]


async def test_a_delivered_response_comes_before_the_cut() -> None:
    async with bench() as (_, proxy, client):
        proxy.cut_at(b"done", "response", delivered=True)
        assert await client.ask(b"last") == b"last: done\n"
        await client.is_cut()


async def test_a_pattern_across_two_chunks_is_found() -> None:
    async with bench() as (upstream, proxy, client):
        trigger = proxy.cut_at(b"COMMIT")
        await client.send(b"first\nCOM")
        assert await client.line() == b"first: done\n"
        await client.send(b"MIT;\n")
        await client.is_cut()
        assert trigger.hits == 1
        await upstream.got(b"COMMIT;")


async def test_a_trigger_is_good_for_so_many_links() -> None:
    async with bench() as (_, proxy, _client):
        trigger = proxy.cut_at(b"X", times=2)
        for _ in range(2):
            async with client_of(proxy) as client:
                await client.send(b"X\n")
                await client.is_cut()
        async with client_of(proxy) as client:
            assert await client.ask(b"X") == b"X: done\n"
        assert trigger.spent


async def test_a_delay_holds_each_direction_back() -> None:
    async with bench() as (_, proxy, client):
        proxy.delay(QUIET / 2)
        before = asyncio.get_running_loop().time()
        assert await client.ask(b"slow") == b"slow: done\n"
        assert asyncio.get_running_loop().time() - before >= QUIET
        proxy.heal()
        assert await client.ask(b"quick") == b"quick: done\n"


async def test_a_one_way_pause_lets_the_request_through_and_keeps_the_answer() -> None:
    async with bench() as (upstream, proxy, client):
        proxy.pause("response")
        await client.send(b"during\n")
        await upstream.got(b"during")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.readexactly(1), QUIET)
        proxy.resume("response")
        assert await client.line() == b"during: done\n"


async def test_cutting_all_links_leaves_the_door_open() -> None:
    async with bench() as (_, proxy, client):
        await client.ask(b"hello")
        assert proxy.cut() == 1
        await client.is_cut()
        async with client_of(proxy) as again:
            assert await again.ask(b"again") == b"again: done\n"
