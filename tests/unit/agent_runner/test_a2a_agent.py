"""Remote A2A agents that misbehave, and what another attempt makes of what the last one left behind."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from handrail_agent_runner.agents import a2a_tasks
from handrail_agent_runner.agents.a2a import make_a2a_agent
from handrail_agent_runner.agents.base import AgentFailure, Progress
from handrail_runtime.settings import Settings
from unit.agent_runner.builders import SETTINGS, answer, http_server, registered, request

Json = dict[str, Any]
JSON = "content-type: application/json"
EVENTS = "content-type: text/event-stream"


def task(state: str, *texts: str, message: str = "") -> Json:
    status: Json = {"state": f"TASK_STATE_{state}"}
    if message:
        status["message"] = {"messageId": "said", "role": "ROLE_AGENT", "parts": [{"text": message}]}
    artifacts = [{"artifactId": str(n), "parts": [{"text": text}]} for n, text in enumerate(texts)]
    return {"id": "t1", "contextId": "c1", "status": status, "artifacts": artifacts}


def refusal(code: int, message: str = "no") -> Json:
    return {"error": {"code": code, "message": message}}


Reply = Json | bytes | None


@dataclass
class Remote:
    """Gives its card, then replies to calls in turn; a reply in bytes is the whole answer, None hangs up."""

    replies: list[Reply]
    streaming: bool = False
    calls: list[Json] = field(default_factory=list)
    card: Callable[[str], Json] | None = None
    url: str = ""

    def handle(self, line: str, headers: dict[str, str], body: bytes) -> bytes | None:
        if line.startswith("GET"):
            interface = {"url": f"{self.url}/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
            card = {"name": "r", "capabilities": {"streaming": self.streaming}, "supportedInterfaces": [interface]}
            return answer(200, orjson.dumps(self.card(self.url) if self.card else card), JSON)
        self.calls.append(orjson.loads(body))
        reply = self.replies.pop(0)
        if not isinstance(reply, dict):
            return reply
        return answer(200, orjson.dumps(self._enveloped(reply)), JSON)

    def _enveloped(self, reply: Json) -> Json:
        call = self.calls[-1]
        sending = call["method"].startswith("Send") and "error" not in reply
        result = reply if "error" in reply else {"result": {"task": reply} if sending else reply}
        return {"jsonrpc": "2.0", "id": call["id"], **result}

    @property
    def methods(self) -> list[str]:
        return [call["method"] for call in self.calls]

    @property
    def message_ids(self) -> list[str]:
        return [call["params"]["message"]["messageId"] for call in self.calls if call["method"].startswith("Send")]


async def ask(remote: Remote, settings: Settings = SETTINGS, config: Json | None = None, **wish: Any) -> Any:
    async with http_server(remote.handle) as url:
        remote.url = url
        agent = make_a2a_agent(registered("far", "a2a", card_url=f"{url}/card.json", **(config or {})), settings)
        return await agent.execute(request(agent="far", **wish), Progress(lambda kind, data: None))


async def failure(remote: Remote, **options: Any) -> tuple[str, bool, str]:
    with pytest.raises(AgentFailure) as failed:
        await ask(remote, **options)
    return failed.value.info.code, failed.value.info.retryable, failed.value.info.message


def event(task: Json) -> bytes:
    return b"data: " + orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": {"task": task}}) + b"\n\n"


async def test_a_task_that_is_under_way_is_asked_for_until_it_ends() -> None:
    remote = Remote([task("SUBMITTED"), task("WORKING"), task("COMPLETED", "done")])
    assert await ask(remote) == "done"
    assert remote.methods == ["SendMessage", "GetTask", "GetTask"]
    assert remote.calls[0]["params"]["configuration"]["returnImmediately"]


@pytest.mark.parametrize("cut", [0, 3])
async def test_a_stream_that_breaks_is_followed_by_asking(cut: int) -> None:
    streamed = answer(200, event(task("WORKING")), EVENTS)
    broken = streamed.replace(b"content-length: ", b"content-length: 9") if cut else streamed
    remote = Remote([broken, task("COMPLETED", "done")], streaming=True)
    assert await ask(remote) == "done"
    assert remote.methods == ["SendStreamingMessage", "GetTask"]


async def test_lost_answers_on_the_way_are_asked_for_again() -> None:
    remote = Remote([task("WORKING"), None, answer(503), refusal(-32603), task("COMPLETED", "done")])
    assert await ask(remote) == "done"


async def test_an_agent_that_is_lost_for_long_fails_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(a2a_tasks, "LONGEST_POLL", 0.01)
    remote = Remote([task("WORKING"), *[None] * a2a_tasks.LOST_POLLS, task("CANCELED")])
    code, retryable, _ = await failure(remote)
    assert (code, retryable) == ("AGENT_ERROR", True)
    assert remote.methods[-1] == "CancelTask"


async def test_a_second_attempt_takes_up_what_the_first_one_left_running() -> None:
    remote = Remote([task("WORKING"), task("COMPLETED", "done")])
    assert await ask(remote, attempt=2) == "done"
    assert remote.message_ids == ["r1"]


@pytest.mark.parametrize("before", [task("FAILED"), task("CANCELED"), task("REJECTED"), refusal(-32602)])
async def test_a_second_attempt_is_a_new_task_when_the_first_is_dead(before: Json) -> None:
    remote = Remote([before, task("COMPLETED", "done")])
    assert await ask(remote, attempt=2) == "done"
    assert remote.message_ids == ["r1", "r1:2"]


async def test_an_attempt_that_was_cut_off_begins_again_under_another_id() -> None:
    remote = Remote([task("CANCELED"), task("COMPLETED", "done")])
    assert await ask(remote) == "done"
    first, second = remote.message_ids
    assert first == "r1"
    assert second.startswith("r1:")


async def test_a_task_that_fails_at_once_is_not_sent_twice() -> None:
    remote = Remote([task("FAILED", message="out of paper")])
    assert await failure(remote) == ("AGENT_ERROR", True, "the task t1 of agent far failed: out of paper")
    assert remote.methods == ["SendMessage"]


async def test_what_an_attempt_leaves_open_is_cancelled() -> None:
    remote = Remote([task("INPUT_REQUIRED", message="where to?"), task("CANCELED")])
    code, retryable, said = await failure(remote)
    assert (code, retryable) == ("AGENT_ERROR", False)
    assert said.endswith("asks for an input, which a step can't give: where to?")
    assert remote.methods == ["SendMessage", "CancelTask"]


async def test_an_agent_may_wait_for_somebody_elses_input() -> None:
    remote = Remote([task("INPUT_REQUIRED"), task("INPUT_REQUIRED"), task("COMPLETED", "done")])
    assert await ask(remote, config={"wait_for_input": True}) == "done"


@pytest.mark.parametrize(
    ("reply", "code", "retryable"),
    [
        (answer(429), "RATE_LIMIT", True),
        (answer(503, b"later"), "AGENT_ERROR", True),
        (answer(403), "VALIDATION_ERROR", False),
        (answer(302, b"", "location: http://127.0.0.1:1/"), "VALIDATION_ERROR", False),
        (answer(200, b"<html>", JSON), "AGENT_ERROR", False),
        (answer(200, b"[]", JSON), "AGENT_ERROR", False),
        (answer(200, b'{"jsonrpc": "2.0", "id": 1, "result": {"task": 7}}', JSON), "AGENT_ERROR", False),
        (answer(200, b'{"jsonrpc": "2.0", "id": 1, "result": {}}', JSON), "AGENT_ERROR", False),
        (answer(200, b"bomb", JSON, "content-encoding: gzip"), "AGENT_ERROR", False),
        (answer(200, b"x" * 200_000, JSON), "RESULT_TOO_LARGE", False),
        (None, "AGENT_ERROR", True),
        (b"not http\r\n\r\n", "AGENT_ERROR", True),
        (refusal(-32603, "oops"), "AGENT_ERROR", True),
        (refusal(-32004, "not mine"), "VALIDATION_ERROR", False),
    ],
)
async def test_each_bad_answer_has_its_code(reply: Reply, code: str, retryable: bool) -> None:
    found, may_pass, said = await failure(Remote([reply, reply]))
    assert (found, may_pass) == (code, retryable), said


async def test_one_event_of_a_stream_is_bounded_and_the_stream_is_not() -> None:
    many = b"".join(event(task("WORKING", message=str(n) * 50)) for n in range(1000))
    assert len(many) > 16 * SETTINGS.result_limit_bytes
    remote = Remote([answer(200, many + event(task("COMPLETED", "done")), EVENTS)], streaming=True)
    assert await ask(remote) == "done"
    endless = answer(200, b"data: " + b"x" * 200_000, EVENTS)
    assert (await failure(Remote([endless], streaming=True)))[0] == "RESULT_TOO_LARGE"


async def test_an_output_is_bounded() -> None:
    remote = Remote([task("COMPLETED", "x" * (SETTINGS.result_limit_bytes + 1))])
    assert (await failure(remote))[0] == "RESULT_TOO_LARGE"


async def test_private_places_are_called_only_where_settings_allow() -> None:
    strict = SETTINGS.model_copy(update={"allow_private_networks": False})
    code, _, said = await failure(Remote([]), settings=strict)
    assert (code, "where no step may call" in said) == ("VALIDATION_ERROR", True)


@pytest.mark.parametrize("url", ["http://elsewhere.example", "https://127.0.0.1", "http://127.0.0.1:1", ""])
async def test_a_credential_follows_no_card_to_another_place(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAR_TOKEN", "Bearer do-not-tell")
    interface = {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
    remote = Remote([], card=lambda _: {"name": "r", "supportedInterfaces": [interface]})
    code, _, said = await failure(remote, config={"header_env": "FAR_TOKEN"})
    assert (code, "but its credential is for http://127.0.0.1:" in said) == ("VALIDATION_ERROR", True)


async def test_a_credential_that_is_repeated_to_us_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAR_TOKEN", "Bearer do-not-tell")
    remote = Remote([task("FAILED", message="I know do-not-tell")])
    _, _, said = await failure(remote, config={"header_env": "FAR_TOKEN"})
    assert said.endswith("failed: I know ***")


@pytest.mark.parametrize(
    "card", [{}, {"supportedInterfaces": 7}, {"supportedInterfaces": [{"url": "x", "protocolBinding": "GRPC"}]}]
)
async def test_a_card_that_is_none_is_final(card: Json) -> None:
    code, retryable, _ = await failure(Remote([], card=lambda _: card))
    assert (code, retryable) == ("AGENT_ERROR", False)
