"""One pipeline from topics to clients: what has changed is gathered for a moment, read once, and sent to all who listen.

Everything that clients are told of objects goes through one task, batch by batch, so what a client hears of an object is never
older than what it heard before. A batch ends at a place in the topics; it is read after the projector has passed that place.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from handrail_contracts.topics import AGENT_REGISTERED, RUNNER_STATUS
from handrail_runtime.errors import Unavailable

from handrail_gateway.channels.changes import Beats, Changes, Tenant, changes_of
from handrail_gateway.channels.messages import CARRIED_BY, Message
from handrail_gateway.channels.outbox import Item, item
from handrail_gateway.channels.positions import encode_position
from handrail_gateway.channels.reading import Reading
from handrail_gateway.live import LiveTail, Offsets, Watcher
from handrail_gateway.problems import Problem
from handrail_gateway.waiting import Positions

log = structlog.get_logger()

GATHER_SECONDS = 0.02
"""From one batch to the next, at least; what happens while one is under way is gathered for the next."""
RETRY_SECONDS = 0.3
MOST_CHANGES = 10_000
"""What may wait to be looked at, of one tenant. If it is more, its clients are told to read the lists afresh."""
KNOWN_OWNERS = 50_000
STARTS_AT_ONCE = 50
NOBODY: Tenant = ("", "")


class Missed(Protocol):
    async def since(self, starts: Mapping[str, Offsets], end: Offsets) -> Mapping[str, Changes]: ...
    async def close(self) -> None: ...


class Member(Protocol):
    """A client. Nothing here waits for it."""

    def joined(self, channel: str, position: str) -> None: ...
    def hear(self, item: Item) -> None: ...
    def lost(self, channel: str, position: str) -> None:
        """What happened up to this position cannot be told; what comes after it will be."""


@dataclass(eq=False, slots=True)
class Joining:
    """Who wants to listen, from `start` on if it was there before; `after` is that as the client wrote it."""

    member: Member
    channel: str
    after: str = ""
    start: Offsets | None = None
    missed: Changes | None = None
    too_old: bool = False

    @property
    def ready(self) -> bool:
        return self.start is None or self.missed is not None or self.too_old


@dataclass(slots=True)
class Room:
    """The listeners of one tenant. `recent`: what has changed since those came who still catch up."""

    members: dict[str, set[Member]] = field(default_factory=dict)
    joining: dict[tuple[Member, str], Joining] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)
    recent: Changes = field(default_factory=Changes)
    lost: bool = False

    def note(self, changes: Changes) -> None:
        self.changes.merge(changes)
        if self.changes.size > MOST_CHANGES:
            self.changes, self.lost = Changes(), True

    def cut(self) -> "Part":
        ready = [each for each in self.joining.values() if each.ready]
        part = Part(self.changes, ready, self.lost)
        self.changes, self.lost = Changes(), False
        return part


@dataclass(slots=True)
class Part:
    """What a batch holds for one room."""

    changes: Changes
    joining: list[Joining]
    lost: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """`before` is where the batch before it ended, `end` where this one does."""

    before: str
    end: str
    offsets: Offsets
    parts: dict[Tenant, Part]
    unknown: Changes


class Hub(Watcher):
    def __init__(self, tail: LiveTail, positions: Positions, reading: Reading, backlog: Missed) -> None:
        self._tail, self._positions, self._reading, self._backlog = tail, positions, reading, backlog
        self._rooms: dict[Tenant, Room] = {}
        self._owners: dict[str, Tenant] = {}
        self._wake = asyncio.Event()
        self._pipeline: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._begin()

    def _begin(self) -> None:
        self._unknown, self._beats = Changes(), Beats()
        self._read: dict[TopicPartition, int] = {}
        self._position, self._resting = "", False

    # --- who listens --------------------------------------------------------------------------------------------------

    def join(self, tenant: Tenant, joining: Joining) -> None:
        """Answered by `joined`, once what the lists show is as new as the position that it names, or by `lost`."""
        room = self._rooms.setdefault(tenant, Room())
        room.joining[joining.member, joining.channel] = joining
        if self._pipeline is None or self._pipeline.done():
            self._begin()
            self._pipeline = asyncio.create_task(self._run(), name="hub")
            self._tail.watch(self)
        if joining.start is not None and (self._catching_up is None or self._catching_up.done()):
            self._catching_up = asyncio.create_task(self._catch_up(), name="hub-backlog")
        self._wake.set()

    def leave(self, tenant: Tenant, member: Member, channel: str) -> None:
        if (room := self._rooms.get(tenant)) is None:
            return
        room.joining.pop((member, channel), None)
        listening = room.members.get(channel, set())
        listening.discard(member)
        if not listening:
            room.members.pop(channel, None)
        if not room.members and not room.joining:
            del self._rooms[tenant]
            self._wake.set()

    def position(self) -> str:
        """What clients that have joined have heard up to here, or will before anything that they are sent from now on."""
        if self._resting and not self._wake.is_set() and (offsets := self._tail.offsets()) is not None:
            self._position = encode_position(offsets)
        return self._position

    async def close(self) -> None:
        tasks = [task for task in (self._pipeline, self._catching_up) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tail.watch(None)
        await self._backlog.close()

    # --- what the tail tells ------------------------------------------------------------------------------------------

    def began(self, offsets: Offsets) -> None:
        if any(offsets[place] > offset for place, offset in self._read.items()):
            self._lose()
        self._wake.set()

    def take(self, place: TopicPartition, record: Any) -> None:
        self._read[place] = record.offset + 1
        try:
            self._note(place.topic, record)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            log.warning("channel_record_unreadable", topic=place.topic, offset=record.offset, error=repr(error))

    def _note(self, topic: str, record: Any) -> None:
        if topic in (AGENT_REGISTERED, RUNNER_STATUS):
            news = self._beats.news(record.value) if topic == RUNNER_STATUS else changes_of(topic, record.value)[0]
            if news:
                for room in self._rooms.values():
                    room.note(news)
                self._wake.set()
            return
        execution_id = (record.key or b"").decode()
        owner = self._owners.get(execution_id)
        if owner is not None and owner not in self._rooms:
            return
        changes, said = changes_of(topic, record.value)
        if said is not None:
            owner = self._know(execution_id, said)
        if owner is None:
            self._unknown.merge(changes)
            if self._unknown.size > MOST_CHANGES:
                self._unknown = Changes()
                self._lose()
        elif owner in self._rooms:
            self._rooms[owner].note(changes)
        else:
            return
        if changes:
            self._wake.set()

    def _know(self, execution_id: str, owner: Tenant) -> Tenant:
        self._owners[execution_id] = owner
        if len(self._owners) > KNOWN_OWNERS:
            del self._owners[next(iter(self._owners))]
        return owner

    def _lose(self) -> None:
        for room in self._rooms.values():
            room.lost = True

    # --- the pipeline -------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        clock, last = asyncio.get_running_loop().time, 0.0
        while self._rooms:
            self._resting = True
            await self._wake.wait()
            self._resting = False
            self._wake.clear()
            await asyncio.sleep(max(0.0, last + GATHER_SECONDS - clock()))
            last = clock()
            if (batch := self._cut()) is not None:
                try:
                    await self._deliver(batch)
                except Exception:  # a mistake of ours: whoever listens is told to look afresh, and it goes on
                    log.exception("channels_failed")
                    self._lose()
                    self._wake.set()
                    await asyncio.sleep(RETRY_SECONDS)
                self._position = batch.end
        self._tail.watch(None)

    async def _deliver(self, batch: Batch) -> None:
        await self._projected(batch.offsets)
        await self._assign(batch)
        for tenant, part in batch.parts.items():
            if tenant in self._rooms:
                await self._tell(tenant, part, batch)

    def _cut(self) -> Batch | None:
        """What was gathered, up to where the tail is; None while it is nowhere."""
        offsets = self._tail.offsets()
        if offsets is None:
            return None
        end, unknown = encode_position(offsets), self._unknown
        parts = {tenant: room.cut() for tenant, room in self._rooms.items()}
        self._unknown = Changes()
        return Batch(self._position or end, end, offsets, parts, unknown)

    async def _projected(self, offsets: Offsets) -> None:
        targets = {(place.topic, place.partition): offset for place, offset in offsets.items()}
        while True:
            try:
                if await self._positions.wait(targets):
                    return
            except Problem as problem:
                log.warning("channels_wait", cause=problem.detail)
                await asyncio.sleep(RETRY_SECONDS)

    async def _assign(self, batch: Batch) -> None:
        """What was noted before it was known whose it is goes to whose it is."""
        names = batch.unknown.stories
        if not names:
            return
        while True:
            try:
                owners = await self._reading.owners(names)
                break
            except Problem as problem:
                log.warning("channels_wait", cause=problem.detail)
                await asyncio.sleep(RETRY_SECONDS)
        theirs: dict[Tenant, set[str]] = {}
        for name in names:
            theirs.setdefault(self._know(name, owners.get(name, NOBODY)), set()).add(name)
        for tenant, part in batch.parts.items():
            if tenant in theirs:
                part.changes.merge(batch.unknown.of(theirs[tenant]))

    async def _tell(self, tenant: Tenant, part: Part, batch: Batch) -> None:
        room = self._rooms[tenant]
        part.joining = [each for each in part.joining if room.joining.get((each.member, each.channel)) is each]
        if len(part.joining) < len(room.joining) or any(each.start is not None for each in part.joining):
            room.recent.merge(part.changes)
        if part.lost:
            for channel, members in list(room.members.items()):
                for member in list(members):
                    member.lost(channel, batch.end)
        elif part.changes and room.members:
            messages = await self._messages(tenant, part.changes, set(room.members))
            for channel, members in list(room.members.items()):
                if (said := item(channel, _carried(messages, channel), batch.before, batch.end)) is not None:
                    for member in list(members):
                        member.hear(said)
        await self._welcome(tenant, room, part, batch)
        if all(each.start is None for each in room.joining.values()):
            room.recent = Changes()

    async def _welcome(self, tenant: Tenant, room: Room, part: Part, batch: Batch) -> None:
        resumed: dict[str, list[Joining]] = {}
        for each in part.joining:
            if each.start is not None and each.missed is not None and not part.lost:
                resumed.setdefault(each.after, []).append(each)
            elif each.start is not None:
                each.member.lost(each.channel, batch.end)
            else:
                each.member.joined(each.channel, batch.end)
        for after, several in resumed.items():
            missed = Changes()
            missed.merge(several[0].missed or Changes())
            missed.merge(room.recent)
            messages = await self._messages(tenant, missed, {each.channel for each in several})
            said = {
                name: item(name, _carried(messages, name), after, batch.end) for name in {e.channel for e in several}
            }
            for each in several:
                told = said[each.channel]
                each.member.joined(each.channel, batch.end if told is None else after)
                if told is not None:
                    each.member.hear(told)
        for each in part.joining:
            if room.joining.pop((each.member, each.channel), None) is not None:
                room.members.setdefault(each.channel, set()).add(each.member)

    async def _messages(self, tenant: Tenant, changes: Changes, channels: set[str]) -> list[Message]:
        while True:
            try:
                return await self._reading.messages(tenant, changes, channels)
            except Problem as problem:
                log.warning("channels_wait", cause=problem.detail)
                await asyncio.sleep(RETRY_SECONDS)

    # --- what was missed ----------------------------------------------------------------------------------------------

    async def _catch_up(self) -> None:
        """For all who came with a position, a few at a time."""
        while waiting := [each for room in self._rooms.values() for each in room.joining.values() if not each.ready]:
            starts: dict[str, Offsets] = {}
            for each in waiting:
                if each.start is not None and (each.after in starts or len(starts) < STARTS_AT_ONCE):
                    starts[each.after] = each.start
            offsets = self._tail.offsets()
            try:
                if offsets is None:
                    raise Unavailable("the tail does not run yet")
                found = await self._backlog.since(starts, offsets)
            except (KafkaError, Unavailable, TimeoutError, OSError) as error:
                log.warning("backlog_waits", error=repr(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for each in waiting:
                if each.after in starts:
                    each.missed = found.get(each.after)
                    each.too_old = each.missed is None or each.missed.size > MOST_CHANGES
            self._wake.set()


def _carried(messages: Iterable[Message], channel: str) -> list[Message]:
    return [each for each in messages if channel in CARRIED_BY[each.type]]
