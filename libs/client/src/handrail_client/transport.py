"""How a call is made: who asks, which page, and again while it makes sense."""

import asyncio
import inspect
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx2

from handrail_client.calls import Call, T
from handrail_client.errors import ApiError, Unreachable, api_error

Token = str | Callable[[], str | Awaitable[str]]

AGAIN = frozenset({429, 502, 503, 504})
"""Answers that may be others a moment later: 502 and 504 are those of a proxy in front."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
PAGE = 200
NOTHING: Mapping[str, Any] = {}


class Credentials(httpx2.Auth):
    """A bearer token or an API key. A callable is asked before every request: it knows when its token has to be renewed."""

    def __init__(self, token: Token | None, api_key: str | None) -> None:
        self._token, self._api_key = token, api_key

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        if self._api_key:
            request.headers["X-API-Key"] = self._api_key
        elif self._token:
            given = self._token() if callable(self._token) else self._token
            request.headers["Authorization"] = f"Bearer {await given if inspect.isawaitable(given) else given}"
        yield request


class Backoff:
    """Pauses that grow, within `seconds` from its making or its last `reset`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.reset()

    def reset(self) -> None:
        self._until, self._pause = time.monotonic() + self._seconds, FIRST_PAUSE

    async def wait(self, wanted: float | None = None) -> bool:
        """Waits a little, or as long as `wanted`; at once False if that would be too late."""
        pause = self._pause * random.uniform(0.5, 1) if wanted is None else wanted
        if time.monotonic() + pause > self._until:
            return False
        self._pause = min(LONGEST_PAUSE, self._pause * 2)
        await asyncio.sleep(pause)
        return True


class Transport:
    """Repeats what got no answer, or one that says "later", for `retry_seconds`.

    A write carries the same `Idempotency-Key` each time, so however often it arrives it happens once.
    """

    def __init__(self, client: httpx2.AsyncClient, retry_seconds: float) -> None:
        self.client, self.retry_seconds = client, retry_seconds

    async def ask(
        self,
        call: Call[T],
        ids: Mapping[str, str] = NOTHING,
        body: Any = None,
        *,
        key: str | None = None,
        query: Mapping[str, Any] = NOTHING,
    ) -> T:
        """The answer, or an `ApiError`, or `Unreachable`. `ids` fill the path. Two calls with the same `key` are one."""
        response = await self._send(call, ids, body, key, query)
        return call.answer.model_validate_json(response.content or b"{}")

    async def pages(
        self, call: Call[T], ids: Mapping[str, str] = NOTHING, *, query: Mapping[str, Any] = NOTHING
    ) -> AsyncIterator[T]:
        """All of a list, page by page as they are wanted."""
        asked = {**query, "limit": PAGE}
        while True:
            found = (await self._send(call, ids, None, None, asked)).json()
            for item in found["items"]:
                yield call.answer.model_validate(item)
            if found["next_cursor"] is None:
                return
            asked["cursor"] = found["next_cursor"]

    @asynccontextmanager
    async def stream(self, path: str, headers: Mapping[str, str], silence: float) -> AsyncIterator[httpx2.Response]:
        """One attempt: nothing heard for `silence` seconds is a `TransportError`, as is a cut."""
        limits = httpx2.Timeout(silence, connect=self.client.timeout.connect)
        async with self.client.stream("GET", path, headers=headers, timeout=limits) as response:
            if response.status_code >= 300:
                await response.aread()
                raise refusal(response)
            yield response

    async def _send(
        self, call: Call[Any], ids: Mapping[str, str], body: Any, key: str | None, query: Mapping[str, Any]
    ) -> httpx2.Response:
        headers = {} if call.method == "GET" else {"Idempotency-Key": key or str(uuid4())}
        path = filled(call.path, ids)
        backoff = Backoff(self.retry_seconds)
        while True:
            try:
                response = await self.client.request(call.method, path, json=body, params=query, headers=headers)
            except httpx2.TransportError as error:
                if not await backoff.wait():
                    raise Unreachable(f"{call.method} {self.client.base_url}{path.lstrip('/')}: {error!r}") from error
            else:
                if response.status_code < 300:
                    return response
                refused = refusal(response)
                if refused.status not in AGAIN or not await backoff.wait(refused.retry_after):
                    raise refused


def filled(path: str, ids: Mapping[str, str]) -> str:
    return path.format_map({name: quote(value, safe="") for name, value in ids.items()})


def refusal(response: httpx2.Response) -> ApiError:
    """Also of an answer that is none of the gateway's own, such as a proxy's page."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"detail": response.text[:300], "instance": response.url.path}
    told = response.headers.get("Retry-After", "")
    return api_error(response.status_code, problem, float(told) if told.isdecimal() else None)


def given(**fields: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in fields.items() if value is not None}
