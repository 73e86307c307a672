"""One tail of the journals, of progress and of agents for all streams and channels of the process, while there are any.

The tail starts where the projector is, with the epoch and sequence that the projector stored, so it knows which records
are history. It looks at keys first and parses only what somebody listens to. One that breaks goes on where it was.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from handrail_contracts.ids import partition_of
from handrail_contracts.journal import JournalFilter, Verdict
from handrail_contracts.topics import (
    AGENT_REGISTERED,
    APPROVAL_EVENTS,
    EXECUTION_EVENTS,
    EXECUTION_PARTITIONS,
    RUNNER_STATUS,
    STEP_PROGRESSED,
)
from handrail_runtime import bus
from handrail_runtime.settings import Settings

from handrail_gateway.progress import frame_of
from handrail_gateway.streaming import Frame, frames_of
from handrail_gateway.waiting import Fetch

log = structlog.get_logger()

QUEUE_RECORDS = 256
QUEUE_BYTES = 1024 * 1024
LINGER_SECONDS = 2.0
POLL_MS = 200
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0

JOURNALS = (EXECUTION_EVENTS, APPROVAL_EVENTS)
PROJECTED = (
    *(TopicPartition(topic, partition) for topic in JOURNALS for partition in range(EXECUTION_PARTITIONS)),
    TopicPartition(AGENT_REGISTERED, 0),
    TopicPartition(RUNNER_STATUS, 0),
)
"""What becomes read models, in the order in which a position names it."""
PROGRESS = tuple(TopicPartition(STEP_PROGRESSED, partition) for partition in range(EXECUTION_PARTITIONS))
Offsets = Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Tailing:
    """From now on the subscription gets every record at or after `offset`; what is before is in the history.

    Progress comes from `progress` on.
    """

    offset: int
    progress: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """The frames of one journal record (or of one progress message), made once for all who listen."""

    frames: Sequence[Frame]
    size: int


Item = Tailing | Said


@dataclass(eq=False, slots=True)
class Subscription:
    """What one stream still has to say. `lost` means that the client was too slow: the stream ends, and it may resume."""

    execution_id: str
    lost: bool = False
    closed: bool = False
    _items: deque[Item] = field(default_factory=deque)
    _bytes: int = 0
    _ready: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, item: Item) -> None:
        size = item.size if isinstance(item, Said) else 0
        if self._items and (len(self._items) >= QUEUE_RECORDS or self._bytes + size > QUEUE_BYTES):
            self.lost = True
            self._items.clear()
        if not self.lost:
            self._items.append(item)
            self._bytes += size
        self._ready.set()

    def close(self) -> None:
        self.closed = True
        self._ready.set()

    async def get(self, timeout: float) -> Item | None:
        """The next item; None after `timeout` seconds without one, and at once when the subscription is over."""
        if not self._items and not (self.lost or self.closed):
            self._ready.clear()
            try:
                await asyncio.wait_for(self._ready.wait(), timeout)
            except TimeoutError:
                return None
        if not self._items:
            return None
        item = self._items.popleft()
        self._bytes -= item.size if isinstance(item, Said) else 0
        return item


class Reader(Protocol):
    """What is used of `AIOKafkaConsumer`."""

    def assign(self, partitions: Sequence[TopicPartition]) -> None: ...
    def seek(self, partition: TopicPartition, offset: int) -> None: ...
    async def getmany(self, *, timeout_ms: int) -> Mapping[TopicPartition, Sequence[Any]]: ...


class Watcher(Protocol):
    """Hears of every record of the topics that become read models, if it is history."""

    def began(self, offsets: Offsets) -> None:
        """From here on; said each time that the tail begins. Usually it goes on where it was."""

    def take(self, place: TopicPartition, record: Any) -> None: ...


class LiveTail:
    def __init__(
        self,
        database: Fetch,
        start: Callable[[], Awaitable[Any]],
        begin: Callable[[Any, Sequence[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]] = bus.begin_offsets,
        end: Callable[[Any, Sequence[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]] = bus.end_offsets,
        stop: Callable[[Any], Awaitable[None]] = bus.stop,
    ) -> None:
        self._database, self._start, self._begin, self._end, self._stop = database, start, begin, end, stop
        self._subscriptions: dict[bytes, set[Subscription]] = {}
        self._watcher: Watcher | None = None
        self._tailing = False
        self._next: dict[TopicPartition, int] = {}
        self._filters: dict[TopicPartition, JournalFilter] = {}
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    @classmethod
    def from_settings(cls, database: Fetch, settings: Settings) -> "LiveTail":
        return cls(database, lambda: bus.start_reader(settings, "handrail-gateway-live", max_wait_ms=100))

    def subscribe(self, execution_id: str) -> Subscription:
        """A subscription whose first item is a `Tailing`; another one follows whenever the tail had to start over."""
        subscription = Subscription(execution_id, closed=self._closing)
        self._subscriptions.setdefault(execution_id.encode(), set()).add(subscription)
        if self._tailing:
            subscription.put(self._from_here(execution_id))
        self._wanted()
        return subscription

    def _from_here(self, execution_id: str) -> Tailing:
        partition = partition_of(execution_id, EXECUTION_PARTITIONS)
        journal, progress = (TopicPartition(topic, partition) for topic in (EXECUTION_EVENTS, STEP_PROGRESSED))
        return Tailing(self._next[journal], self._next[progress])

    def watch(self, watcher: Watcher | None) -> None:
        """There is one watcher at most; with None, there is none any more."""
        self._watcher = watcher
        if watcher is not None and self._tailing:
            watcher.began(self._next)
        self._wanted()

    def offsets(self) -> Offsets | None:
        """What it reads next, of what becomes read models; None while it is not reading."""
        return {place: self._next[place] for place in PROJECTED} if self._tailing else None

    def _wanted(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="live-tail")

    def unsubscribe(self, subscription: Subscription) -> None:
        key = subscription.execution_id.encode()
        remaining = self._subscriptions.get(key, set())
        remaining.discard(subscription)
        if not remaining:
            self._subscriptions.pop(key, None)

    async def close(self) -> None:
        """Ends every stream; their clients resume elsewhere."""
        self._closing = True
        for subscription in self._everybody():
            subscription.close()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def _everybody(self) -> list[Subscription]:
        return [subscription for group in self._subscriptions.values() for subscription in group]

    def _listeners(self) -> bool:
        return bool(self._subscriptions) or self._watcher is not None

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        self._next = {}
        while self._listeners() and not self._closing:
            reader = None
            try:
                reader = await self._start()
                await self._seek(reader)
                pause = FIRST_PAUSE
                await self._tail(reader)
            except Exception as error:  # whatever it is, the streams stay open and the tail starts over
                log.warning("live_tail_interrupted", error=repr(error), retry_in=pause)
                await asyncio.sleep(0 if self._closing else pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                if isinstance(error, OffsetOutOfRangeError):
                    self._next = {}  # there is no going on from there; what lies between is lost to watchers
            finally:
                self._tailing = False
                await self._stop(reader)

    async def _seek(self, reader: Reader) -> None:
        if not self._next:
            await self._begin_at_the_projector(reader)
        reader.assign(list(self._next))
        for place, offset in self._next.items():
            reader.seek(place, offset)
        self._tailing = True
        for subscription in self._everybody():
            subscription.put(self._from_here(subscription.execution_id))
        if self._watcher is not None:
            self._watcher.began(self._next)

    async def _begin_at_the_projector(self, reader: Reader) -> None:
        rows = await self._database.fetch("positions", list({place.topic for place in PROJECTED}))
        projected = {TopicPartition(row["topic"], row["partition"]): row for row in rows}
        fresh = [place for place in PROJECTED if place not in projected]
        begins = await self._begin(reader, fresh) if fresh else {}
        found = dict(await self._end(reader, PROGRESS))
        for place in PROJECTED:
            row = projected.get(place)
            if place.topic in JOURNALS:
                state = JournalFilter() if row is None else JournalFilter(row["epoch"], row["next_seq"])
                self._filters[place] = state
            found[place] = begins[place] if row is None else row["next_offset"]
        self._next = found

    async def _tail(self, reader: Reader) -> None:
        idle_since: float | None = None
        clock = asyncio.get_running_loop().time
        while not self._closing:
            for place, records in (await reader.getmany(timeout_ms=POLL_MS)).items():
                self._take(place, records)
            if self._listeners():
                idle_since = None
            elif idle_since is None:
                idle_since = clock()
            elif clock() - idle_since > LINGER_SECONDS:
                return

    def _take(self, place: TopicPartition, records: Sequence[Any]) -> None:
        state = self._filters.get(place)
        for record in records:
            self._next[place] = record.offset + 1
            if state is not None and state.take(record.offset, record.headers) is not Verdict.ACCEPTED:
                continue
            if self._watcher is not None and place.topic != STEP_PROGRESSED:
                self._watcher.take(place, record)
            if place.topic not in (EXECUTION_EVENTS, STEP_PROGRESSED):
                continue
            listeners = self._subscriptions.get(record.key)
            if listeners and (said := _said(state is not None, record)) is not None:
                for subscription in listeners:
                    subscription.put(said)


def _said(journal: bool, record: Any) -> Said | None:
    if not journal:
        found = frame_of(record)
        return None if found is None else Said([found], len(record.value))
    try:
        body = orjson.loads(record.value)
        frames = list(frames_of(body["execution_id"], body["events"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("live_record_unreadable", topic=record.topic, offset=record.offset, error=repr(error))
        return None
    return Said(frames, len(record.value)) if frames else None
