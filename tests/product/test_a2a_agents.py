"""Steps that are tasks of remote A2A agents, over HTTP from the workflow to the agent and back."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from chaos.conftest import PLANTED_KEY
from handrail.embedded.process import free_port
from handrail_contracts import topics
from support.a2a_server import RemoteAgent, parts_in, remote_agent
from support.logs import read_log

from product.conftest import Api, agent

Json = dict[str, Any]
BOTH = pytest.mark.parametrize("way", ["streaming", "polling"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def remote(api: Api) -> AsyncIterator[RemoteAgent]:
    async with remote_agent(free_port()) as found:
        for way in ("streaming", "polling", "elsewhere"):
            await register(api, found, way, way)
        yield found


async def register(api: Api, remote: RemoteAgent, name: str, way: str = "streaming", **config: Any) -> str:
    await api.put(f"/agents/a2a-{name}", {"kind": "a2a", "config": {"card_url": remote.card_url(way), **config}})
    return f"a2a-{name}"


async def ask(api: Api, name: str, given: Any, **options: Any) -> Json:
    return await api.run(agent("ask", does=f"a2a-{name}", input=given, **options))


async def told(api: Api, execution_id: str, topic: str = topics.STEP_PROGRESSED) -> list[Json]:
    """What the runner said of the execution."""
    bodies = [dict(record.json() or {}) for record in await read_log(api.platform.broker.bootstrap, topic)]
    return [body for body in bodies if body.get("execution_id") == execution_id]


@BOTH
@pytest.mark.parametrize(
    ("given", "output"),
    [
        ("echo hello", "echo hello"),
        ({"city": "Köln", "days": 3, "share": 0.5}, {"city": "Köln", "days": 3, "share": 0.5}),
        ([1, "two", None], [1, "two", None]),
        ({"id": 2**60 + 1}, {"id": 2**60 + 1}),
        ("chunks one two three", "one two three "),
        ("two three words here", ["three words here", {"words": 3}]),
        ("message by return", "by return"),
    ],
)
async def test_a_step_is_a_task_and_its_artifacts_are_the_output(
    api: Api, remote: RemoteAgent, way: str, given: Any, output: Any
) -> None:
    execution = await ask(api, way, given)
    assert (execution["status"], execution["result"]) == ("completed", output), execution["error"]


async def test_the_message_carries_the_step_runs_id_and_the_session(api: Api, remote: RemoteAgent) -> None:
    workflow_id = await api.workflow(agent("ask", does="a2a-streaming", input="echo who"))
    execution_id = await api.start(workflow_id, session_id="s-a2a")
    await api.ended(execution_id)
    [message] = remote.told("echo who")
    [answer] = await told(api, execution_id, topics.AGENT_EXECUTED)
    assert (message.message_id, message.context_id) == (answer["run_id"], "s-a2a")
    assert parts_in(message) == [{"text": "echo who"}]


async def test_words_and_states_are_told_as_they_come(api: Api, remote: RemoteAgent) -> None:
    chunks = await told(api, (await ask(api, "streaming", "chunks a b c"))["id"])
    assert [body["data"]["content"] for body in chunks if body["kind"] == "delta"] == ["a ", "b ", "c "]
    states = await told(api, (await ask(api, "streaming", "steps"))["id"])
    assert {"state": "working", "message": "I am at it."} in [body["data"] for body in states]


@BOTH
@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ("fail out of paper", "AGENT_ERROR", "failed: out of paper"),
        ("refuse not my job", "VALIDATION_ERROR", "was refused: not my job"),
        ("ask which city?", "AGENT_ERROR", "asks for an input, which a step can't give: which city?"),
        ("login first", "AGENT_ERROR", "asks for a credential, which a step can't give: first"),
        ("big", "RESULT_TOO_LARGE", "larger than"),
    ],
)
async def test_what_comes_to_nothing_has_a_code_and_says_why(
    api: Api, remote: RemoteAgent, way: str, given: str, code: str, said: str
) -> None:
    execution = await ask(api, way, given)
    assert (execution["status"], execution["error"]["code"]) == ("failed", code), execution["error"]
    assert said in execution["error"]["message"]


@BOTH
async def test_a_task_that_takes_too_long_is_cancelled_there(api: Api, remote: RemoteAgent, way: str) -> None:
    before = len(remote.cancelled)
    execution = await ask(api, way, "slow", timeout_seconds=1.5)
    assert execution["error"]["code"] == "TIMEOUT"
    await api.until(execution["id"], lambda _: len(remote.cancelled) > before)
    impatient = await register(api, remote, f"impatient-{way}", way, timeout_seconds=1)
    execution = await api.run(agent("ask", does=impatient, input="slow"))
    assert execution["error"]["code"] == "TIMEOUT"
    assert len(remote.cancelled) == before + 2


async def test_another_attempt_is_another_task_when_the_first_was_lost(api: Api, remote: RemoteAgent) -> None:
    retry = {"max_attempts": 2, "backoff_seconds": 0.05}
    execution = await ask(api, "streaming", "fail twice", retry=retry)
    assert (execution["status"], execution["steps"][0]["attempt"]) == ("failed", 2)
    assert len(remote.told("fail twice")) >= 2


async def test_the_credential_goes_to_the_cards_own_place_and_is_told_to_nobody(api: Api, remote: RemoteAgent) -> None:
    keyed = await register(api, remote, "keyed", header_env="PLANTED_MODEL_KEY")
    remote.credentials.clear()
    assert (await api.run(agent("ask", does=keyed, input="echo x")))["status"] == "completed"
    assert set(remote.credentials) == {PLANTED_KEY}
    remote.refuses = 401
    try:
        refused = await api.run(agent("ask", does=keyed, input="echo x"))
    finally:
        remote.refuses = 0
    assert refused["error"]["code"] == "VALIDATION_ERROR"
    assert "answered 401: not with ***" in refused["error"]["message"]
    elsewhere = await register(api, remote, "keyed-elsewhere", "elsewhere", header_env="PLANTED_MODEL_KEY")
    led_away = await api.run(agent("ask", does=elsewhere, input="echo x"))
    assert f"its credential is for {remote.url} only" in led_away["error"]["message"]


async def test_an_agent_that_is_not_there_is_told_as_such(api: Api, remote: RemoteAgent) -> None:
    gone = RemoteAgent(f"http://127.0.0.1:{free_port()}")
    execution = await api.run(agent("ask", does=await register(api, gone, "gone"), input="x"))
    assert execution["error"]["code"] == "AGENT_ERROR"
    assert execution["error"]["retryable"]
    lost = await ask(api, "elsewhere", "x")
    assert "elsewhere.invalid can't be resolved" in lost["error"]["message"]
    linked = RemoteAgent("http://169.254.169.254")
    kept_in = await api.run(agent("ask", does=await register(api, linked, "linked"), input="x"))
    assert "where no step may call" in kept_in["error"]["message"]
    others = await register(api, remote, "others", header_env="HANDRAIL_DATABASE_URL")
    told = (await api.run(agent("a", does=others)))["error"]["message"]
    assert "the variable HANDRAIL_DATABASE_URL is not for 127.0.0.1" in told


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "`config.card_url`: Field required"),
        ({"card_url": "ftp://x"}, "`config.card_url`"),
        ({"card_url": "http://x", "token": "secret"}, "`config.token`: Extra inputs"),
    ],
)
async def test_a_mistaken_registration_is_refused(api: Api, config: Json, said: str) -> None:
    problem = await api.put("/agents/a2a-wrong", {"kind": "a2a", "config": config}, 422)
    assert said in problem["errors"][0]["message"]
