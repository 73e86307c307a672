"""Steps that are HTTP calls: what they may reach, what they send, what they give."""

import asyncio
import ipaddress
from typing import Any

import orjson
import pytest
from handrail_agent_runner.agents.addresses import allowed, resolve
from handrail_agent_runner.agents.api_call import ApiCall
from handrail_agent_runner.agents.base import AgentFailure, Progress
from handrail_runtime.settings import Settings
from unit.agent_runner.builders import SETTINGS, answer, http_server, request

STRICT = Settings(allow_private_networks=False, result_limit_bytes=10_000)


async def call(settings: Settings = SETTINGS, **wish: Any) -> Any:
    agent = ApiCall(settings)
    try:
        return await agent.execute(request(kind="api_call", input=wish), Progress(lambda kind, data: None))
    finally:
        await agent._client.aclose()


async def refused(settings: Settings = SETTINGS, **wish: Any) -> AgentFailure:
    with pytest.raises(AgentFailure) as failed:
        await call(settings, **wish)
    return failed.value


async def test_a_call_sends_its_headers_but_not_those_that_belong_to_the_connection() -> None:
    seen: list[Any] = []

    def handler(line: str, headers: dict[str, str], body: bytes) -> bytes:
        seen.extend((line, headers, body))
        return answer(201, b'{"id": 7}', "content-type: application/json", "etag: x", "set-cookie: secret")

    async with http_server(handler) as url:
        name = url.replace("127.0.0.1", "localhost")
        sent = {"Host": "evil.example", "Content-Length": "1", "X-Own": "1", "Content-Type": "application/x+json"}
        output = await call(url=f"{name}/things?a=b", method="PUT", body={"q": 1}, headers=sent)
    line, headers, body = seen
    assert line == "PUT /things?a=b HTTP/1.1"
    assert (headers["host"], headers["x-own"], headers["idempotency-key"]) == (name[len("http://") :], "1", "r1")
    assert (headers["content-type"], orjson.loads(body)) == ("application/x+json", {"q": 1})
    assert output == {"status": 201, "headers": {"content-type": "application/json", "etag": "x"}, "body": {"id": 7}}


async def test_text_comes_back_as_text_and_nothing_as_none() -> None:
    async with http_server(lambda *_: answer(body=b"plain")) as url:
        assert (await call(url=url))["body"] == "plain"
    async with http_server(lambda *_: answer(204, b"")) as url:
        assert (await call(url=url))["body"] is None


async def test_a_redirect_is_not_followed() -> None:
    async with http_server(lambda *_: answer(302, b"", "location: http://169.254.169.254/")) as url:
        output = await call(url=url, expected_status=[302])
    assert output["headers"]["location"] == "http://169.254.169.254/"


@pytest.mark.parametrize(
    ("status", "expected", "code", "retryable"),
    [
        (500, [], "TOOL_ERROR", True),
        (429, [], "RATE_LIMIT", True),
        (404, [], "VALIDATION_ERROR", False),
        (200, [201], "VALIDATION_ERROR", False),
    ],
)
async def test_an_unexpected_status_fails_the_step(
    status: int, expected: list[int], code: str, retryable: bool
) -> None:
    async with http_server(lambda *_: answer(status)) as url:
        failure = await refused(url=url, expected_status=expected)
    assert (failure.info.code, failure.info.retryable) == (code, retryable)


async def test_too_large_a_body_is_cut_off() -> None:
    async with http_server(lambda *_: answer(200, b"x" * 10_001)) as url:
        assert (await refused(url=url)).info.code == "RESULT_TOO_LARGE"


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"url": "file:///etc/passwd"},
        {"url": "gopher://x/"},
        {"url": "http://"},
        {"url": "http://[::bad/"},
        {"url": "http://h/", "headers": 5},
        {"url": "http://h/", "expected_status": "ok"},
    ],
)
async def test_what_is_no_call_is_refused_for_good(wish: dict[str, Any]) -> None:
    failure = await refused(**wish)
    assert (failure.info.code, failure.info.retryable) == ("VALIDATION_ERROR", False)


NEVER = [
    "169.254.169.254", "169.254.0.1", "100.100.100.200", "168.63.129.16", "0.0.0.0", "224.0.0.1", "255.255.255.255",
    "240.0.0.1", "::", "fe80::1", "ff02::1", "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
]  # fmt: skip
PRIVATE = [
    "127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd12::1",
    "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
]  # fmt: skip
PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:4700::1111"]


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_never_called(address: str) -> None:
    assert not allowed(ipaddress.ip_address(address), private=True)
    assert not allowed(ipaddress.ip_address(address), private=False)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_networks_only_if_settings_allow(address: str) -> None:
    assert allowed(ipaddress.ip_address(address), private=True)
    assert not allowed(ipaddress.ip_address(address), private=False)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_called(address: str) -> None:
    assert allowed(ipaddress.ip_address(address), private=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1"])
async def test_every_spelling_of_this_machine_is_refused_where_private_networks_are(host: str) -> None:
    failure = await refused(STRICT, url=f"http://{host}:9/")
    assert failure.info.code == "VALIDATION_ERROR"
    assert "where no step may call" in failure.info.message


async def test_one_bad_address_among_good_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(*_: Any, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", (number, 80)) for number in ("93.184.216.34", "10.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found, raising=False)
    with pytest.raises(AgentFailure, match=r"10\.0\.0\.1"):
        await resolve("two.example", 80, private=False)
    assert str(await resolve("two.example", 80, private=True)) == "93.184.216.34"
