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
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from handrail_contracts import topics
from handrail_contracts.codec import MAX_RECORD_BYTES, DecodeError, cloud_event_headers, decode, encode
from handrail_contracts.envelope import ErrorInfo, utc
from handrail_contracts.ids import derive
from handrail_contracts.journal import FENCE_HEADER, Fences
from handrail_contracts.steps import AgentExecuted, StepProgressed, StepRequested
from handrail_runtime import bus
from handrail_runtime.deadletters import dead_letter, letter_bytes
from handrail_runtime.errors import JournalRegressed
from handrail_runtime.machine.recovery import read_fences, read_to
from handrail_runtime.membership import Membership
from handrail_runtime.outbox import Parcel
from handrail_runtime.service import Health
from handrail_runtime.settings import Settings
from handrail_runtime.telemetry import CONSUMER_LAG, STEP_DURATION
from prometheus_client import Counter, Gauge

from handrail_agent_runner.agents import Agent, AgentFailure
from handrail_agent_runner.answered import Answered, attempt_key
from handrail_agent_runner.answers import Answers
from handrail_agent_runner.registry import Registry
from handrail_agent_runner.watermark import Watermark

log = structlog.get_logger()

GROUP = "handrail.agent-runner"
SOURCE = "/handrail/agent-runner"
BATCH = 500
POLL_MS = 200
COMMIT_SECONDS = 1.0
UNCONFIRMED_LIMIT = 5_000
RECENT_SECONDS = 900

REFUSED = Counter("handrail_commands_refused_total", "Commands of a fenced epoch")
DUPLICATES = Counter("handrail_commands_duplicate_total", "Commands for attempts that ran already")
IN_FLIGHT = Gauge("handrail_steps_in_flight", "Attempts that run now")

Finish = Callable[[], None]


class Runner:
    def __init__(self, settings: Settings, health: Health, registry: Registry) -> None:
        self._settings, self._health, self._registry = settings, health, registry
        self._answers = Answers(settings)
        self._answered = Answered()
        self._fences = Fences({})
        self._membership = Membership(settings, GROUP, topics.STEP_REQUESTED)
        self._reader: AIOKafkaConsumer | None = None
        self._watermarks: dict[int, Watermark] = {}
        self._running: dict[asyncio.Task[None], int] = {}
        self._committed: dict[int, int] = {}
        self._slot = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        self._reader = await bus.start_reader(self._settings, "handrail-agent-runner", group=f"{GROUP}.positions")
        await self._answers.start()
        self._fences = await read_fences(self._settings, "agent-runner")
        await self._membership.start()
        last_commit = time.monotonic()
        while not stop.is_set():
            if self._membership.changed.is_set():
                await self._follow_membership()
            await self._turn()
            self._health.beat()
            if time.monotonic() - last_commit > COMMIT_SECONDS:
                last_commit = time.monotonic()
                await self._commit()
        await self._drain()

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._answers.close()
        await self._membership.stop()
        await bus.stop(self._reader)

    # --- ownership --------------------------------------------------------------------------------------------------

    async def _follow_membership(self) -> None:
        self._membership.changed.clear()
        wanted = set(self._membership.assigned)
        for partition in set(self._watermarks) - wanted:
            await self._give_up(partition)
        new = wanted - set(self._watermarks)
        if new:
            starts = await self._starts(new)
            await self._learn_answers(starts)
            for partition, start in starts.items():
                self._watermarks[partition] = Watermark(start)
        await self._assign()
        self._health.set_ready(f"{len(self._watermarks)} partitions")

    async def _give_up(self, partition: int) -> None:
        """Somebody else has the partition now: what runs for it goes on and answers, but nothing of it is committed."""
        self._watermarks.pop(partition)
        self._committed.pop(partition, None)

    async def _starts(self, partitions: set[int]) -> dict[int, int]:
        assert self._reader is not None
        tps = [TopicPartition(topics.STEP_REQUESTED, p) for p in partitions]
        begins, ends = await bus.begin_offsets(self._reader, tps), await bus.end_offsets(self._reader, tps)
        starts = {}
        for tp in tps:
            committed = await asyncio.wait_for(self._reader.committed(tp), 30)
            start = begins[tp] if committed is None else committed
            if not begins[tp] <= start <= ends[tp]:
                raise JournalRegressed(
                    f"{tp.topic} partition {tp.partition} holds offsets {begins[tp]} to {ends[tp]}, but the runner continues at "
                    f"{start}: commands were removed before they were carried out, or the topic was recreated. The "
                    "scheduler requests what is outstanding again when it restarts; reset the group's offsets to go on."
                )
            starts[tp.partition] = start
        return starts

    async def _learn_answers(self, starts: dict[int, int]) -> None:
        """What was answered since the oldest command that will be read again: those are not run a second time."""
        reader = await bus.start_reader(self._settings, "handrail-agent-runner-recent", max_wait_ms=20)
        try:
            since = await self._oldest_uncommitted(reader, starts)
            if since is None:
                return
            tps = [TopicPartition(topics.AGENT_EXECUTED, p) for p in range(topics.EXECUTION_PARTITIONS)]
            found = await reader.offsets_for_times(dict.fromkeys(tps, since))
            places = {tp: place.offset for tp, place in found.items() if place is not None}
            reader.assign(list(places))
            for tp, offset in places.items():
                reader.seek(tp, offset)
            async for records in read_to(reader, await bus.end_offsets(reader, list(places))):
                for record in records:
                    self._learn(record)
        finally:
            await bus.stop(reader)

    def _learn(self, record: ConsumerRecord[Any, Any]) -> None:
        try:
            answer: AgentExecuted = decode(topics.AGENT_EXECUTED, record.value)
        except DecodeError:
            return
        self._answered.answer(attempt_key(answer.run_id, answer.attempt))

    async def _oldest_uncommitted(self, reader: AIOKafkaConsumer, starts: dict[int, int]) -> int | None:
        """Time stamp in milliseconds, at most `RECENT_SECONDS` ago; none if nothing will be read again."""
        tps = {TopicPartition(topics.STEP_REQUESTED, p): start for p, start in starts.items()}
        ends = await bus.end_offsets(reader, list(tps))
        behind = {tp: start for tp, start in tps.items() if start < ends[tp]}
        if not behind:
            return None
        reader.assign(list(behind))
        for tp, start in behind.items():
            reader.seek(tp, start)
        oldest, waiting = time.time() * 1000, set(behind)
        deadline = time.monotonic() + 5
        while waiting and time.monotonic() < deadline:
            for tp, records in (await reader.getmany(timeout_ms=200, max_records=100)).items():
                oldest = min(oldest, records[0].timestamp)
                waiting.discard(tp)
                reader.pause(tp)
        return int(max(oldest, (time.time() - RECENT_SECONDS) * 1000)) - 1000

    async def _assign(self) -> None:
        assert self._reader is not None
        fences = TopicPartition(topics.FENCES, 0)
        seeks = {fences: (await bus.end_offsets(self._reader, [fences]))[fences]}
        for partition, watermark in self._watermarks.items():
            seeks[TopicPartition(topics.STEP_REQUESTED, partition)] = watermark.next_to_read
        self._fences.highest.update((await read_fences(self._settings, "agent-runner")).highest)
        self._reader.assign(list(seeks))
        for tp, offset in seeks.items():
            self._reader.seek(tp, offset)

    # --- one turn ---------------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        assert self._reader is not None
        if not self._watermarks:
            await asyncio.sleep(0.02)
            return
        room = self._settings.runner_concurrency - len(self._running)
        if room <= 0 or self._answers.unconfirmed > UNCONFIRMED_LIMIT:
            self._slot.clear()
            try:
                await asyncio.wait_for(self._slot.wait(), POLL_MS / 1000)
            except TimeoutError:
                pass
            return
        try:
            fetched = await self._reader.getmany(timeout_ms=POLL_MS, max_records=BATCH)
        except OffsetOutOfRangeError as error:
            raise JournalRegressed(f"commands were removed before they were carried out: {error}") from error
        for tp, records in fetched.items():
            if tp.topic == topics.FENCES:
                for record in records:
                    self._fences.observe(record.headers)
            elif (watermark := self._watermarks.get(tp.partition)) is not None:
                if "runner_commit_first" in self._settings.faults:
                    await self._reader.commit({tp: records[-1].offset + 1})
                self._take(watermark, records)
        await asyncio.sleep(0)

    def _take(self, watermark: Watermark, records: list[ConsumerRecord[Any, Any]]) -> None:
        """Commands in order. Answers of inline agents leave together."""
        parcels: list[Parcel] = []
        finished: list[int] = []
        for record in records:
            watermark.begin(record.offset)
            request = self._admit(record, watermark)
            if request is None:
                continue
            answer = self._run_inline(request)
            if answer is None:
                self._launch(request, partial(watermark.finish, record.offset), record.partition)
            else:
                parcels.append(answer)
                finished.append(record.offset)
        if parcels:
            self._answers.publish(parcels, partial(self._finish_all, watermark, finished))

    @staticmethod
    def _finish_all(watermark: Watermark, offsets: list[int]) -> None:
        for offset in offsets:
            watermark.finish(offset)

    def _admit(self, record: ConsumerRecord[Any, Any], watermark: Watermark) -> StepRequested | None:
        """The command, if it is to be carried out; otherwise it is finished here."""
        try:
            if any(name == FENCE_HEADER for name, _ in record.headers):
                self._fences.observe(record.headers)
                watermark.finish(record.offset)
                return None
            allowed = self._fences.allows(record.headers) or "runner_ignore_fences" in self._settings.faults
            request: StepRequested = decode(topics.STEP_REQUESTED, record.value)
        except (DecodeError, ValueError) as error:
            self._set_aside(record, error, partial(watermark.finish, record.offset))
            return None
        if not allowed:
            REFUSED.inc()
        elif self._answered.begin(attempt_key(request.run_id, request.attempt)) or (
            "runner_no_dedupe" in self._settings.faults
        ):
            return request
        else:
            DUPLICATES.inc()
        watermark.finish(record.offset)
        return None

    def _set_aside(self, record: ConsumerRecord[Any, Any], error: Exception, finish: Finish) -> None:
        code = error.code if isinstance(error, DecodeError) else "BAD_STAMP"
        letter = dead_letter(record, service="agent-runner", code=code, reason=str(error), now=time.time())
        key, value = letter_bytes(letter)
        self._answers.publish(
            [Parcel(topics.DEAD_LETTERS, key.decode(), value, cloud_event_headers(letter, SOURCE), 0)], finish
        )
        log.warning("dead_letter", topic=record.topic, partition=record.partition, offset=record.offset, code=code)

    def _run_inline(self, request: StepRequested) -> Parcel | None:
        """The answer of an agent that may run on the loop itself; none if it is not such a one."""
        try:
            agent = self._registry.find(request)
        except AgentFailure as failure:
            return self._answer(request, 0.0, error=failure.info)
        if agent is None or agent.inline is None:
            return None
        began = time.perf_counter()
        try:
            output = agent.inline(request.input, request.context)
        except Exception as error:
            return self._answer(request, time.perf_counter() - began, error=_unexpected(request, error))
        return self._answer(request, time.perf_counter() - began, output=output)

    def _launch(self, request: StepRequested, finish: Finish, partition: int) -> None:
        task = asyncio.create_task(self._run(request, finish), name=request.event_id)
        self._running[task] = partition
        IN_FLIGHT.set(len(self._running))
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        IN_FLIGHT.set(len(self._running))
        self._slot.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("attempt_lost", attempt=task.get_name(), error=repr(task.exception()))

    async def _run(self, request: StepRequested, finish: Finish) -> None:
        began = time.perf_counter()
        output, failure = None, None
        try:
            async with asyncio.timeout(request.timeout_seconds):
                agent: Agent = await self._registry.wait_for(request)
                output = await agent.execute(request, partial(self._progress, request, [0]))
        except AgentFailure as known:
            failure = known.info
        except TimeoutError:
            message = f"agent {request.agent} took longer than {request.timeout_seconds} s"
            failure = ErrorInfo(code="TIMEOUT", message=message, retryable=True)
        except asyncio.CancelledError:
            self._answered.abandon(attempt_key(request.run_id, request.attempt))
            raise
        except Exception as error:
            failure = _unexpected(request, error)
        parcel = self._answer(request, time.perf_counter() - began, output=output, error=failure)
        self._answers.publish([parcel], finish)

    def _answer(
        self, request: StepRequested, seconds: float, *, output: Any = None, error: ErrorInfo | None = None
    ) -> Parcel:
        status = "completed" if error is None else "failed"
        STEP_DURATION.labels(status).observe(seconds)
        self._answered.answer(attempt_key(request.run_id, request.attempt))
        fields = {
            "event_id": derive(request.event_id, "answer"),
            "occurred_at": utc(time.time()),
            "execution_id": request.execution_id,
            "workflow_id": request.workflow_id,
            "user_id": request.user_id,
            "organization_id": request.organization_id,
            "project_id": request.project_id,
            "step_id": request.step_id,
            "run_id": request.run_id,
            "attempt": request.attempt,
            "agent": request.agent,
            "duration_ms": round(seconds * 1000, 3),
        }
        message, value = _encoded(fields, status, output, error)
        if len(value) > min(self._settings.result_limit_bytes + 4096, MAX_RECORD_BYTES):
            limit = self._settings.result_limit_bytes
            text = f"the answer of agent {request.agent} is larger than {limit} bytes; pass large data by reference"
            message, value = _encoded(fields, "failed", None, ErrorInfo(code="RESULT_TOO_LARGE", message=text))
        return Parcel(
            topics.AGENT_EXECUTED, request.execution_id, value, cloud_event_headers(message, SOURCE), request.partition
        )

    def _progress(self, request: StepRequested, count: list[int], kind: str, data: dict[str, Any]) -> None:
        index, count[0] = count[0], count[0] + 1
        message = StepProgressed(
            event_id=derive(request.event_id, "progress", index),
            occurred_at=utc(time.time()),
            execution_id=request.execution_id,
            workflow_id=request.workflow_id,
            user_id=request.user_id,
            organization_id=request.organization_id,
            project_id=request.project_id,
            step_id=request.step_id,
            run_id=request.run_id,
            attempt=request.attempt,
            kind=kind,
            index=index,
            data=data,
        )
        headers = cloud_event_headers(message, SOURCE)
        self._answers.publish(
            [Parcel(topics.STEP_PROGRESSED, request.execution_id, encode(message), headers, request.partition)],
            lambda: None,
        )

    # --- behind the critical path -----------------------------------------------------------------------------------

    async def _commit(self) -> None:
        assert self._reader is not None
        positions = {
            TopicPartition(topics.STEP_REQUESTED, p): watermark.position
            for p, watermark in self._watermarks.items()
            if watermark.position != self._committed.get(p)
        }
        lag = 0
        for p, watermark in self._watermarks.items():
            lag += max(0, (self._reader.highwater(TopicPartition(topics.STEP_REQUESTED, p)) or 0) - watermark.position)
        CONSUMER_LAG.labels("agent-runner", topics.STEP_REQUESTED).set(lag)
        if not positions:
            return
        try:
            await asyncio.wait_for(self._reader.commit(positions), 5)
        except (KafkaError, TimeoutError) as error:
            log.warning("commit_delayed", error=repr(error))
            return
        self._committed.update({tp.partition: position for tp, position in positions.items()})

    async def _drain(self) -> None:
        """Lets what runs finish in the time allowed, and commits what has finished."""
        self._health.set_not_ready("draining")
        if self._running:
            await asyncio.wait(list(self._running), timeout=self._settings.drain_seconds)
        await self._answers.drain(5.0)
        await self._commit()


def _encoded(fields: dict[str, Any], status: str, output: Any, error: ErrorInfo | None) -> tuple[AgentExecuted, bytes]:
    message = AgentExecuted(status=status, output=output, error=error, **fields)
    try:
        return message, encode(message)
    except Exception as problem:
        text = f"agent {message.agent} answered something that is not JSON: {problem}"
        message = message.model_copy(
            update={"status": "failed", "output": None, "error": ErrorInfo(code="AGENT_ERROR", message=text[:2000])}
        )
        return message, encode(message)


def _unexpected(request: StepRequested, error: Exception) -> ErrorInfo:
    message = f"agent {request.agent} failed: {type(error).__name__}: {error}"
    return ErrorInfo(code="AGENT_ERROR", message=message[:2000], retryable=True)
