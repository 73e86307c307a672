"""The runner: takes commands, has agents carry them out, answers. At least once, never silently.

One command is one attempt of a step. It is carried out unless its epoch is fenced, or the attempt runs or was answered
already. Offsets are committed up to the contiguous finished watermark, after the answers have arrived.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from handrail_contracts import topics
from handrail_contracts.codec import DecodeError, cloud_event_headers, decode
from handrail_contracts.envelope import JsonObject
from handrail_contracts.journal import Fences
from handrail_contracts.steps import StepRequested
from handrail_contracts.topics import catalogue
from handrail_runtime.deadletters import dead_letter, letter_bytes
from handrail_runtime.errors import Unavailable
from handrail_runtime.machine.recovery import read_fences
from handrail_runtime.positions import Positions
from handrail_runtime.reader import Reader
from handrail_runtime.service import Health
from handrail_runtime.settings import Settings
from handrail_runtime.telemetry import CONSUMER_LAG, STEP_DURATION
from handrail_runtime.turns import Turns
from handrail_runtime.watermark import Watermark
from handrail_runtime.writer import Parcel
from prometheus_client import Counter, Gauge

from handrail_agent_runner.agents import AgentFailure
from handrail_agent_runner.agents.base import LeftOpen, Progress
from handrail_agent_runner.answered import Answered, attempt_key
from handrail_agent_runner.answers import Answers
from handrail_agent_runner.attempt import Outcome, answer_of, carry_out, carry_out_inline, progress_of
from handrail_agent_runner.breakers import Breakers, Passage
from handrail_agent_runner.choosing import Choosing
from handrail_agent_runner.conversation import SOURCE, Conversation, ConversationLog, Overtaken
from handrail_agent_runner.limits import Limits, RateLimit
from handrail_agent_runner.ownership import GROUP, Ownership
from handrail_agent_runner.registry import Registry
from handrail_agent_runner.takeover import find_starts, learn_answers, out_of_range

log = structlog.get_logger()

BATCH = 500
POLL_MS = 200
COMMIT_SECONDS = 1.0
COMMIT_AGAIN_SECONDS = 3600.0  # the broker forgets positions that nobody repeats
LET_GO_SECONDS = 3.0
RETRY_SECONDS = 0.5
OVERTAKEN_SECONDS = 15.0
MOST_HELD = 5_000
"""Attempts that wait for their agent's rate limit; past that nothing new is taken until some have gone."""

REFUSED = Counter("handrail_commands_refused_total", "Commands of a fenced epoch")
DUPLICATES = Counter("handrail_commands_duplicate_total", "Commands for attempts that ran already")
IN_FLIGHT = Gauge("handrail_steps_in_flight", "Attempts that run now")
HELD = Gauge("handrail_steps_held_back", "Attempts that wait for their agent's rate limit")
STOPPED = Gauge("handrail_partitions_stopped", "Partitions where the runner can't go on")
DURATIONS = {status: STEP_DURATION.labels(status) for status in ("completed", "failed", "suggested")}

Finish = Callable[[], None]
Record = ConsumerRecord[Any, Any]


class Runner:
    def __init__(
        self, settings: Settings, health: Health, registry: Registry, breakers: Breakers, choosing: Choosing
    ) -> None:
        self._settings, self._health, self._registry = settings, health, registry
        self._breakers, self._choosing = breakers, choosing
        self._answers = Answers(settings)
        self._conversations = ConversationLog(settings, self._answers.publish)
        self._answered = Answered()
        self._fences = Fences({})
        self._ownership = Ownership(settings, self._let_go)
        self._reader: Reader | None = None
        self._positions: Positions | None = None
        self._watermarks: dict[int, Watermark] = {}
        self._begun_before: dict[int, int] = {}
        self._stopped: dict[int, str] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._limits = Limits()
        self._held = 0
        self._slot = asyncio.Event()
        self._turns = Turns(self._watermarks)
        self._reading: asyncio.Task[dict[TopicPartition, list[Record]]] | None = None
        self._letting_go = False
        self._committed: dict[int, int] = {}
        self._commit_task: asyncio.Task[None] | None = None
        self._last_commit = self._last_full_commit = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        self._reader = await Reader.start(self._settings, "handrail-agent-runner")
        self._positions = await Positions.start(self._settings, f"{GROUP}.positions")
        await self._answers.start()
        self._fences = await read_fences(self._settings, "agent-runner")
        await self._ownership.start()
        while not stop.is_set():
            if not self._ownership.changed.is_set() or await self._follow_ownership():
                await self._turn()
            self._health.beat()
            self._commit_now_and_then()
        await self._drain()

    async def close(self) -> None:
        await self._stop_reading()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._commit_task is not None:
            await asyncio.gather(self._commit_task, return_exceptions=True)
        await self._answers.close()
        await self._conversations.close()
        await self._ownership.stop()
        for client in (self._reader, self._positions):
            if client is not None:
                await client.stop()

    # --- ownership --------------------------------------------------------------------------------------------------

    async def _follow_ownership(self) -> bool:
        """Goes over to the latest assignment. False if the broker did not help; what runs and waits here is kept."""
        self._ownership.changed.clear()
        self._letting_go = False  # a revocation from here on stands until its own assignment
        try:
            await self._take_and_leave()
        except (KafkaError, Unavailable, TimeoutError) as error:
            log.warning("takeover_delayed", error=str(error) or repr(error))
            self._health.set_not_ready(f"recovering: {error!r}")
            self._ownership.changed.set()
            await asyncio.sleep(RETRY_SECONDS)
            return False
        self._show_readiness()
        return True

    async def _take_and_leave(self) -> None:
        """What runs for a partition that went elsewhere goes on and answers, but nothing of it is committed."""
        assert self._reader is not None and self._positions is not None
        await self._stop_reading()
        wanted = set(self._ownership.assigned)
        lost = self._ownership.take_lost() | (set(self._watermarks) - wanted)
        self._turns.drop(lost)
        for partition in lost:
            self._watermarks.pop(partition, None)
            self._committed.pop(partition, None)
        for partition in set(self._stopped) - wanted:
            del self._stopped[partition]
        new = wanted - set(self._watermarks) - set(self._stopped)
        if new:
            starts, stopped = await find_starts(self._reader, self._positions, new)
            await learn_answers(self._settings, starts, self._answered)
            for partition, start in starts.items():
                self._watermarks[partition] = Watermark(start.offset)
                self._begun_before[partition] = start.end
            for partition, reason in stopped.items():
                self._stop_partition(partition, reason)
        await self._assign()

    async def _assign(self) -> None:
        """Fences up to now are read after their end was taken, and followed from there: none is missed in between."""
        assert self._reader is not None
        places = await self._reader.end_offsets([TopicPartition(topics.FENCES, 0)])
        for stamp in (await read_fences(self._settings, "agent-runner")).stamps():
            self._fences.raise_to(stamp)
        for partition, watermark in self._watermarks.items():
            places[TopicPartition(topics.STEP_REQUESTED, partition)] = watermark.next_to_read
        self._reader.assign(places)

    def _stop_partition(self, partition: int, reason: str) -> None:
        self._stopped[partition] = reason
        self._watermarks.pop(partition, None)
        self._turns.drop({partition})
        log.error("partition_stopped", topic=topics.STEP_REQUESTED, partition=partition, reason=reason)

    def _show_readiness(self) -> None:
        STOPPED.set(len(self._stopped))
        if self._stopped:
            self._health.set_not_ready(" ".join(self._stopped.values()))
        else:
            self._health.set_ready(f"{len(self._watermarks)} partitions")

    async def _let_go(self) -> None:
        """Before partitions go elsewhere: takes nothing more, lets what runs finish for a moment, commits."""
        self._letting_go = True
        await self._settle(min(self._settings.drain_seconds, LET_GO_SECONDS))

    # --- one turn ---------------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        working = len(self._running) - self._held
        room = min(self._settings.runner_concurrency - working, MOST_HELD - self._held)
        if self._letting_go or not self._watermarks:
            await asyncio.sleep(0.02)
        elif room <= 0 or self._answers.full:
            await self._wait_for_room()
        else:
            if not self._turns:
                self._add(await self._read())
            self._take(self._turns.take(min(room, BATCH), lambda tenant: BATCH))
            await asyncio.sleep(0)

    async def _read(self) -> dict[TopicPartition, list[Record]]:
        """What was asked for already, or what comes next."""
        if self._reading is None:
            return await self._fetch(BATCH)
        reading, self._reading = self._reading, None
        return await reading

    async def _wait_for_room(self) -> None:
        """Reads ahead meanwhile: when there is room again, it is the turn of those who have waited least often."""
        self._slot.clear()
        if self._reading is None and not self._turns.full:
            self._reading = asyncio.create_task(self._fetch(BATCH), name="reading")
        slot = asyncio.create_task(self._slot.wait(), name="slot")
        tasks = {slot} if self._reading is None else {slot, self._reading}
        await asyncio.wait(tasks, timeout=POLL_MS / 1000, return_when=asyncio.FIRST_COMPLETED)
        slot.cancel()
        if self._reading is not None and self._reading.done():
            self._add(await self._read())

    async def _stop_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def _add(self, fetched: dict[TopicPartition, list[Record]]) -> None:
        """Fences count from when they were read: what lies behind them is taken later, or never."""
        for tp, records in fetched.items():
            self._observe(records)
            if tp.topic != topics.FENCES:
                self._turns.add(tp.partition, records)

    async def _fetch(self, most: int) -> dict[TopicPartition, list[Record]]:
        """After an error everything is fetched again from where it was taken: the client may have lost some on the way."""
        assert self._reader is not None
        try:
            fetched = await self._reader.poll(most, POLL_MS)
        except OffsetOutOfRangeError as error:
            for tp, offset in error.args[0].items():
                if tp.topic == topics.STEP_REQUESTED:
                    self._stop_partition(tp.partition, out_of_range(tp.partition, offset, "does not hold that offset"))
        except Exception as error:
            log.error("fetch_failed", error=repr(error))
            await asyncio.sleep(RETRY_SECONDS)
        else:
            # what a rebalance overtook while we waited is taken by its next owner
            return {} if self._letting_go or self._ownership.changed.is_set() else fetched
        self._ownership.changed.set()
        return {}

    def _observe(self, records: list[Record]) -> None:
        for record in records:
            try:
                self._fences.observe(record.headers)
            except (ValueError, AttributeError) as error:
                log.error("fence_unreadable", offset=record.offset, error=repr(error))

    def _take(self, records: list[Record]) -> None:
        """Answers of inline agents leave together."""
        parcels: list[Parcel] = []
        finished: list[tuple[str, Finish]] = []
        for record in records:
            watermark = self._watermarks[record.partition]
            request = self._admit(record, watermark)
            if request is None:
                continue
            if request.capabilities:
                request = self._choosing.choose(request)
            outcome = self._run_inline(request)
            if outcome is None:
                taken_over = record.offset < self._begun_before.get(record.partition, 0)
                self._launch(request, partial(watermark.finish, record.offset), record.partition, taken_over)
            else:
                parcels.append(self._answer(request, outcome))
                finish = partial(watermark.finish, record.offset)
                finished.append((attempt_key(request.run_id, request.attempt), finish))
        if parcels:
            self._answers.publish(parcels, partial(self._finish_all, finished))

    def _finish_all(self, finished: list[tuple[str, Finish]]) -> None:
        for key, finish in finished:
            finish()
            self._answered.answer(key)

    def _admit(self, record: Record, watermark: Watermark) -> StepRequested | None:
        """The command, if it is to be carried out; otherwise it is finished here."""
        finish = partial(watermark.finish, record.offset)
        try:
            if self._fences.observe(record.headers):
                finish()
                return None
            allowed = self._fences.allows(record.headers)
            request: StepRequested = decode(topics.STEP_REQUESTED, record.value)
            if request.partition >= topics.EXECUTION_PARTITIONS:
                raise DecodeError("INVALID_MESSAGE", f"{topics.AGENT_EXECUTED} has no partition {request.partition}")
        except (DecodeError, ValueError, AttributeError) as error:
            self._set_aside(record, error, finish)
            return None
        if not allowed:
            REFUSED.inc()
            finish()
            return None
        key = attempt_key(request.run_id, request.attempt)
        if self._answered.begin(key):
            return request
        DUPLICATES.inc()
        self._answered.once_answered(key, finish)
        return None

    def _set_aside(self, record: Record, error: Exception, finish: Finish) -> None:
        code = error.code if isinstance(error, DecodeError) else "BAD_STAMP"
        letter = dead_letter(record, service="agent-runner", code=code, reason=str(error), now=time.time())
        key, value = letter_bytes(letter)
        headers = cloud_event_headers(letter, SOURCE)
        self._answers.publish([Parcel(topics.DEAD_LETTERS, key.decode(), value, headers, 0)], finish)
        log.warning("dead_letter", topic=record.topic, partition=record.partition, offset=record.offset, code=code)

    # --- attempts ---------------------------------------------------------------------------------------------------

    def _run_inline(self, request: StepRequested) -> Outcome | None:
        """The outcome of an agent that may run on the loop itself; none if it is not such a one."""
        try:
            agent = self._registry.find(request)
        except AgentFailure as failure:
            return Outcome(0.0, error=failure.info)
        if agent is None or agent.inline is None or self._limit_of(request) is not None:
            return None
        return carry_out_inline(agent.inline, request)

    def _launch(self, request: StepRequested, finish: Finish, partition: int, taken_over: bool) -> None:
        key = attempt_key(request.run_id, request.attempt)
        conversation = Conversation(request, self._conversations, taken_over=taken_over)
        task = asyncio.create_task(self._run(request, key, finish, conversation, partition), name=key)
        self._running.add(task)
        self._choosing.began(key, request)
        IN_FLIGHT.set(len(self._running))
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._choosing.ended(task.get_name())
        IN_FLIGHT.set(len(self._running))
        self._slot.set()
        if task.cancelled():
            self._answered.abandon(task.get_name())
        elif task.exception() is not None:
            log.error("attempt_lost", attempt=task.get_name(), error=repr(task.exception()))

    def _limit_of(self, request: StepRequested) -> RateLimit | None:
        registered = self._registry.registered(request.agent)
        return None if registered is None else RateLimit.of(registered.config)

    async def _hold_back(self, passage: Passage, request: StepRequested) -> None:
        """Until the attempt may begin, or `AgentFailure` if its agent is left alone just now."""
        passage.check()
        limit = self._limit_of(request)
        if limit is not None:
            await self._wait_for_place(request, limit)
        passage.enter()

    async def _wait_for_place(self, request: StepRequested, limit: RateLimit) -> None:
        """Waits for the agent's next place; others are served meanwhile."""
        share = len(self._watermarks) / catalogue()[topics.STEP_REQUESTED].partitions
        seconds = self._limits.reserve(request.agent, limit, share, time.monotonic())
        if seconds > 0:
            self._held += 1
            HELD.set(self._held)
            try:
                await asyncio.sleep(seconds)
            finally:
                self._held -= 1
                HELD.set(self._held)

    async def _run(
        self, request: StepRequested, key: str, finish: Finish, conversation: Conversation, partition: int
    ) -> None:
        if request.capabilities and not request.agent:
            request = await self._choose_late(request, key)

        progress = Progress(partial(self._progress, request, conversation), conversation)
        try:
            with self._breakers.passage(request) as passage:
                outcome = await carry_out(self._registry, request, progress, partial(self._hold_back, passage))
                passage.end(outcome.error)
        except Overtaken:
            await self._leave_to_other(request, key, finish, conversation, partition)
        except LeftOpen:
            finish()
            self._answered.leave(key)
        else:
            await conversation.landed()
            self._answers.publish([self._answer(request, outcome)], partial(self._finish_all, [(key, finish)]))

    async def _leave_to_other(
        self, request: StepRequested, key: str, finish: Finish, conversation: Conversation, partition: int
    ) -> None:
        """Somebody else is at it. Whose partition it still is goes on in his place should he fall silent."""
        log.warning("conversation_overtaken", execution_id=request.execution_id, step=request.step_id)
        await asyncio.sleep(OVERTAKEN_SECONDS)
        if partition not in self._watermarks:
            self._answered.abandon(key)
            return
        await conversation.read_back()
        if conversation.answered:
            self._finish_all([(key, finish)])
        else:
            await self._run(
                request, key, finish, Conversation(request, self._conversations, taken_over=True), partition
            )

    async def _choose_late(self, request: StepRequested, key: str) -> StepRequested:
        """Gives the registration of an agent that can do it a moment to come."""

        def look() -> StepRequested | None:
            found = self._choosing.choose(request)
            return found if found.agent else None

        chosen = await self._registry.arrivals.soon(look)
        if chosen is None:
            return request
        self._choosing.began(key, chosen)
        return chosen

    def _answer(self, request: StepRequested, outcome: Outcome) -> Parcel:
        self._choosing.answered(request, failed=outcome.error is not None)
        DURATIONS[outcome.status].observe(outcome.seconds)
        return answer_of(request, outcome, self._settings.result_limit_bytes)

    def _progress(self, request: StepRequested, conversation: Conversation, kind: str, data: JsonObject) -> None:
        """Best effort: while answers can't leave, progress is not kept."""
        index = conversation.next_index
        conversation.next_index += 1
        if not self._answers.full:
            self._answers.publish([progress_of(request, index, kind, data)], conversation.leaves())

    # --- behind the critical path -----------------------------------------------------------------------------------

    def _commit_now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._last_commit < COMMIT_SECONDS or (self._commit_task and not self._commit_task.done()):
            return
        self._last_commit = now
        if now - self._last_full_commit > COMMIT_AGAIN_SECONDS:
            self._last_full_commit = now
            self._committed.clear()
        self._commit_task = asyncio.create_task(self._commit(), name="commit")

    async def _commit(self) -> None:
        assert self._reader is not None and self._positions is not None
        watermarks = dict(self._watermarks)
        self._show_lag(self._reader, watermarks)
        positions = {p: mark.position for p, mark in watermarks.items() if mark.position != self._committed.get(p)}
        if not positions:
            return
        offsets = {TopicPartition(topics.STEP_REQUESTED, p): position for p, position in positions.items()}
        try:
            await self._positions.commit(offsets)
        except Unavailable as error:
            log.warning("commit_delayed", error=repr(error))
            return
        self._committed.update({p: at for p, at in positions.items() if self._watermarks.get(p) is watermarks[p]})

    @staticmethod
    def _show_lag(reader: Reader, watermarks: dict[int, Watermark]) -> None:
        lag = sum(
            max(0, (reader.highwater(TopicPartition(topics.STEP_REQUESTED, p)) or 0) - watermark.position)
            for p, watermark in watermarks.items()
        )
        CONSUMER_LAG.labels("agent-runner", topics.STEP_REQUESTED).set(lag)

    async def _settle(self, seconds: float) -> None:
        """Lets what runs finish and its answers arrive in the time allowed, and commits what has finished."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=seconds)
        await self._answers.drain(min(seconds, 5.0))
        await self._commit()

    async def _drain(self) -> None:
        self._health.set_not_ready("draining")
        await self._settle(self._settings.drain_seconds)
        await self._ownership.stop(leave=True)
