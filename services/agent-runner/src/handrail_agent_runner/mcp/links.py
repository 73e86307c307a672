"""Roads to servers: HTTP that connects only to checked addresses and never brings a client down, or a command's pipes."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
import orjson
from handrail_contracts.agents import McpServerConfig
from handrail_runtime.secrets import SecretRefused, masked, secret
from handrail_runtime.settings import Settings

from handrail_agent_runner.agents.addresses import resolve
from handrail_agent_runner.agents.base import AgentFailure

if TYPE_CHECKING:  # see Session
    from mcp import MCPError
    from mcp.client._transport import TransportStreams

UNREACHABLE, LOST, REFUSED, BUSY = -32090, -32091, -32092, -32093
"""JSON-RPC errors of our own: nothing was sent; nobody knows what became of it; the server's HTTP said no, or not now."""
CONNECTION_CLOSED, INVALID_REQUEST = -32000, -32600
GONE = frozenset({UNREACHABLE, CONNECTION_CLOSED})
MOST_BYTES = 4 * 1024 * 1024
CONNECT_SECONDS = 5.0
SHORTEST_SECRET = 4


def is_forgotten(error: "MCPError") -> bool:
    """Whether the server has forgotten the session, as after a restart: it has not done what it was asked."""
    return error.code == INVALID_REQUEST and error.message == "Session terminated"


@dataclass(frozen=True, slots=True)
class Secrets:
    """The values that a server's configuration refers to. Whoever tells anything of the server has them masked."""

    headers: Mapping[str, str]
    env: Mapping[str, str]

    @property
    def _all(self) -> set[str]:
        whole = {*self.headers.values(), *self.env.values()}
        return whole | {secret.removeprefix("Bearer ") for secret in whole}

    def masked(self, value: Any) -> Any:
        """The JSON value without them."""
        if isinstance(value, str):
            return masked(value, self._all, SHORTEST_SECRET)
        if isinstance(value, list):
            return [self.masked(inner) for inner in value]
        if isinstance(value, dict):
            return {self.masked(name): self.masked(inner) for name, inner in value.items()}
        return value


def secrets_of(config: McpServerConfig, settings: Settings, *, trusted: bool) -> Secrets:
    """Reads the runner's environment. Raises `AgentFailure` for a variable that is not there, or not for this server."""
    try:
        names = {**config.headers_env, **({"Authorization": config.token_env} if config.token_env else {})}
        read = {name: secret(variable, config.url or "", settings, trusted=trusted) for name, variable in names.items()}
        env = {name: secret(variable, "", settings, trusted=trusted) for name, variable in config.env.items()}
    except SecretRefused as error:
        raise AgentFailure("VALIDATION_ERROR", str(error), retryable=False) from error
    if config.token_env:
        read["Authorization"] = f"Bearer {read['Authorization']}"
    return Secrets(read, env)


@asynccontextmanager
async def link(config: McpServerConfig, secrets: Secrets, settings: Settings) -> "AsyncIterator[TransportStreams]":
    """What a client of the SDK speaks over."""
    if config.transport == "stdio":
        from mcp.client.stdio import StdioServerParameters, stdio_client

        command, *arguments = config.command
        async with stdio_client(StdioServerParameters(command=command, args=arguments, env=dict(secrets.env))) as pipes:
            yield pipes
        return
    from mcp.client.streamable_http import streamable_http_client

    async with (
        httpx2.AsyncClient(
            transport=Checked(settings.allow_private_networks),
            headers={**secrets.headers, "accept-encoding": "identity"},
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
            trust_env=False,
        ) as client,
        streamable_http_client(str(config.url), http_client=client, max_sse_event_size=MOST_BYTES) as streams,
    ):
        yield streams


class Checked(httpx2.AsyncBaseTransport):
    """Resolves once, checks, connects to what it checked. What goes wrong with a message is its JSON-RPC answer."""

    def __init__(self, private: bool) -> None:
        self._private = private
        self._inner = httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_connections=100, max_keepalive_connections=10))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method != "POST":
            return await self._send(request)
        try:
            return await _whole(await self._send(request))
        except AgentFailure as failure:
            return _error(UNREACHABLE, failure.info.message)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            return _error(UNREACHABLE, f"{request.url.host} can't be reached: {error or type(error).__name__}")
        except httpx2.HTTPError as error:
            return _error(LOST, f"the connection to {request.url.host} broke: {error or type(error).__name__}")

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        address = await resolve(url.host, url.port or (443 if url.scheme == "https" else 80), self._private)
        request.extensions = {**request.extensions, "sni_hostname": url.host}
        if request.method == "DELETE":  # a farewell, which nobody waits for long
            request.extensions["timeout"] = httpx2.Timeout(CONNECT_SECONDS).as_dict()
        request.url = url.copy_with(host=str(address))
        try:
            return await self._inner.handle_async_request(request)
        finally:
            request.url = url

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _whole(response: httpx2.Response) -> httpx2.Response:
    """An answer that is read and of decent size, unless it is a stream of events; a refusal as a JSON-RPC error."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if response.headers.get("content-encoding", "identity") != "identity":
        await response.aclose()
        return _error(REFUSED, "the server compressed its answer, which was not asked for")
    if response.status_code < 400 and kind == "text/event-stream":
        return response
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MOST_BYTES:
            await response.aclose()
            return _error(LOST, f"the server answered more than {MOST_BYTES} bytes")
    await response.aclose()
    status = response.status_code
    if status >= 400 and status != 404 and not _is_message(bytes(body)):
        code = BUSY if status == 429 else LOST if status >= 500 or status == 408 else REFUSED
        return _error(code, f"the server answered {status}: {body[:300].decode('utf-8', 'replace')}")
    return httpx2.Response(status, headers=_plain(response.headers), content=bytes(body))


def _is_message(body: bytes) -> bool:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and "jsonrpc" in found


def _plain(headers: httpx2.Headers) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name not in ("content-length", "transfer-encoding")]


def _error(code: int, message: str) -> httpx2.Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return httpx2.Response(502, headers={"content-type": "application/json"}, content=orjson.dumps(body))
