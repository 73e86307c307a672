"""What every fault proxy is: a listener, links from clients to one upstream, and the faults that need no parsing."""

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from support.kafka_wire import Direction

HOST = "127.0.0.1"
DIRECTIONS: tuple[Direction, Direction] = ("request", "response")
BUFFER = 1 << 20
DRAIN_SECONDS = 10.0


class LinkEnded(Exception):
    """A fault ended this link; both of its pumps stop."""


@dataclass(eq=False)
class Link:
    """One client connection and its twin to the upstream."""

    number: int
    client: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    abandoned: bool = False

    def source(self, direction: Direction) -> asyncio.StreamReader:
        return (self.client if direction == "request" else self.upstream)[0]

    def sink(self, direction: Direction) -> asyncio.StreamWriter:
        return (self.upstream if direction == "request" else self.client)[1]

    def abort(self) -> None:
        """A loud end for both sides: connection reset, nothing flushed."""
        for _, writer in (self.client, self.upstream):
            writer.transport.abort()

    def abandon(self) -> None:
        """Resets the client, but the upstream still reads all that it is sent: its answer goes nowhere."""
        self.abandoned = True
        self.client[1].transport.abort()

    async def close(self) -> None:
        """Flushes and closes both sides. An abandoned upstream first reads to the end: a reset could lose that."""
        reader, writer = self.upstream
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                if self.abandoned:
                    await writer.drain()
                    writer.write_eof()
                    while await reader.read(BUFFER):
                        pass
                for side in (self.client[1], writer):
                    side.close()
                    await side.wait_closed()
        except (OSError, TimeoutError):
            pass
        finally:
            self.abort()


class Proxy(ABC):
    """Listens on 127.0.0.1 and links every client to `upstream` ("host:port").

    `pause` is silence: nothing moves, connections stay open, what was sent arrives after `resume`.
    `refuse` is loud: links are reset and new connections refused, until `accept`.
    """

    def __init__(self, upstream: str, listen_port: int = 0) -> None:
        host, _, port = upstream.rpartition(":")
        self.upstream: tuple[str, int] = (host or HOST, int(port))
        self.port = listen_port
        self.accepted = 0
        self.failures: list[str] = []
        self._server: asyncio.Server | None = None
        self._links: set[Link] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._open: dict[Direction, asyncio.Event] = {direction: asyncio.Event() for direction in DIRECTIONS}
        self.resume()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def links(self) -> int:
        return len(self._links)

    async def start(self) -> Self:
        await self.accept()
        return self

    async def stop(self) -> None:
        await self.refuse()
        self.resume()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if kind is None and self.failures:
            raise AssertionError(f"the proxy itself failed: {self.failures}")

    async def accept(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, HOST, self.port, limit=BUFFER, backlog=1024)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.cut()
        if server is not None:
            await server.wait_closed()

    def pause(self, direction: Direction | None = None) -> None:
        """Silence in both directions, or in one: an asymmetric partition."""
        for each in DIRECTIONS if direction is None else (direction,):
            self._open[each].clear()

    def resume(self, direction: Direction | None = None) -> None:
        for each in DIRECTIONS if direction is None else (direction,):
            self._open[each].set()

    def cut(self) -> int:
        """Resets every link and says how many there were. New connections are welcome."""
        links = list(self._links)
        for link in links:
            link.abort()
        return len(links)

    @abstractmethod
    async def _carry(self, link: Link, direction: Direction) -> None:
        """Moves one direction of a link until its end."""

    async def _gate(self, direction: Direction) -> None:
        await self._open[direction].wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            upstream = await asyncio.open_connection(*self.upstream, limit=BUFFER)
            await self._run(Link(self.accepted, (reader, writer), upstream))
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._handlers.discard(task)

    async def _run(self, link: Link) -> None:
        self._links.add(link)
        if self._server is None:  # refused while the upstream was being connected
            link.abort()
        pumps = [asyncio.create_task(self._pump(link, direction)) for direction in DIRECTIONS]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._links.discard(link)
            await link.close()

    async def _pump(self, link: Link, direction: Direction) -> None:
        try:
            await self._carry(link, direction)
        except (OSError, asyncio.IncompleteReadError, LinkEnded):
            pass
        except Exception as error:
            self.failures.append(f"{direction} on link {link.number}: {error!r}")
            link.abort()
