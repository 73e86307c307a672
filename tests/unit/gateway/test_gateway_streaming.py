"""Streams: frames from history, the shared tail, and joining the two."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, get_args

import orjson
import pytest
from aiokafka import TopicPartition
from handrail_contracts.execution_events import AnyExecutionEvent
from handrail_contracts.ids import partition_of
from handrail_contracts.journal import claim_header, record_header
from handrail_gateway.identity.caller import Caller
from handrail_gateway.live import QUEUE_RECORDS, Item, LiveTail, Said, Subscription, Tailing
from handrail_gateway.progress import Heard
from handrail_gateway.sse import ExecutionStream
from handrail_gateway.streaming import START, Frame, frame, frames_of, parse_position, progress_frame
from handrail_gateway.waiting import Positions
from unit.gateway.builders import FakeDatabase, until

E = "e1"
P = partition_of(E, 12)
JOURNAL = TopicPartition("execution.events", P)
ERROR = {"code": "TIMEOUT", "message": "slow", "retryable": True}
EVENTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "execution.started": ({}, ["status"]),
    "execution.rejected": ({"error": ERROR}, ["error", "status", "complete"]),
    "step.started": ({"step_id": "a", "step_type": "delay", "attempt": 1}, ["step_start"]),
    "step.completed": ({"step_id": "a", "attempt": 1, "output": 1}, ["step_complete"]),
    "step.retry_scheduled": ({"step_id": "a", "attempt": 1, "error": ERROR, "retry_at": "x"}, ["error"]),
    "step.failed": ({"step_id": "a", "attempt": 1, "error": ERROR}, ["error", "step_complete"]),
    "steps.skipped": ({"step_ids": ["a", "b"], "reason": "execution_ended"}, ["step_complete", "step_complete"]),
    "steps.cancelled": ({"step_ids": ["a"]}, ["step_complete"]),
    "execution.status_changed": ({"status": "waiting"}, ["status"]),
    "execution.paused": ({"by": "ada", "reason": ""}, ["status"]),
    "execution.resumed": ({"by": "ada", "reason": ""}, ["status"]),
    "execution.admitted": ({}, ["status"]),
    "steps.restored": ({"outputs": {"a": 1}, "skipped": ["b"]}, ["step_complete", "step_complete"]),
    "step.steered": ({"action": "skip", "step_id": "a", "by": "ada"}, ["status"]),
    "tasks.planned": ({"tasks": []}, []),
    "step.annotated": ({"step_id": "a", "changes": {"progress": 5}, "by": "ada"}, ["status"]),
    "step.overdue": ({"step_id": "a", "due_date": "2026-02-09T20:00:00Z"}, ["status"]),
    "execution.version_changed": ({"workflow_version": 2}, ["status"]),
    "compensation.started": ({"outcome": "failed", "step_ids": ["a"]}, ["status"]),
    "signal.received": ({"signal": "paid", "data": 1, "by": "ada"}, []),
    "step.models_called": ({"step_id": "a", "attempt": 1, "calls": []}, []),
    "step.advanced": ({"step_id": "a", "attempt": 1, "turn": 0, "holder": "x"}, []),
    "budget.awaited": ({"step_id": "a", "budget_id": "b", "reason": "spent"}, ["status"]),
    "budget.granted": ({"step_id": "a", "budget_id": "b", "allowance": {}}, []),
    "suggestion.made": ({"step_id": "a", "suggestion_id": "s", "revision": 1, "action": "send"}, ["status"]),
    "suggestion.sent_back": ({"step_id": "a", "suggestion_id": "s", "by": "ada", "comment": "no"}, ["status"]),
    "suggestion.approved": ({"step_id": "a", "suggestion_id": "s", "action": "send", "by": "ada"}, ["status"]),
    "suggestion.refused": ({"step_id": "a", "suggestion_id": "s", "by": "ada", "comment": "no"}, ["status"]),
    "action.executed": ({"step_id": "a", "suggestion_id": "s", "result_type": "email_sent"}, ["status"]),
    "execution.completed": ({"result": {"ok": True}}, ["status", "complete"]),
    "execution.failed": ({"step_id": "a", "error": ERROR}, ["error", "status", "complete"]),
    "execution.cancelled": ({"by": "ada", "reason": "why not"}, ["status", "complete"]),
    "execution.timed_out": ({"error": ERROR}, ["error", "status", "complete"]),
}


def event(n: int, kind: str) -> dict[str, Any]:
    return {"n": n, "type": kind, **EVENTS[kind][0]}


def test_every_event_of_the_journal_is_told() -> None:
    assert {model.model_fields["type"].default for model in get_args(AnyExecutionEvent)} == set(EVENTS)


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_gives_its_frames_with_ids_in_order(kind: str) -> None:
    frames = list(frames_of(E, [event(7, kind)]))
    assert [found.event for found in frames] == EVENTS[kind][1]
    assert [found.position for found in frames] == [(7, k) for k in range(len(frames))]
    assert all(orjson.loads(found.data)["execution_id"] == E for found in frames)


@pytest.mark.parametrize("kind", ["step.completed", "step.failed"])
def test_who_was_chosen_by_capabilities_is_told_with_the_end(kind: str) -> None:
    named, *_ = [
        frame for frame in frames_of(E, [{**event(7, kind), "agent": "ann"}]) if frame.event == "step_complete"
    ]
    unnamed, *_ = [frame for frame in frames_of(E, [event(7, kind)]) if frame.event == "step_complete"]
    assert orjson.loads(named.data)["agent"] == "ann"
    assert "agent" not in orjson.loads(unnamed.data)


def test_an_event_of_a_later_release_is_passed_over() -> None:
    assert list(frames_of(E, [{"n": 1, "type": "execution.dreamt"}])) == []


def test_a_frame_is_written_as_the_standard_says() -> None:
    assert Frame("status", b'{"a":1}', (3, 0)).encode() == b'id: 3.0\nevent: status\ndata: {"a":1}\n\n'
    assert frame("heartbeat", {"text": "two\nlines"}).encode() == b'event: heartbeat\ndata: {"text":"two\\nlines"}\n\n'


def test_progress_has_the_shapes_of_the_seed() -> None:
    message = {"kind": "delta", "step_id": "agent", "execution_id": E, "data": {"content": "hi"}}
    found = progress_frame(message, 5)
    assert found is not None and (found.event, orjson.loads(found.data)) == (
        "delta",
        {"content": "hi", "step": "agent"},
    )
    assert found.position is None
    assert progress_frame({"kind": "song", "data": {}}, 5) is None
    assert progress_frame({"kind": "delta", "data": "text"}, 5) is None


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("3.1", ((3, 1), None)),
        ("3.1~42", ((3, 1), 42)),
        ("0.0", ((0, 0), None)),
        ("3", None),
        ("3.1~", None),
        ("a.b", None),
        ("-1.0", None),
        ("1.1e9", None),
    ],
)
def test_only_our_own_ids_are_understood(text: str, position: Any) -> None:
    assert parse_position(text) == position


class TestSubscription:
    async def test_items_come_in_order_and_waiting_ends_with_the_time_limit(self) -> None:
        subscription = Subscription(E)
        items: list[Item] = [Said([], 1), Tailing(3)]
        for item in items:
            subscription.put(item)
        assert [await subscription.get(1), await subscription.get(1), await subscription.get(0.001)] == [*items, None]

    async def test_a_client_that_does_not_keep_up_is_given_up_not_buffered(self) -> None:
        subscription = Subscription(E)
        for _ in range(QUEUE_RECORDS + 1):
            subscription.put(Said([], 1))
        assert subscription.lost
        assert await subscription.get(1) is None
        assert len(subscription._items) == 0

    async def test_bytes_are_bounded_too_but_one_large_record_passes(self) -> None:
        subscription = Subscription(E)
        subscription.put(Said([], 2 * 1024 * 1024))
        assert not subscription.lost
        subscription.put(Said([], 1))
        assert subscription.lost


@dataclass
class Log:
    """An in-memory execution.events partition with its projector, and the reader and database over them."""

    records: list[Any] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    projected: int = 0
    epoch: int = -1
    seq: int = 0
    n: int = 0
    stored: tuple[int, int, int] = (0, -1, 0)
    readers: int = 0
    broken: bool = False

    def __post_init__(self) -> None:
        self.database = FakeDatabase({"positions": self._positions, "history": self._history})

    def claim(self) -> None:
        self._append(b"{}", b"claim", claim_header(self.epoch, "t"))
        self.epoch, self.seq = len(self.records) - 1, 0

    def tell(self, *kinds: str) -> None:
        events = [event(self.n + i, kind) for i, kind in enumerate(kinds, 1)]
        self.n += len(kinds)
        self._append(
            orjson.dumps({"execution_id": E, "events": events}), E.encode(), record_header(self.epoch, self.seq)
        )
        self.seq += 1

    def lie(self, header: tuple[str, bytes]) -> None:
        body = {"execution_id": E, "events": [event(self.n + 1, "execution.completed")]}
        self._append(orjson.dumps(body), E.encode(), header)

    def _append(self, value: bytes, key: bytes, header: tuple[str, bytes]) -> None:
        offset = len(self.records)
        self.records.append(
            SimpleNamespace(key=key, value=value, offset=offset, headers=[header], topic="execution.events")
        )

    def project(self, through: int | None = None) -> None:
        from handrail_contracts.journal import JournalFilter, Verdict

        offset, epoch, seq = self.stored
        state = JournalFilter(epoch, seq)
        for record in self.records[offset:through]:
            if state.take(record.offset, record.headers) is Verdict.ACCEPTED:
                events = orjson.loads(record.value)["events"]
                row = {"first_n": events[0]["n"], "last_n": events[-1]["n"], "at": None, "events": orjson.dumps(events)}
                self.history.append(row)
            offset = record.offset + 1
        self.stored = (offset, state.epoch, state.next_seq)

    def _positions(self, topics: Sequence[str]) -> list[dict[str, Any]]:
        offset, epoch, seq = self.stored
        return [{"topic": "execution.events", "partition": P, "next_offset": offset, "epoch": epoch, "next_seq": seq}]

    def _history(self, organization: str, project: str, execution: str, after: int, limit: int) -> list[dict[str, Any]]:
        return [row for row in self.history if row["last_n"] > after][:limit]

    def tail(self) -> LiveTail:
        async def start() -> "FakeReader":
            self.readers += 1
            return FakeReader(self)

        async def zero(_: Any, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
            return dict.fromkeys(places, 0)

        async def stop(_: Any) -> None: ...

        return LiveTail(self.database, start, zero, zero, stop)


@dataclass
class FakeReader:
    log: Log
    position: int = 0

    def assign(self, partitions: Sequence[TopicPartition]) -> None: ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        if partition == TopicPartition("execution.events", P):
            self.position = offset

    async def getmany(self, *, timeout_ms: int) -> Mapping[TopicPartition, Sequence[Any]]:
        await asyncio.sleep(0.001)
        if self.log.broken:
            self.log.broken = False
            raise OSError("the broker hung up")
        found = self.log.records[self.position :]
        self.position += len(found)
        return {TopicPartition("execution.events", P): found} if found else {}


@dataclass
class Words:
    """The log of progress: one word for each offset."""

    words: list[str] = field(default_factory=list)

    async def between(self, execution_id: str, start: int | None, since: float, end: int | None) -> Heard:
        told = [delta(offset, word) for offset, word in enumerate(self.words[:end]) if offset >= (start or 0)]
        return Heard(told, len(self.words) if end is None else end)

    async def close(self) -> None: ...


def delta(offset: int, word: str) -> Frame:
    found = progress_frame({"kind": "delta", "step_id": "a", "data": {"content": word}}, offset + 1)
    assert found is not None
    return found


def stream(log: Log, tail: LiveTail, position: tuple[int, int] = START, **more: Any) -> ExecutionStream:
    caller = Caller("ada", "acme", "apollo", more.pop("expires_at", 2**40))
    missed = more.pop("missed", Words())
    return ExecutionStream(log.database, Positions(log.database, 0.001), tail, missed, caller, E, position, **more)


async def drain(frames: AsyncIterator[Frame]) -> list[str]:
    async with asyncio.timeout(20):
        return [f"{found.position[0]}.{found.position[1]}" async for found in frames if found.position]


ALL = ["1.0", "2.0", "3.0", "4.0", "4.1"]
STORY = ("execution.started", "step.started", "step.completed", "execution.completed")


async def test_a_finished_execution_needs_no_tail() -> None:
    log = Log()
    log.claim()
    log.tell(*STORY)
    log.project()
    assert await drain(stream(log, log.tail()).frames()) == ALL
    assert log.readers == 0


@pytest.mark.parametrize("at", range(5))
async def test_resuming_anywhere_gives_the_rest_exactly_once(at: int) -> None:
    log = Log()
    log.claim()
    for kind in STORY:
        log.tell(kind)
    log.project()
    found = parse_position(ALL[at])
    assert found is not None
    assert await drain(stream(log, log.tail(), found[0]).frames()) == ALL[at + 1 :]


@pytest.mark.parametrize("projected", range(6))
@pytest.mark.parametrize("later", range(5))
async def test_however_far_the_projector_is_nothing_is_missed_and_nothing_told_twice(
    projected: int, later: int
) -> None:
    """The tail is ahead already (an older stream drives it); ours joins with the projector anywhere behind it."""
    log = Log()
    log.claim()
    tail = log.tail()
    other = tail.subscribe("other")
    for kind in STORY[:later]:
        log.tell(kind)
    await until(lambda: tail._next.get(JOURNAL, 0) == len(log.records))
    log.project(projected)
    hearing = asyncio.create_task(drain(stream(log, tail).frames()))
    await asyncio.sleep(0.005)
    for kind in STORY[later:]:
        log.tell(kind)
    await asyncio.sleep(0.005)
    log.project()
    assert await hearing == ALL
    tail.unsubscribe(other)
    await tail.close()


async def test_records_that_are_not_history_are_not_told() -> None:
    log = Log()
    log.claim()
    tail = log.tail()
    hearing = asyncio.create_task(drain(stream(log, tail).frames()))
    await asyncio.sleep(0.01)
    log.tell("execution.started")
    log.lie(record_header(log.epoch, log.seq + 1))
    log.lie(record_header(log.epoch + 1, 0))
    log.lie(("hr-journal", b"record/x/y"))
    log.claim()
    log.lie(record_header(0, 1))
    log.tell("step.started")
    log.tell("step.completed", "execution.completed")
    log.project()
    assert await hearing == ALL
    await tail.close()


async def test_a_tail_that_breaks_starts_over_and_the_stream_misses_nothing() -> None:
    log = Log()
    log.claim()
    tail = log.tail()
    hearing = asyncio.create_task(drain(stream(log, tail).frames()))
    await asyncio.sleep(0.01)
    log.tell("execution.started")
    await asyncio.sleep(0.01)
    log.broken = True
    log.tell("step.started", "step.completed")
    log.project()
    log.tell("execution.completed")
    assert await hearing == ALL
    assert log.readers == 2
    await tail.close()


async def test_many_streams_have_one_reader() -> None:
    log = Log()
    log.claim()
    tail = log.tail()
    hearing = [asyncio.create_task(drain(stream(log, tail).frames())) for _ in range(50)]
    await asyncio.sleep(0.02)
    for kind in STORY:
        log.tell(kind)
    log.project()
    assert await asyncio.gather(*hearing) == [ALL] * 50
    assert log.readers == 1
    await tail.close()


async def test_silence_is_filled_with_heartbeats() -> None:
    log = Log()
    tail = log.tail()
    frames = stream(log, tail, heartbeat_seconds=0.01).frames()
    assert [(await anext(frames)).event for _ in range(3)] == ["heartbeat"] * 3
    await frames.aclose()
    assert tail._subscriptions == {}
    await tail.close()


@pytest.mark.parametrize(("how", "reason"), [("slow", "slow"), ("stopping", "stopping"), ("expired", "expired")])
async def test_a_stream_ends_with_its_reason(how: str, reason: str) -> None:
    log = Log()
    tail = log.tail()
    now = [0.0]
    ours = stream(log, tail, heartbeat_seconds=0.01, expires_at=10, clock=lambda: now[0])
    frames = ours.frames()
    assert (await anext(frames)).event == "heartbeat"
    (subscription,) = tail._subscriptions[E.encode()]
    if how == "slow":
        for _ in range(QUEUE_RECORDS + 1):
            subscription.put(Said([], 1))
    elif how == "stopping":
        await tail.close()
    else:
        now[0] = 10.0
    with pytest.raises(StopAsyncIteration):
        while True:
            await anext(frames)
    assert ours.reason == reason
    await tail.close()


@pytest.mark.parametrize("heard", [None, 0, 2, 4])
@pytest.mark.parametrize("joined", [0, 3, 5])
async def test_words_told_before_it_joined_are_told_once_and_in_order(heard: int | None, joined: int) -> None:
    """It joins a tail that has come to word `joined`; the client has heard the first `heard`."""
    log, words = Log(), [f"w{number}" for number in range(6)]
    log.claim()
    log.tell("execution.started")
    tail = log.tail()
    other = tail.subscribe("other")
    await until(lambda: tail._next.get(JOURNAL, 0) == len(log.records))
    tail._next[TopicPartition("step.progressed", P)] = joined
    log.project()
    ours = stream(log, tail, progress=heard, missed=Words(words))
    told: list[Frame] = []

    async def listen() -> None:
        async for found in ours.frames():
            told.append(found)

    listening = asyncio.create_task(listen())
    await until(lambda: bool(told))
    await asyncio.sleep(0.01)
    (subscription,) = tail._subscriptions[E.encode()]
    for offset in range(max(0, joined - 1), len(words)):
        subscription.put(Said([delta(offset, words[offset])], 1))
    log.tell("execution.completed")
    log.project()
    await asyncio.wait_for(listening, 5)
    assert [orjson.loads(found.data)["content"] for found in told if found.event == "delta"] == words[heard or 0 :]
    *_, last = told
    assert last.encode().startswith(b"id: 2.1~6\n")
    assert parse_position("2.1~6") == ((2, 1), 6)
    tail.unsubscribe(other)
    await tail.close()
