"""Agents behind HTTP: `POST {url}/api/v1/execute`."""

import asyncio
from typing import Any
from urllib.parse import quote

import httpx2
import orjson
from handrail_contracts.steps import AgentRegistered, StepRequested
from handrail_contracts.tracing import traceparent
from handrail_runtime.settings import Settings

from handrail_agent_runner.agents.base import AgentFailure, Progress, refused

DEFAULT_TIMEOUT = 300.0


class HttpAgent:
    inline = None

    def __init__(self, name: str, url: str, headers: dict[str, str], timeout: float, limit: int) -> None:
        self._name, self._url, self._limit = name, url.rstrip("/") + "/api/v1/execute", limit
        self._timeout = timeout
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(timeout, connect=5.0),
            headers={**headers, "accept-encoding": "identity"},
            follow_redirects=False,
            trust_env=False,
            limits=httpx2.Limits(max_connections=200, max_keepalive_connections=50),
        )

    async def execute(self, request: StepRequested, progress: Progress) -> Any:
        body = request.model_dump_json(
            include={
                "agent", "input", "context", "execution_id", "workflow_id", "step_id", "run_id", "attempt",
                "session_id", "max_iterations",
            }
        )  # fmt: skip
        headers = {
            "content-type": "application/json",
            "Idempotency-Key": header_text(request.run_id),
            "X-Handrail-Execution-Id": header_text(request.execution_id),
            "X-Handrail-Step-Id": header_text(request.step_id),
            "traceparent": traceparent(request.execution_id, request.event_id),
            "X-Handrail-Attempt": str(request.attempt),
        }
        status, answer = await self._post(body.encode(), headers)
        self._check(status, answer)
        return self._output(answer)

    async def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream("POST", self._url, content=body, headers=headers) as response,
            ):
                return response.status_code, await read_limited(response, self._limit, f"agent {self._name}")
        except (httpx2.TimeoutException, TimeoutError) as error:
            message = f"agent {self._name} at {self._url} did not answer within {self._timeout:g} s"
            if isinstance(error, httpx2.ConnectTimeout):
                message = f"agent {self._name} at {self._url} can't be reached: no connection in time"
            raise AgentFailure("TIMEOUT", message, retryable=True) from error
        except httpx2.HTTPError as error:
            message = f"agent {self._name} at {self._url} can't be reached: {error or type(error).__name__}"
            raise AgentFailure("AGENT_ERROR", message, retryable=True) from error

    def _check(self, status: int, answer: bytes) -> None:
        if 200 <= status < 300:
            return
        said = answer[:300].decode("utf-8", "replace")
        message = f"agent {self._name} at {self._url} answered {status}: {said}"
        raise refused(status, message)

    def _output(self, answer: bytes) -> Any:
        try:
            parsed = orjson.loads(answer)
        except orjson.JSONDecodeError as error:
            message = f"agent {self._name} answered something that is not JSON: {answer[:100]!r}"
            raise AgentFailure("AGENT_ERROR", message, retryable=False) from error
        return parsed["output"] if isinstance(parsed, dict) and "output" in parsed else parsed


def header_text(value: str) -> str:
    """Ids are any text, header values are not: what does not fit is percent-encoded."""
    return value if value.isascii() and value.isprintable() and value == value.strip() else quote(value)


async def read_limited(response: httpx2.Response, limit: int, whose: str) -> bytes:
    """The body, or `RESULT_TOO_LARGE` as soon as it is longer than allowed. Nothing is unpacked: a small body may hide
    a huge one, and all requests ask for plain bodies."""
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        message = f"the answer of {whose} is compressed ({encoding}), which was not asked for"
        raise AgentFailure("AGENT_ERROR", message, retryable=False)
    received = bytearray()
    async for chunk in response.aiter_raw():
        received += chunk
        if len(received) > limit:
            message = f"the answer of {whose} is larger than {limit} bytes; pass large data by reference"
            raise AgentFailure("RESULT_TOO_LARGE", message, retryable=False)
    return bytes(received)


def make_http_agent(registered: AgentRegistered, settings: Settings) -> HttpAgent:
    url = registered.config.get("url")
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        message = f"agent {registered.agent} has no address: its config needs url, such as http://127.0.0.1:9000"
        raise AgentFailure("AGENT_ERROR", message, retryable=False)
    return HttpAgent(
        registered.agent,
        url,
        {str(name): str(value) for name, value in registered.config.get("headers", {}).items()},
        float(registered.config.get("timeout_seconds", DEFAULT_TIMEOUT)),
        settings.result_limit_bytes,
    )
