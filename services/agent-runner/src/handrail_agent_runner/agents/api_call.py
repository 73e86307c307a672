"""Steps that are HTTP calls themselves."""

from typing import Any

import httpx2
import orjson
from handrail_contracts.codec import first_mistake
from handrail_contracts.steps import StepRequested
from handrail_contracts.tracing import traceparent
from handrail_runtime.settings import Settings
from pydantic import BaseModel, ValidationError

from handrail_agent_runner.agents.addresses import resolve
from handrail_agent_runner.agents.base import AgentFailure, Progress
from handrail_agent_runner.agents.http import header_text, read_limited

KEPT_HEADERS = ("content-type", "etag", "location", "retry-after", "x-request-id")
OWN_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "upgrade"})


class Call(BaseModel):
    """The input of such a step."""

    method: str = "GET"
    url: str
    headers: dict[str, str] = {}
    body: Any = None
    expected_status: list[int] = []


class ApiCall:
    """Resolves once, checks, connects to what it checked; redirects are answers, not orders.

    Connections are not kept: one that was verified for a name must not carry a call to another name at that address.
    """

    inline = None

    def __init__(self, settings: Settings) -> None:
        self._limit, self._private = settings.result_limit_bytes, settings.allow_private_networks
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(300.0, connect=5.0),
            follow_redirects=False,
            trust_env=False,
            limits=httpx2.Limits(max_keepalive_connections=0),
        )

    async def execute(self, request: StepRequested, progress: Progress) -> Any:
        call = _call_of(request)
        content = None if call.body is None else orjson.dumps(call.body)
        return await self.send(call, content, _headers(call, request, content))

    async def send(self, call: Call, content: bytes | None, headers: dict[str, str]) -> Any:
        """Status, headers and body of an answer that was to be expected. Raises `AgentFailure` for any other, and for none."""
        name, target = await self._checked(call.url)
        headers = {**headers, "host": name.netloc.decode("ascii"), "accept-encoding": "identity"}
        try:
            async with self._client.stream(
                call.method, target, content=content, headers=headers, extensions={"sni_hostname": name.host}
            ) as response:
                answer = await read_limited(response, self._limit, call.url)
        except httpx2.TimeoutException as error:
            raise AgentFailure("TIMEOUT", f"{call.url} did not answer in time", retryable=True) from error
        except httpx2.HTTPError as error:
            message = f"{call.url} can't be reached: {error or type(error).__name__}"
            raise AgentFailure("TOOL_ERROR", message, retryable=True) from error
        return _output(call, response, answer)

    async def _checked(self, text: str) -> tuple[httpx2.URL, httpx2.URL]:
        """The address as it was given, and the same with a checked number in place of the name."""
        try:
            url = httpx2.URL(text)
        except (httpx2.InvalidURL, ValueError) as error:
            raise AgentFailure("VALIDATION_ERROR", f"{text[:200]!r} is no address: {error}", retryable=False) from error
        if url.scheme not in ("http", "https") or not url.host:
            message = f"{text[:200]!r}: only http and https can be called"
            raise AgentFailure("VALIDATION_ERROR", message, retryable=False)
        address = await resolve(url.host, url.port or (443 if url.scheme == "https" else 80), self._private)
        return url, url.copy_with(host=str(address))


def _call_of(request: StepRequested) -> Call:
    try:
        return Call.model_validate(request.input)
    except ValidationError as error:
        place, why = first_mistake(error)
        message = f"step {request.step_id} is no HTTP call: {place or 'input'}: {why}"
        raise AgentFailure("VALIDATION_ERROR", message, retryable=False) from error


def _headers(call: Call, request: StepRequested, content: bytes | None) -> dict[str, str]:
    headers = {
        "idempotency-key": header_text(request.run_id),
        "traceparent": traceparent(request.execution_id, request.event_id),
    }
    if content is not None:
        headers["content-type"] = "application/json"
    for header, value in call.headers.items():
        if header.lower() not in OWN_HEADERS:
            headers[header.lower()] = value
    return headers


def _output(call: Call, response: httpx2.Response, answer: bytes) -> Any:
    status = response.status_code
    if not (status in call.expected_status if call.expected_status else 200 <= status < 300):
        message = f"{call.method} {call.url} answered {status}: {answer[:300].decode('utf-8', 'replace')}"
        retryable = status >= 500 or status in (408, 429)
        code = "RATE_LIMIT" if status == 429 else "TOOL_ERROR" if retryable else "VALIDATION_ERROR"
        raise AgentFailure(code, message, retryable=retryable)
    try:
        body = orjson.loads(answer) if answer else None
    except orjson.JSONDecodeError:
        body = answer.decode("utf-8", "replace")
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    return {"status": status, "headers": headers, "body": body}
