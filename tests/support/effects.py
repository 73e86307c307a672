"""An HTTP agent that counts its side effects. With PYTHONPATH=tests:

    python -m support.effects --port 0 --journal effects.jsonl

POST /api/v1/execute does what the agent's name says (body field `agent`, else header `X-Handrail-Agent`):

    echo            {"output": input}                    slow:<ms>      echo after that time
    fail:<status>   that status, each time               flaky:<n>      503 for the first n requests of a key, then echo
    big:<bytes>     an output of that size               hang           no answer, until the caller leaves
    garbage         200 with a body that is not JSON     close          the connection is reset instead of an answer
    torn            half an answer, then a reset

A name of another form is an echo. Each effect appends one line when it starts and one when it finishes to the journal,
before anything is answered, so effects are counted even if the caller is killed. GET /healthz answers 200.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11

from support.history import read_json_lines

BUFFER = 1 << 16


class CallerLeft(Exception):
    """A hanging agent's caller gave up."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`cut` resets the connection after that many body bytes."""

    status: int = 200
    body: bytes = b"{}"
    cut: int | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """One run of an agent. `finished` is None if it never did: the server was killed, or the caller left a `hang`."""

    key: str
    execution_id: str
    step_id: str
    run_id: str
    attempt: int
    agent: str
    pid: int
    started: float
    finished: float | None = None
    status: int | None = None


class EffectJournal:
    """Appends `started` and `finished` lines; times are `time.monotonic()`, shared by all processes of the machine."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._name = os.urandom(6).hex()
        self._count = 0

    def started(self, headers: Mapping[str, str], body: Mapping[str, Any], agent: str) -> str:
        self._count += 1
        effect = f"{self._name}-{self._count}"
        self._append(
            event="started",
            effect=effect,
            key=headers.get("idempotency-key", ""),
            execution_id=headers.get("x-handrail-execution-id") or body.get("execution_id", ""),
            step_id=headers.get("x-handrail-step-id") or body.get("step_id", ""),
            run_id=body.get("run_id", ""),
            attempt=int(headers.get("x-handrail-attempt") or body.get("attempt", 0)),
            agent=agent,
            traceparent=headers.get("traceparent", ""),
        )
        return effect

    def finished(self, effect: str, status: int) -> None:
        self._append(event="finished", effect=effect, status=status)

    def _append(self, **line: Any) -> None:
        line |= {"pid": os.getpid(), "at": time.monotonic()}
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


def load_effects(path: Path) -> list[Effect]:
    """The effects of a journal file in the order in which they started."""
    effects: dict[str, Effect] = {}
    for line in read_json_lines(path):
        identity = line["effect"]
        if line["event"] == "started":
            named = {
                name: line[name] for name in ("key", "execution_id", "step_id", "run_id", "attempt", "agent", "pid")
            }
            effects[identity] = Effect(**named, started=line["at"])
        else:
            begun = effects[identity]
            named = {name: getattr(begun, name) for name in Effect.__dataclass_fields__}
            effects[identity] = Effect(**named | {"finished": line["at"], "status": line["status"]})
    return list(effects.values())


class Agents:
    """What each agent does; `seen` counts the requests of a key, for `flaky`."""

    def __init__(self, journal: EffectJournal) -> None:
        self._journal = journal
        self._seen: Counter[str] = Counter()

    async def execute(self, headers: Mapping[str, str], raw: bytes, caller_left: asyncio.Event) -> Answer:
        """Raises `CallerLeft` when a hanging agent has nobody to keep waiting."""
        try:
            body = json.loads(raw)
        except ValueError:
            return _json(400, {"error": "the body is not JSON"})
        if not isinstance(body, dict):
            return _json(400, {"error": "the body is not a JSON object"})
        agent = str(body.get("agent") or headers.get("x-handrail-agent", "echo"))
        effect = self._journal.started(headers, body, agent)
        answer = await self._behave(agent, headers.get("idempotency-key", ""), body, caller_left)
        self._journal.finished(effect, answer.status)
        return answer

    async def _behave(self, agent: str, key: str, body: Mapping[str, Any], caller_left: asyncio.Event) -> Answer:
        kind, _, argument = agent.partition(":")
        echo = _json(200, {"output": body.get("input")})
        match kind:
            case "slow":
                await asyncio.sleep(float(argument) / 1000)
            case "hang":
                await caller_left.wait()
                raise CallerLeft
            case "fail":
                return _json(int(argument), {"error": f"told to fail with {argument}"})
            case "flaky":
                self._seen[key] += 1
                if self._seen[key] <= int(argument):
                    return _json(503, {"error": f"failure {self._seen[key]} of {argument}"})
            case "big":
                return _json(200, {"output": "x" * int(argument)})
            case "garbage":
                return Answer(body=b'{"output": <not json')
            case "close":
                return Answer(cut=0)
            case "torn":
                return Answer(body=echo.body, cut=len(echo.body) // 2)
        return echo


def _json(status: int, value: object) -> Answer:
    return Answer(status, json.dumps(value).encode())


class EffectServer:
    """HTTP/1.1 by h11 on plain streams: an ASGI server would not let an agent reset its connection."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while await self._exchange(connection, reader, writer):
                connection.start_next_cycle()
        except (OSError, h11.ProtocolError):
            pass
        finally:
            writer.close()

    async def _exchange(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """One request and its answer; false when the connection is done with."""
        request, body = await _read_request(connection, reader)
        if request is None:
            return False
        gone = asyncio.Event()
        answering = asyncio.create_task(self._answer(request, body, gone))
        left = asyncio.create_task(_until_closed(connection, reader))
        await asyncio.wait((answering, left), return_when=asyncio.FIRST_COMPLETED)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)  # it must let go of the reader before the next request
        if not answering.done():  # an agent that works goes on working although nobody will hear of it
            gone.set()
            await asyncio.gather(answering, return_exceptions=True)
            return False
        return await _send(connection, writer, answering.result())

    async def _answer(self, request: h11.Request, body: bytes, gone: asyncio.Event) -> Answer:
        if (request.method, request.target) == (b"GET", b"/healthz"):
            return _json(200, {"status": "ok"})
        if (request.method, request.target) != (b"POST", b"/api/v1/execute"):
            return _json(404, {"error": "only POST /api/v1/execute and GET /healthz live here"})
        return await self._agents.execute({k.decode(): v.decode("latin-1") for k, v in request.headers}, body, gone)


async def _read_request(connection: h11.Connection, reader: asyncio.StreamReader) -> tuple[h11.Request | None, bytes]:
    request, body = None, bytearray()
    while True:
        event = connection.next_event()
        match event:
            case h11.NEED_DATA:
                connection.receive_data(await reader.read(BUFFER))
            case h11.Request():
                request = event
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                return request, bytes(body)
            case _:
                return None, b""


async def _until_closed(connection: h11.Connection, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(BUFFER):
        connection.receive_data(data)  # a pipelined request waits for its turn


async def _send(connection: h11.Connection, writer: asyncio.StreamWriter, answer: Answer) -> bool:
    length = str(len(answer.body)).encode()
    head = connection.send(
        h11.Response(
            status_code=answer.status, headers=[(b"Content-Type", b"application/json"), (b"Content-Length", length)]
        )
    )
    body = connection.send(h11.Data(data=answer.body))
    assert head is not None and body is not None
    if answer.cut is not None:
        if answer.cut:
            writer.write(head + body[: answer.cut])
            await writer.drain()
        writer.transport.abort()
        return False
    writer.write(head + body + (connection.send(h11.EndOfMessage()) or b""))
    await writer.drain()
    return connection.our_state is h11.DONE and connection.their_state is h11.DONE


async def run(port: int, journal: EffectJournal) -> None:
    """Serves until SIGTERM or SIGINT; prints its address first."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await asyncio.start_server(EffectServer(Agents(journal)).serve, "127.0.0.1", port, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    server.close()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="support.effects", description="an HTTP agent that counts its effects")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one; the address is printed")
    parser.add_argument("--journal", type=Path, required=True, help="file that effects are appended to")
    options = parser.parse_args(arguments)
    journal = EffectJournal(options.journal)
    try:
        asyncio.run(run(options.port, journal))
    finally:
        journal.close()


if __name__ == "__main__":
    main(sys.argv[1:])
