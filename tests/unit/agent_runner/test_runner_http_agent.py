"""Agents behind HTTP: what they are sent, and what each of their answers means."""

from typing import Any

import orjson
import pytest
from handrail_agent_runner.agents.base import AgentFailure, Progress
from handrail_agent_runner.agents.http import make_http_agent
from unit.agent_runner.builders import SETTINGS, answer, http_server, registered, request


async def call(url: str, wish: Any = None, **config: Any) -> Any:
    agent = make_http_agent(registered("writer", "http", url=url, **config), SETTINGS)
    try:
        return await agent.execute(wish or request(agent="writer"), Progress(lambda kind, data: None))
    finally:
        await agent._client.aclose()


async def test_the_request_carries_the_step_and_its_idempotency_key() -> None:
    seen: list[Any] = []

    def handler(line: str, headers: dict[str, str], body: bytes) -> bytes:
        seen.extend((line, headers, orjson.loads(body)))
        return answer(body=b'{"output": {"text": "hello"}}')

    async with http_server(handler) as url:
        wish = request(agent="writer", attempt=2, step_id="schön schreiben", session_id="s1", max_iterations=4)
        assert await call(url, wish, headers={"X-Key": "k"}) == {"text": "hello"}
    line, headers, body = seen
    assert line == "POST /api/v1/execute HTTP/1.1"
    assert (headers["idempotency-key"], headers["x-handrail-execution-id"]) == ("r1", "ex-r1")
    assert (headers["x-handrail-attempt"], headers["x-key"]) == ("2", "k")
    assert headers["x-handrail-step-id"] == "sch%C3%B6n%20schreiben"
    expected = {"agent", "input", "context", "execution_id", "workflow_id", "step_id", "run_id", "attempt"}
    assert set(body) == expected | {"session_id", "max_iterations"}


@pytest.mark.parametrize(("body", "output"), [(b'{"a": 1}', {"a": 1}), (b"[1]", [1]), (b'{"output": null}', None)])
async def test_without_output_the_whole_body_counts(body: bytes, output: Any) -> None:
    async with http_server(lambda *_: answer(body=body)) as url:
        assert await call(url) == output


@pytest.mark.parametrize(
    ("said", "code", "retryable"),
    [
        (answer(500, b"out of memory"), "AGENT_ERROR", True),
        (answer(503), "AGENT_ERROR", True),
        (answer(429), "RATE_LIMIT", True),
        (answer(408), "TIMEOUT", True),
        (answer(422, b"no topic"), "VALIDATION_ERROR", False),
        (answer(302, b"", "location: http://127.0.0.1:1/"), "VALIDATION_ERROR", False),
        (answer(200, b"<html>"), "AGENT_ERROR", False),
        (answer(200, b"x" * 10_001), "RESULT_TOO_LARGE", False),
        (answer(200, b"bomb", "content-encoding: gzip"), "AGENT_ERROR", False),
        (None, "AGENT_ERROR", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf", "AGENT_ERROR", True),
        (b"not http at all\r\n\r\n", "AGENT_ERROR", True),
    ],
)
async def test_each_bad_answer_has_its_code(said: bytes | None, code: str, retryable: bool) -> None:
    async with http_server(lambda *_: said) as url:
        with pytest.raises(AgentFailure) as failed:
            await call(url)
    assert (failed.value.info.code, failed.value.info.retryable) == (code, retryable)
    assert "agent writer" in failed.value.info.message


async def test_an_agent_that_is_not_there_can_be_tried_again() -> None:
    async with http_server(lambda *_: None) as url:
        pass
    with pytest.raises(AgentFailure) as failed:
        await call(url)
    assert (failed.value.info.code, failed.value.info.retryable) == ("AGENT_ERROR", True)
    assert url in failed.value.info.message


async def test_the_agents_own_time_limit_counts_for_the_whole_call() -> None:
    async with http_server(lambda *_: b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n") as url:
        with pytest.raises(AgentFailure) as failed:
            agent = make_http_agent(registered("writer", "http", url=f"{url}", timeout_seconds=0.0001), SETTINGS)
            await agent.execute(request(), Progress(lambda kind, data: None))
    assert failed.value.info.code == "TIMEOUT"


@pytest.mark.parametrize("config", [{}, {"url": 7}, {"url": "ftp://somewhere"}])
def test_a_registration_without_an_address_says_what_it_needs(config: dict[str, Any]) -> None:
    with pytest.raises(AgentFailure, match="config needs url"):
        make_http_agent(registered("writer", "http", **config), SETTINGS)
