"""A gateway for a client to talk to: answers by script, and keeps what it was asked."""

from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import orjson
from handrail_client import Handrail

Reply = httpx2.Response | Exception


class Door(httpx2.AsyncBaseTransport):
    """Gives one reply after the other, the last one again and again; an exception is a connection that fails."""

    def __init__(self, *replies: Reply | Callable[[httpx2.Request], Reply]) -> None:
        self.replies, self.requests = list(replies), list[httpx2.Request]()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        self.requests.append(request)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if callable(reply):
            reply = reply(request)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def client(self, **options: Any) -> Handrail:
        return Handrail("http://gateway", **{"token": "t", **options}, transport=self)

    def headers(self, name: str) -> list[str | None]:
        return [request.headers.get(name) for request in self.requests]


def answer(body: Any, status: int = 200) -> httpx2.Response:
    return httpx2.Response(status, json=body)


def refused(status: int, code: str, **headers: str) -> httpx2.Response:
    problem = {"status": status, "code": code, "detail": "because", "instance": "/api/v1/x"}
    return httpx2.Response(status, json=problem, headers={"content-type": "application/problem+json", **headers})


ACCEPTED = {"execution_id": "e", "workflow_id": "w", "status": "running"}


class Cut(httpx2.AsyncByteStream):
    """A body that breaks off after its last byte."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def __aiter__(self) -> Any:
        yield self.body
        raise httpx2.ReadError("cut")


def frames(*said: tuple[str, str | None, dict[str, Any]], cut: bool | bytes = False) -> httpx2.Response:
    """Server-sent events; `cut` breaks the connection after them, or in the middle of those bytes."""
    body = b"".join(encoded(*frame) for frame in said) + (cut if isinstance(cut, bytes) else b"")
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    return (
        httpx2.Response(200, headers=headers, stream=Cut(body))
        if cut
        else httpx2.Response(200, headers=headers, content=body)
    )


def encoded(event: str, identifier: str | None, data: dict[str, Any]) -> bytes:
    head = b"" if identifier is None else b"id: %s\n" % identifier.encode()
    return b"%sevent: %s\ndata: %s\n\n" % (head, event.encode(), orjson.dumps(data))


def paths(requests: Sequence[httpx2.Request]) -> list[str]:
    return [f"{request.method} {request.url.raw_path.decode()}" for request in requests]
