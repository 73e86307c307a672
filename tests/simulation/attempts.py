"""What simulated agents do in one attempt, over the runner's real conversations and its real `once`.

A coroutine that pauses wherever the rest of the world may get in between: it can be left there for ever.
"""

import types
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from handrail_agent_runner.agents.base import AgentFailure, Suggests
from handrail_agent_runner.conversation import CLOCKS_APART_MS, Conversation, Overtaken
from handrail_agent_runner.once import once, outcome_unknown
from handrail_contracts import topics
from handrail_contracts.approvals import Suggestion
from handrail_contracts.codec import encode
from handrail_contracts.envelope import ErrorInfo
from handrail_contracts.ids import fraction
from handrail_contracts.steps import AgentAdvanced, ModelCall, StepRequested, ToolAsked, ToolResult

from simulation.graphs import ACTIONS, TALKERS
from simulation.world import Call, Fault, World

OVERTAKEN_SECONDS = 15.0


@types.coroutine
def pause() -> Generator[None, None, None]:
    """Here it may be overtaken, cut off, or die."""
    yield


@dataclass(eq=False)
class Speaker:
    """Whoever carries an attempt out. One that is cut off speaks on, though its runner is gone."""

    name: str
    life: int = 0
    sleeps: bool = False


@dataclass
class Outcome:
    output: Any = None
    error: ErrorInfo | None = None
    call_id: str = ""
    calls: list[ModelCall] = field(default_factory=list)


class Log:
    """In place of the runner's `ConversationLog`."""

    def __init__(self, world: World, speaker: Speaker) -> None:
        self._world, self._speaker = world, speaker

    async def say(self, message: AgentAdvanced, partition: int) -> None:
        landed: list[int] = []
        record = (message.execution_id, encode(message), list[tuple[str, bytes]]())
        self._world.send_until_taken(self._speaker, (topics.AGENT_EXECUTED, 0), record, landed.append)
        while not landed:
            await pause()

    async def read(self, request: StepRequested) -> AsyncIterator[Any]:
        since = request.occurred_at.timestamp() - CLOCKS_APART_MS / 1000
        await pause()
        for at, message in self._world.answers():
            if message.run_id == request.run_id and at >= since:
                yield message


async def carry_out(world: World, speaker: Speaker, request: StepRequested, taken_over: bool) -> Outcome | None:
    """None if somebody else has answered."""
    number = 0
    while True:
        log: Any = Log(world, speaker)
        conversation = Conversation(request, log, taken_over=taken_over)
        conversation._holder = f"{speaker.name}-{number}"
        calls: list[ModelCall] = []
        try:
            return Outcome(await _act(world, request, conversation, calls), calls=calls)
        except AgentFailure as failure:
            return Outcome(error=failure.info, calls=calls)
        except Suggests as wish:
            return Outcome(wish.suggestion.model_dump(), call_id=wish.call_id, calls=calls)
        except Overtaken:
            number, taken_over = number + 1, True
            await _sleep(world, speaker)
            await conversation.read_back()
            if conversation.answered:
                return None


async def _sleep(world: World, speaker: Speaker) -> None:
    until, speaker.sleeps = world.now + OVERTAKEN_SECONDS, True
    while world.now < until:
        await pause()
    speaker.sleeps = False


async def _act(world: World, request: StepRequested, conversation: Conversation, calls: list[ModelCall]) -> Any:
    await pause()
    if request.kind == "action":
        return await _carry_out_action(world, request, conversation, calls)
    if request.ask_first and not request.granted:
        given = request.input if isinstance(request.input, dict) else {"input": request.input}
        raise Suggests(Suggestion(action=request.agent, confidence=0, suggested_data=given), request.step_id)
    if request.agent in TALKERS:
        await _Talk(world, request, conversation, calls).run()
    elif request.kind == "agent":
        calls += [_model_call(world, request, n) for n in range(int(3 * _chance(world, request, "calls")))]
    chance = _chance(world, request)
    if chance > 0.8:
        raise AgentFailure("AGENT_ERROR", "by chance", retryable=chance < 0.95)
    return (
        {"of": request.step_id, "attempt": request.attempt}
        if request.answer_schema is None
        else _suggestion(world, request)
    )


def _chance(world: World, request: StepRequested, *about: object) -> float:
    return fraction(world.seed, request.run_id, request.attempt, *about)


def _suggestion(world: World, request: StepRequested) -> dict[str, Any]:
    action = [*ACTIONS, "wire_money"][int(_chance(world, request, "action") * (len(ACTIONS) + 0.2))]
    confidence = _chance(world, request, "confidence")
    return {"action": action, "confidence": confidence, "suggested_data": {"n": request.attempt}, "comment": "so?"}


def _model_call(world: World, request: StepRequested, number: int) -> ModelCall:
    tokens = int(600 * _chance(world, request, "tokens", number))
    return ModelCall(model="m", input_tokens=tokens, output_tokens=1, cost_usd=0.004, seconds=1)


async def _carry_out_action(
    world: World, request: StepRequested, conversation: Conversation, calls: list[ModelCall]
) -> Any:
    async def do() -> Any:
        failed = _chance(world, request) > 0.8
        world.calls.append(Call(request, f"action {request.run_id}", False, request.input, failed))
        await pause()
        if failed:
            raise AgentFailure("TOOL_ERROR", "by chance", retryable=True)
        return {"done": request.agent}

    if Fault.ACTION_NOT_ONCE in world.faults:
        return await do()
    progress: Any = SimpleNamespace(conversation=conversation, model_calls=calls)
    return await once("an action", request, progress, do)


class _Talk:
    """As the runner's language models talk: what is asked is said first, what others have begun is not begun again."""

    def __init__(
        self, world: World, request: StepRequested, conversation: Conversation, calls: list[ModelCall]
    ) -> None:
        self._world, self._request, self._conversation, self._calls = world, request, conversation, calls
        self._told: list[ModelCall] = []
        self._began = world.now

    async def run(self) -> None:
        conversation = self._conversation
        await conversation.resume()
        for number in range(len(conversation.turns)):
            await self._results(number)
        most = int(4 * fraction(self._world.seed, self._request.run_id, "turns"))
        while len(conversation.turns) < most:
            self._ask_model()
            number = len(conversation.turns)
            before = [[turn.holder, len(turn.results)] for turn in conversation.turns]
            self._told += self._calls
            await conversation.asked({"before": before}, self._wanted(number), self._calls)
            await self._results(number)
        self._ask_model()

    def _ask_model(self) -> None:
        self._check_allowance()
        self._calls.append(_model_call(self._world, self._request, len(self._conversation.turns)))

    def _check_allowance(self) -> None:
        allowance, calls = self._request.allowance, [*self._told, *self._calls]
        used = {
            "tokens": sum(call.input_tokens + call.output_tokens for call in calls),
            "cost_usd": sum(call.cost_usd or 0 for call in calls),
            "calls": len(calls),
            "seconds": self._world.now - self._began,
        }
        for name, amount in used.items():
            allowed = None if allowance is None else getattr(allowance, name)
            if allowed is not None and amount >= allowed:
                raise AgentFailure("BUDGET_SPENT", f"it has used the {name} that it was allowed", retryable=False)

    def _wanted(self, number: int) -> tuple[ToolAsked, ...]:
        whose = (self._world.seed, self._conversation._holder, self._request.run_id, number)
        return tuple(
            ToolAsked(
                call_id=f"{self._conversation._holder}/{number}/{n}",
                tool="pay",
                repeatable=fraction(*whose, n) < 0.6,
                ask=fraction(*whose, n, "ask") < 0.2,
            )
            for n in range(1 + int(2 * fraction(*whose)))
        )

    async def _results(self, number: int) -> None:
        conversation = self._conversation
        for call in conversation.turns[number].open():
            if await conversation.outcome_is_unknown(number, call):
                raise outcome_unknown("it", "a call", None)
        for call in conversation.turns[number].open():
            if not call.ask or call.granted is not None:
                await self._use(number, call)
        for call in conversation.turns[number].open():
            raise Suggests(Suggestion(action=call.tool, confidence=0, suggested_data={"n": number}), call.call_id)

    async def _use(self, number: int, call: ToolAsked) -> None:
        if call.granted is not None:
            await self._conversation.begins(number, call)
        self._world.calls.append(Call(self._request, call.call_id, call.repeatable, call.granted, asked=call.ask))
        await pause()
        await self._conversation.gave(number, ToolResult(call_id=call.call_id, content="paid"))
