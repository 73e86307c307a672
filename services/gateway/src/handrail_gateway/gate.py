"""The outermost layers, as plain ASGI: who may come in, and what a body may look like. Nothing passes by default."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handrail_gateway.channels.upgrade import with_credentials
from handrail_gateway.identity.authenticator import Authenticator
from handrail_gateway.identity.limits import Headers
from handrail_gateway.identity.refusals import tell
from handrail_gateway.identity.rights import CALLER, OPEN
from handrail_gateway.identity.signatures import check_body
from handrail_gateway.problems import Problem, invalid

OPEN_PATHS = frozenset(path for path in OPEN if "{" not in path)
"""Everything that answers without a credential. Compared for equality, so no other path can look like one of these."""

HOOKS, LINKS = "/hooks/", "/decide/"
"""Webhooks and decision links carry no token of ours: their own routes check address and signature, and know no caller."""

MAX_BODY_BYTES = 1024 * 1024
MAX_JSON_DEPTH = 64
FORM = b"application/x-www-form-urlencoded"
LONG_NUMBER = re.compile(rb"\d{19}")
JSON_TYPES = (b"application/json", b"application/a2a+json")


class Gate:
    """Authenticates every request but those for `OPEN_PATHS` and webhooks, before anything of it is parsed."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self.app, self.authenticator = app, authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            scope["headers"] = with_credentials(scope["headers"], scope["query_string"])
        elif scope["type"] != "http":
            return
        if scope["path"] in OPEN_PATHS or scope["path"].startswith((HOOKS, LINKS)):
            await self.app(scope, receive, send)
            return
        if CALLER in scope:  # from a route of this process, for a caller that was let in there; no client can write it
            await self.app(scope, receive, send)
            return
        try:
            caller = scope[CALLER] = await self.authenticator.caller(scope)
            headers = self.authenticator.limits.take(caller)
        except Problem as problem:
            tell(problem, scope.get("method", "WS"))
            await problem.response(scope["path"])(scope, receive, send)
            return
        if caller.key_id is not None and scope["type"] == "http":
            receive = _until(self.authenticator.keys.ended(caller), receive)
        await self.app(scope, receive, _with(headers, send) if headers else send)


def _with(headers: Headers, send: Send) -> Send:
    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *headers]
        await send(message)

    return told


def _until(ended: asyncio.Event, receive: Receive) -> Receive:
    """Once the body is there, a caller whose key has ended is as one who has left: streams end."""
    whole, gone = False, {"type": "http.disconnect"}

    async def received() -> Message:
        nonlocal whole
        if not whole:
            message = await receive()
            whole = not message.get("more_body", False)
            return message
        leaving = [asyncio.ensure_future(receive()), asyncio.ensure_future(ended.wait())]
        try:
            await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)
            return gone if ended.is_set() else leaving[0].result()  # type: ignore[return-value]
        finally:
            for task in leaving:
                task.cancel()

    return received


class BodyGuard:
    """Reads the body, at most 1 MiB of it, and lets only strict JSON of bounded depth through."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        try:
            body = await _read(scope, receive)
            if body is None:
                return
            check_body(scope, body)
            if body:
                _check(scope, body)
        except Problem as problem:
            await problem.response(scope["path"])(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)


async def _read(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body; None if the client left before its end."""
    too_large = Problem(413, "BODY_TOO_LARGE", f"A body may have {MAX_BODY_BYTES} bytes.")
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value) > MAX_BODY_BYTES):
            raise too_large
        if name == b"content-encoding" and value != b"identity":
            raise Problem(415, "UNSUPPORTED_MEDIA_TYPE", "A compressed body is not accepted.")
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > MAX_BODY_BYTES:
            raise too_large
        if not message.get("more_body", False):
            return b"".join(chunks)


def _check(scope: Scope, body: bytes) -> None:
    kind = (
        next((value for name, value in scope["headers"] if name == b"content-type"), b"").split(b";")[0].strip().lower()
    )
    if kind == FORM and scope["path"].startswith(LINKS):
        return
    if kind not in JSON_TYPES:
        raise Problem(415, "UNSUPPORTED_MEDIA_TYPE", "The body must be sent as `Content-Type: application/json`.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(f"The body is not JSON: {error}") from None
    check_value(value, nul=b"\\u0000" in body)
    if LONG_NUMBER.search(body):
        json.loads(body, parse_int=_whole)


def _whole(digits: str) -> int:
    """Not more than 64 bits: half of those who read it would make a float of it, the others fail."""
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64:
        raise invalid(f"The body has a whole number of more than 64 bits, {digits[:30]}: send it as a text.")
    return int(digits)


def check_value(value: Any, *, nul: bool) -> None:
    """Raises a 422 `Problem` for JSON that is nested too deeply; with `nul`, which may be in it, also for such a text."""
    for depth, level in enumerate(_levels(value)):
        if depth >= MAX_JSON_DEPTH and any(isinstance(item, (dict, list)) for item in level):
            raise invalid(f"The body is nested deeper than {MAX_JSON_DEPTH} levels.")
        if nul and any(_has_nul(item) for item in level):
            raise invalid("The body has a text with a NUL character (\\u0000), which cannot be stored.")


def _levels(value: Any) -> Iterator[list[Any]]:
    """The values of a JSON document, level by level: no recursion, so no depth can hurt."""
    level = [value]
    while level:
        yield level
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]


def _has_nul(item: Any) -> bool:
    return (isinstance(item, str) and "\0" in item) or (isinstance(item, dict) and any("\0" in key for key in item))


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
