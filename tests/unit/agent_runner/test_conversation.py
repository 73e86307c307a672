"""Conversations that a runner takes over: nothing is told twice, nothing is called twice."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from handrail_agent_runner import conversation as module
from handrail_agent_runner.agents import AgentFailure
from handrail_agent_runner.agents.base import Progress
from handrail_agent_runner.agents.llm import make_llm_agent
from handrail_agent_runner.attempt import carry_out
from handrail_agent_runner.conversation import Conversation, ConversationLog, Found, Overtaken
from handrail_agent_runner.tools import Tool
from handrail_contracts.envelope import utc
from handrail_contracts.steps import AgentAdvanced, StepProgressed, StepRequested, ToolAsked, ToolResult
from handrail_runtime.settings import Settings
from unit.agent_runner.builders import registered, request, toolbox
from unit.agent_runner.test_llm_agent import Models, serving

Json = dict[str, Any]
ONCE = ToolAsked(call_id="c1", tool="charge", repeatable=False)
AGAIN = ToolAsked(call_id="c2", tool="count", repeatable=True)


class Log:
    """What was said, in order; `meanwhile` is what somebody else says just before our next word."""

    def __init__(self, *messages: Found) -> None:
        self.messages: list[Found] = list(messages)
        self.meanwhile: list[Found] = []

    async def say(self, message: AgentAdvanced, partition: int) -> None:
        self.messages += [*self.meanwhile, message]
        self.meanwhile = []

    async def read(self, wish: StepRequested) -> AsyncIterator[Found]:
        for message in self.messages:
            yield message

    def turns(self) -> tuple[Any, ...]:
        found = Conversation(request(), self, taken_over=True)  # type: ignore[arg-type]
        return found.turns


def taken_over(log: Log, wish: StepRequested | None = None) -> Conversation:
    return Conversation(wish or request(), log, taken_over=True)  # type: ignore[arg-type]


def delta(index: int, content: str, at: int, turn: int = 0) -> StepProgressed:
    wish = request()
    return StepProgressed(
        event_id=f"p{index}", occurred_at=utc(0), execution_id="e", workflow_id="w", step_id=wish.step_id,
        run_id=wish.run_id, attempt=1, kind="delta", index=index, data={"content": content, "turn": turn, "at": at},
    )  # fmt: skip


async def test_what_does_not_fit_into_a_record_is_a_failure_and_never_sent() -> None:
    sent: list[Any] = []

    def publish(parcels: list[Any], arrived: Any) -> None:
        sent.extend(parcels)
        arrived()

    log = ConversationLog(Settings(), publish)
    conversation = Conversation(request(), log)

    class Verbose:
        async def wait_for(self, wish: StepRequested) -> Any:
            return self

        async def execute(self, wish: StepRequested, progress: Progress) -> Any:
            await conversation.asked({"text": "a"}, (AGAIN,), [])
            await conversation.gave(0, ToolResult(call_id="c2", content="x" * 1_000_000))

    outcome = await carry_out(Verbose(), request(), Progress(lambda kind, data: None))  # type: ignore[arg-type]
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.retryable, len(sent)) == ("RESULT_TOO_LARGE", False, 1)


async def test_who_takes_over_knows_what_was_asked_and_given() -> None:
    log, before = Log(), Conversation(request())
    before = taken_over(log)
    await before.asked({"text": "a"}, (ONCE, AGAIN), [])
    await before.gave(0, ToolResult(call_id="c1", content=1))
    after = taken_over(log)
    await after.resume()
    assert after.turns == before.turns
    assert after.turns[0].open() == (AGAIN,)


async def test_who_is_second_does_not_call_what_must_not_be_called_twice() -> None:
    log, one, other = Log(), taken_over(Log()), Log()
    await taken_over(other).asked({"text": "the other's"}, (ONCE,), [])
    log.meanwhile = other.messages
    one = taken_over(log)
    with pytest.raises(Overtaken):
        await one.asked({"text": "mine"}, (ONCE,), [])
    log.meanwhile = []
    harmless = taken_over(Log(*other.messages))
    await harmless.asked({"text": "mine"}, (AGAIN,), [])


async def test_the_outcome_of_anothers_call_is_waited_for_and_else_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTCOME_SECONDS", 0.01)
    log = Log()
    first = taken_over(log)
    await first.asked({"text": "a"}, (ONCE, AGAIN), [])
    second = taken_over(log)
    await second.resume()
    assert await second.outcome_is_unknown(0, ONCE)
    assert not await second.outcome_is_unknown(0, AGAIN)
    assert not await first.outcome_is_unknown(0, ONCE), "it has only just asked for it"
    await first.gave(0, ToolResult(call_id="c1", content="late"))
    assert not await second.outcome_is_unknown(0, ONCE)
    assert second.turns[0].results[0].content == "late"


class Charging:
    """A tool that must not be called twice."""

    inline = None

    def __init__(self) -> None:
        self.charged: list[Json] = []

    async def execute(self, wish: StepRequested, progress: Progress) -> str:
        self.charged.append(wish.input)
        return "paid"


async def run(models: Models, log: Log, charging: Charging, wish: StepRequested) -> tuple[Any, list[tuple[str, Json]]]:
    settings = Settings(offline_model_url=f"{models.url}/v1")
    tools = toolbox(settings)
    tools._made["charge"] = Tool("Charges.", {"type": "object"}, False, charging)
    agent = make_llm_agent(registered("writer", "llm", model="offline:m", tools=["charge"]), settings, tools)
    told: list[tuple[str, Json]] = []
    try:
        progress = Progress(lambda kind, data: told.append((kind, data)), taken_over(log, wish))
        return await agent.execute(wish, progress), told
    finally:
        await agent.close()


async def test_a_model_is_not_asked_again_for_what_it_has_said() -> None:
    async with serving() as models:
        charging, log, wish = Charging(), Log(), request(agent="writer", input="Charge 5")
        call = {"name": "charge", "arguments": {"amount": 5}}
        await models.script({"tool_calls": [call]}, {"status": 500})
        with pytest.raises(AgentFailure):
            await run(models, log, charging, wish)
        await models.script({"text": "It is paid."})
        answer, told = await run(models, log, charging, wish)
        assert answer == "It is paid."
        assert charging.charged == [{"amount": 5}]
        [asked] = await models.asked()
        assert [message["role"] for message in asked["messages"]] == ["user", "assistant", "tool"]
        assert asked["messages"][-1]["content"] == "paid"
        assert [kind for kind, _ in told] == ["delta"]


async def test_a_begun_call_without_a_result_is_for_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTCOME_SECONDS", 0.01)
    async with serving() as models:
        charging, log, wish = Charging(), Log(), request(agent="writer", input="Charge 5")
        await models.script({"tool_calls": [{"name": "charge", "arguments": {"amount": 5}}]}, {"status": 500})
        with pytest.raises(AgentFailure):
            await run(models, log, charging, wish)
        log.messages.pop()
        with pytest.raises(AgentFailure, match="must not happen twice") as caught:
            await run(models, log, charging, wish)
        assert caught.value.info.code == "OUTCOME_UNKNOWN"
        assert '{"amount": 5}' in caught.value.info.message.replace('":5', '": 5')
        assert len(charging.charged) == 1


@pytest.mark.parametrize(
    ("heard", "told"),
    [
        ([delta(0, "one two", 0), delta(1, " three", 7)], [("", " four", 13)]),
        ([delta(0, "one two", 0), delta(1, " 3", 7)], [("", "three four", 8)]),
        ([delta(0, "one two three four five", 0)], [("", "", 18)]),
        ([delta(0, "one two three four", 0)], []),
        ([delta(0, "another turn's", 0, turn=3)], [("", "one two three four", 0)]),
    ],
)
async def test_readers_hear_what_they_have_not_heard_and_what_is_different(
    heard: list[Found], told: list[tuple[str, str, int]]
) -> None:
    async with serving() as models:
        await models.script({"text": "one two three four"})
        _, said = await run(models, Log(*heard), Charging(), request(agent="writer"))
        assert [("", data["content"], data["at"]) for _, data in said] == told
