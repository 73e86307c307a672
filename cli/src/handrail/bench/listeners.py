"""Thousands of WebSocket clients of one gateway, from one process: a socket and a few bytes each, RFC 6455 by hand."""

import asyncio
import os
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import orjson
from handrail_runtime.service import allow_many_files

from handrail.bench.client import Client
from handrail.bench.workloads import chain, percentile, resident_mb

IDLE, BUSY = 5000, 500
RATE, SECONDS, STEPS = 20, 20, 3
AT_ONCE = 100
TEXT, PING, PONG = 1, 9, 10
Frames = list[tuple[int, bytes]]


class Listener(asyncio.Protocol):
    """Notes when it heard of the end of which execution."""

    def __init__(self, request: bytes, channel: str) -> None:
        self._request, self.channel = request, channel
        self.ends: dict[str, float] = {}
        self._left = b""
        self._upgraded = False
        self.messages = 0
        self.joined = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.time()
        data = self._left + data
        if not self._upgraded:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._left = head
                return
            if b" 101 " not in head.splitlines()[0]:
                self.joined.set_exception(ConnectionError(head.decode("latin-1")))
                return
            self._upgraded = True
            self.transport.write(masked(TEXT, orjson.dumps({"type": "subscribe", "channel": self.channel})))
        frames, self._left, ended = heard(data)
        for opcode, body in frames:
            if opcode == PING:
                self.transport.write(masked(PONG, body))
            elif not self.joined.done():
                self.joined.set_result(orjson.loads(body)["type"])
        self.messages += len(frames)
        for execution_id in ended:
            self.ends.setdefault(execution_id, now)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.joined.done():
            self.joined.set_exception(exc or ConnectionError("the gateway hung up"))


@lru_cache(maxsize=256)
def heard(data: bytes) -> tuple[Frames, bytes, list[str]]:
    """Frames, what is left of one that has not come whole, and the executions that have completed. All hear the same bytes."""
    frames: Frames = []
    start = 0
    while len(data) - start >= 2:
        size, body = data[start + 1] & 127, start + 2
        if size > 125:
            wide = 2 if size == 126 else 8
            size, body = int.from_bytes(data[body : body + wide], "big"), body + wide
        if body + size > len(data):
            break
        frames.append((data[start] & 15, data[body : body + size]))
        start = body + size
    said = [orjson.loads(body) for opcode, body in frames if opcode == TEXT]
    updates = [each for each in said if each["type"] == "workflow_update"]
    return frames, data[start:], [each["execution_id"] for each in updates if each["data"]["status"] == "completed"]


def masked(opcode: int, body: bytes) -> bytes:
    """A frame as clients send them; masked with zeros, which leaves the bytes as they are."""
    size = bytes([128 | len(body)]) if len(body) < 126 else bytes([254]) + len(body).to_bytes(2, "big")
    return bytes([128 | opcode]) + size + bytes(4) + body


async def channels(client: Client, gateway: str, token: str, pid: int) -> dict[str, float]:
    """5,000 clients that hear nothing and 500 that hear of every execution, at a steady rate: when they hear of its end."""
    allow_many_files()
    place = urlsplit(gateway)
    request = (
        f"GET /ws HTTP/1.1\r\nHost: {place.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()
    before = resident_mb(pid)
    listeners = await _connect(place.hostname or "", place.port or 80, request)
    connected = resident_mb(pid)
    try:
        workflow = await client.define("ws", chain(STEPS))
        await _steadily(client, workflow, 3)
        messages, used, began = sum(each.messages for each in listeners), cpu_seconds(pid), time.monotonic()
        ended = await _steadily(client, workflow, SECONDS)
        await asyncio.sleep(2)
        took, used = time.monotonic() - began, cpu_seconds(pid) - used
        messages = sum(each.messages for each in listeners) - messages
    finally:
        for each in listeners:
            each.transport.abort()
    busy = [each for each in listeners if each.channel == "workflows"]
    ages = sorted(each.ends[name] - at for each in busy for name, at in ended.items() if name in each.ends)
    return {
        "idle_clients": IDLE,
        "busy_clients": BUSY,
        "executions_per_s": round(len(ended) / SECONDS, 1),
        "messages_per_s": round(messages / took),
        "event_to_client_p50_ms": round(percentile(ages, 0.5) * 1000, 1),
        "event_to_client_p95_ms": round(percentile(ages, 0.95) * 1000, 1),
        "event_to_client_p99_ms": round(percentile(ages, 0.99) * 1000, 1),
        "lost": len(ended) * BUSY - len(ages),
        "gateway_mb_before": before,
        "gateway_mb_connected": connected,
        "gateway_kb_per_client": round((connected - before) * 1024 / len(listeners), 1),
        "gateway_mb_after": resident_mb(pid),
        "gateway_cpu_percent": round(100 * used / took),
    }


async def _connect(host: str, port: int, request: bytes) -> list[Listener]:
    loop = asyncio.get_running_loop()
    wanted = ["approvals"] * IDLE + ["workflows"] * BUSY
    listeners: list[Listener] = []
    for first in range(0, len(wanted), AT_ONCE):
        several = wanted[first : first + AT_ONCE]
        made = [loop.create_connection(partial(Listener, request, channel), host, port) for channel in several]
        fresh = [protocol for _, protocol in await asyncio.gather(*made)]
        if wrong := set(await asyncio.gather(*(each.joined for each in fresh))) - {"subscribed"}:
            raise RuntimeError(f"clients were answered {wrong}")
        listeners += fresh
    return listeners


async def _steadily(client: Client, workflow: str, seconds: float) -> dict[str, float]:
    """Starts executions evenly; gives when each ended, by the journal."""
    ended: dict[str, float] = {}
    open_: set[str] = set()
    began, started, wanted = time.monotonic(), 0, int(RATE * seconds)
    while started < wanted or open_:
        due = min(wanted, int(RATE * (time.monotonic() - began)) + 1)
        if due > started:
            open_.update(await client.start(workflow, due - started))
            started = due
        for execution_id, at in await client.ended(10):
            if execution_id in open_:
                open_.discard(execution_id)
                ended[execution_id] = at
        if time.monotonic() - began > seconds + 60:
            raise TimeoutError(f"{len(open_)} executions have not ended after a minute")
    return ended


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
