"""The way out for libraries that bring their own HTTP client (httpx): checked addresses, bounded answers."""

from collections.abc import AsyncIterator

import httpx

from handrail_agent_runner.agents.addresses import resolve
from handrail_agent_runner.agents.base import AgentFailure

EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


class GuardedTransport(httpx.AsyncBaseTransport):
    """Resolves once, checks, connects to what it checked. Raises `AgentFailure` for what is out of bounds.

    Connections are not kept: one that was verified for a name must not carry a call to another name at that address.
    An answer may have `limit` bytes; of a stream of events, each event.
    """

    def __init__(self, private: bool, limit: int) -> None:
        self._private, self._limit = private, limit
        self._inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0), trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        name = request.url
        if name.scheme not in ("http", "https") or not name.host:
            raise AgentFailure("VALIDATION_ERROR", f"{name}: only http and https can be called", retryable=False)
        address = await resolve(name.host, name.port or (443 if name.scheme == "https" else 80), self._private)
        request.url = name.copy_with(host=str(address))
        request.extensions = {**request.extensions, "sni_hostname": name.host}
        response = await self._inner.handle_async_request(request)
        request.url = name
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            await response.aclose()
            message = f"the answer of {name} is compressed ({encoding}), which was not asked for"
            raise AgentFailure("AGENT_ERROR", message, retryable=False)
        events = response.headers.get("content-type", "").startswith("text/event-stream")
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Bounded(response.stream, self._limit, events, str(name))
        return response


class _Bounded(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, limit: int, events: bool, whose: str) -> None:
        self._inner, self._limit, self._events, self._whose = inner, limit, events, whose

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, tail = 0, b""
        async for chunk in self._inner:
            size += len(chunk)
            if self._events:
                seen = tail + chunk
                end = max(seen.rfind(mark) + len(mark) if mark in seen else 0 for mark in EVENT_ENDS)
                size, tail = (len(seen) - end if end else size), seen[-3:]
            if size > self._limit:
                message = f"an answer of {self._whose} is larger than {self._limit} bytes; pass large data by reference"
                raise AgentFailure("RESULT_TOO_LARGE", message, retryable=False)
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
