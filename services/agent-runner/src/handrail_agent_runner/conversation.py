"""How far an agent's conversation with its model has come, as the log has it: whoever takes it over goes on from there.

What a model asks of tools is written down before they are called, and so is what they gave. A runner that may not be the
only one at it (the one before was cut off, not dead) reads back whether its word was the first before it calls a tool that
must not be called twice.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
from aiokafka import TopicPartition
from handrail_contracts import topics
from handrail_contracts.codec import MAX_RECORD_BYTES, DecodeError, cloud_event_headers, decode, encode
from handrail_contracts.envelope import JsonObject, utc
from handrail_contracts.ids import derive
from handrail_contracts.steps import (
    AgentAdvanced,
    AgentExecuted,
    ModelCall,
    StepProgressed,
    StepRequested,
    ToolAsked,
    ToolResult,
    Turn,
    advanced,
    run_of,
)
from handrail_runtime.machine.recovery import read_to
from handrail_runtime.reader import Reader
from handrail_runtime.settings import Settings
from handrail_runtime.writer import Parcel

SOURCE = "/handrail/agent-runner"
CLOCKS_APART_MS = 5_000
"""How far the clocks of those who request and those who answer may differ."""
OUTCOME_SECONDS = 10.0
"""How long the result of a call may take that somebody else has begun."""

Publish = Callable[[list[Parcel], Callable[[], None]], None]
Found = AgentAdvanced | AgentExecuted | StepProgressed


class Overtaken(Exception):
    """Another runner goes on with the conversation; this one must not."""


class TooLarge(Exception):
    """What would have to be kept does not fit into one record."""


class Conversation:
    """The turns of one step run, and the words of the turn under way that readers have been told.

    Without a `log` nobody keeps it.
    """

    def __init__(
        self, request: StepRequested, log: "ConversationLog | None" = None, *, taken_over: bool = False
    ) -> None:
        self._request, self._log, self._taken_over = request, log, taken_over
        self._holder = uuid.uuid4().hex
        self.turns: tuple[Turn, ...] = request.turns
        self.answered = False
        self.next_index = 0
        self._told_turn, self._told = 0, ""
        self._in_flight, self._landed = 0, asyncio.Event()

    async def resume(self) -> None:
        """Learns what the runner before has left in the log, if there was one."""
        if self._taken_over:
            await self.read_back()

    async def read_back(self) -> None:
        self.turns = self._request.turns
        async for message in self._log.read(self._request) if self._log else _nothing():
            if isinstance(message, AgentAdvanced):
                self.turns = advanced(self.turns, message) or self.turns
            elif message.attempt != self._request.attempt:
                continue
            elif isinstance(message, StepProgressed):
                self._learn_told(message)
            else:
                self.answered = True

    def _learn_told(self, message: StepProgressed) -> None:
        self.next_index = max(self.next_index, message.index + 1)
        if message.kind == "delta" and "turn" in message.data:
            turn, at = message.data["turn"], message.data["at"]
            self.tell(turn, self.told(turn)[:at] + message.data["content"])

    # --- words ------------------------------------------------------------------------------------------------------

    def told(self, turn: int) -> str:
        """The words of that turn that readers have."""
        return self._told if turn == self._told_turn else ""

    def tell(self, turn: int, words: str) -> None:
        self._told_turn, self._told = turn, words

    def leaves(self) -> Callable[[], None]:
        """Something is on its way to readers; call what it gives when the log has it."""
        self._in_flight += 1
        return self._arrived

    def _arrived(self) -> None:
        self._in_flight -= 1
        self._landed.set()

    async def landed(self) -> None:
        """Returns when readers have all that was told: an answer must not overtake it."""
        while self._in_flight:
            self._landed.clear()
            await self._landed.wait()

    # --- tools ------------------------------------------------------------------------------------------------------

    @property
    def weight(self) -> int:
        """In bytes."""
        return sum(len(orjson.dumps(turn.model_dump(mode="json"))) for turn in self.turns)

    async def asked(self, said: JsonObject, asked: tuple[ToolAsked, ...], calls: list[ModelCall]) -> None:
        """Before the tools are called. `calls` leave with it, if somebody keeps it.

        Raises `Overtaken` if a tool must not be called twice, or a person is to be asked, and another runner was first.
        """
        follows = self.turns[-1].holder if self.turns else ""
        name = (len(self.turns), self._holder)
        await self._say(name, len(self.turns), follows=follows, said=said, asked=asked, model_calls=tuple(calls))
        if self._log is None:
            return
        calls.clear()
        if not all(call.repeatable and not call.ask for call in asked):
            holders = [known.holder for known in self.turns]
            await self.read_back()
            if [known.holder for known in self.turns] != holders:
                raise Overtaken(self._request.run_id)

    async def gave(self, number: int, result: ToolResult) -> None:
        await self._say((number, result.call_id), number, result=result)

    async def begins(self, number: int, call: ToolAsked) -> None:
        """Before a call is carried out that a person has granted. Raises `Overtaken` like `asked`."""
        await self._say(("begun", number, call.call_id, self._holder), number, begun=call.call_id)
        if self._log is not None and not call.repeatable:
            await self.read_back()
            if all(known.begun != self._holder for known in self.turns[number].asked if known.call_id == call.call_id):
                raise Overtaken(self._request.run_id)

    async def outcome_is_unknown(self, number: int, call: ToolAsked) -> bool:
        """Whether somebody else has begun a call that must not be made twice, and its result does not come."""
        who = call.begun if call.ask else self.turns[number].holder
        if call.repeatable or not who or who == self._holder:
            return False
        await asyncio.sleep(OUTCOME_SECONDS if self._taken_over else 0)
        await self.read_back()
        return call in self.turns[number].open()

    async def _say(self, name: tuple[object, ...], turn: int, **fields: Any) -> None:
        """Returns when the log, if there is one, has it; the turns have it then as the log does."""
        request = self._request
        message = AgentAdvanced(
            event_id=derive(request.run_id, "turn", *name),
            occurred_at=utc(time.time()),
            **run_of(request),
            agent=request.agent,
            turn=turn,
            holder=self._holder,
            **fields,
        )
        if self._log is not None:
            await self._log.say(message, request.partition)
        self.turns = advanced(self.turns, message) or self.turns


async def _nothing() -> AsyncIterator[Found]:
    return
    yield


class ConversationLog:
    """Writes conversations down, and reads back what the log says of one. Lets one read at a time."""

    def __init__(self, settings: Settings, publish: Publish) -> None:
        self._settings, self._publish = settings, publish
        self._reader: Reader | None = None
        self._lock = asyncio.Lock()

    async def say(self, message: AgentAdvanced, partition: int) -> None:
        """Raises `TooLarge`."""
        arrived = asyncio.Event()
        value, headers = encode(message), cloud_event_headers(message, SOURCE)
        if len(value) > MAX_RECORD_BYTES:
            what = "the result of a call" if message.said is None else "what the model says"
            raise TooLarge(f"{what} in step {message.step_id} is larger than one record; pass large data by reference")
        parcel = Parcel(topics.AGENT_EXECUTED, message.execution_id, value, headers, partition)
        self._publish([parcel], arrived.set)
        await arrived.wait()

    async def read(self, request: StepRequested) -> AsyncIterator[Found]:
        """What was said of the step run since it was requested, up to now. Of each topic in order; answers come last."""
        for topic in (topics.STEP_PROGRESSED, topics.AGENT_EXECUTED):
            async with self._lock:
                found = await self._read(TopicPartition(topic, request.partition), request)
            for message in found:
                yield message

    async def _read(self, tp: TopicPartition, request: StepRequested) -> list[Found]:
        if self._reader is None:
            self._reader = await Reader.start(self._settings, "handrail-agent-runner-conversations")
        reader, key = self._reader, request.execution_id.encode()
        since = int(request.occurred_at.timestamp() * 1000) - CLOCKS_APART_MS
        ends, starts = await reader.end_offsets([tp]), await reader.offsets_at([tp], since)
        if starts[tp] < 0:
            return []
        reader.assign(starts)
        return [
            message
            async for records in read_to(reader, ends)
            for record in records
            if record.key == key and (message := _message(tp.topic, record.value, request)) is not None
        ]

    async def close(self) -> None:
        if self._reader is not None:
            await self._reader.stop()


def _message(topic: str, value: bytes | None, request: StepRequested) -> Found | None:
    try:
        message: Found = decode(topic, value)
    except DecodeError:
        return None
    return message if message.run_id == request.run_id else None
