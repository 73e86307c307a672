"""One journal partition as a machine without I/O: the shell and the simulation drive the same code.

Two rules hold the file together:
- What was only decided may be written to the journal; what was acknowledged may be said as a command to those who know
  fences; only what was read back may be said to the public or go into a snapshot.
- Memory may run ahead of the journal. When the journal refuses it, the machine is thrown away and folded again.
"""

import heapq
from collections import deque
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic

from handrail_contracts.codec import MAX_RECORD_BYTES, DecodeError, decode, encode
from handrail_contracts.envelope import utc
from handrail_contracts.ids import partition_of
from handrail_contracts.journal import (
    GENESIS,
    NO_EPOCH,
    Fences,
    Headers,
    JournalFilter,
    Record,
    Source,
    Stamp,
    Verdict,
    chain_header,
    claim_header,
    link,
    record_header,
)

from handrail_runtime.errors import Fenced
from handrail_runtime.machine.core import Core, Instead, Kind, Outgoing, Refused, S, TimerDue, TooLarge
from handrail_runtime.machine.ended import EndedIds
from handrail_runtime.turns import Busy

TIMER = "timer"


@dataclass(frozen=True, slots=True)
class Append:
    """A record to append to the journal, in order."""

    seq: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Input:
    """A record of an input topic, as fetched."""

    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Rejected:
    """An input that goes to the dead letters."""

    input: Input
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Misrouted:
    """An input that belongs to another partition of its topic: to be written there, as it is."""

    input: Input
    key: str


class TimerFailed(Exception):
    """Deciding on a timer failed in a way that nobody foresaw; this machine is of no more use."""

    def __init__(self, execution_id: str, token: str) -> None:
        super().__init__(f"{execution_id}: {token}")
        self.execution_id, self.token = execution_id, token


@dataclass(slots=True)
class _Undelivered:
    """One-way messages of an accepted record, until a marker says that they were acknowledged."""

    offset: int
    messages: list[Outgoing]


@dataclass(slots=True)
class _Pending:
    """A record on its way: said to others step by step as the journal confirms it."""

    seq: int
    commands: list[Outgoing]
    facts: list[Outgoing]


class PartitionMachine(Generic[S]):
    """Folds, claims, decides. Not thread-safe; every method returns at once.

    Life: `fold` every journal record from the snapshot on; append `claim`; `fold` up to it (`claimed` says whether it
    counted); then `handle`, `fire_timers` and `take_appends`, with `acknowledged` and `read_back` as the journal
    confirms. Any `Fenced` ends it.
    """

    def __init__(self, core: Core[S], partition: int, partitions: int, fences: Fences) -> None:
        self.core, self.partition = core, partition
        self.filter = JournalFilter()
        self.positions: dict[str, int] = dict.fromkeys(core.wiring.inputs, 0)
        self.beyond: dict[str, set[int]] = {topic: set() for topic in core.wiring.inputs}
        self.next_offset = 0
        self.has_history = False
        self.acknowledged_offset = -1
        self.epoch = NO_EPOCH
        self.chain = GENESIS
        self.states: dict[str, S | bytes] = {}
        self.ended = EndedIds()
        self.facts_waiting = 0
        self.busy = Busy(0)
        self._partitions, self._fences = partitions, fences
        self._timers: list[tuple[float, str, str]] = []
        self._next_seq = 0
        self._unacknowledged: deque[_Pending] = deque()
        self._unread: deque[_Pending] = deque()
        self._undelivered: deque[_Undelivered] = deque()
        self._delivered_commands_seq = self._delivered_facts_offset = -1
        self._read: deque[tuple[int, int]] = deque()
        self._appends: list[Append] = []
        self._rejected: list[Rejected] = []
        self._misrouted: list[Misrouted] = []
        self._unmarked = False

    # --- recovery ---------------------------------------------------------------------------------------------------

    @property
    def owner(self) -> str:
        return f"{self.core.wiring.service}/{self.partition}"

    def fold(self, offset: int, headers: Headers, value: bytes | None) -> Verdict:
        """Takes a journal record into the state if it counts. For recovery, and for readers of the whole journal."""
        verdict = self.filter.take(offset, headers)
        self.next_offset = offset + 1
        if verdict is Verdict.ACCEPTED:
            self.has_history = True
            if self.core.wiring.chained:
                self.chain = link(self.chain, value)
            self._apply(offset, decode(self.core.wiring.journal, value))
        return verdict

    def _apply(self, offset: int, record: Record) -> None:
        if record.source is not None and record.source.topic in self.beyond:
            self._note_decided(record.source.topic, record.source.offset)
        if record.positions is not None:
            for topic, position in record.positions.items():
                self.pass_by(topic, position)
            self._forget_passed()
        if record.acknowledged is not None:
            self._forget_delivered(record.acknowledged)
        events = getattr(record, "events", ())
        if not events:
            return
        messages: list[Outgoing] = []
        state = self._load(record.execution_id)
        for event in events:
            self.core.evolve(state, event, record)
            self._after_event(record.execution_id, event)
            messages += self.core.react(state, event, record, self.partition, requests=False)
        self._store(record.execution_id, state)
        if messages:
            self._undelivered.append(_Undelivered(offset, messages))

    def is_decided(self, topic: str, offset: int) -> bool:
        return offset < self.positions[topic] or offset in self.beyond[topic]

    def _note_decided(self, topic: str, offset: int) -> None:
        """What comes out of order is remembered one by one until the position passes it."""
        beyond = self.beyond[topic]
        if offset != self.positions[topic]:
            beyond.add(offset)
            return
        offset += 1
        while offset in beyond:
            beyond.discard(offset)
            offset += 1
        self.positions[topic] = offset

    def pass_by(self, topic: str, position: int) -> None:
        """Everything before `position` is decided, or is no record."""
        if position > self.positions.get(topic, 0):
            self.positions[topic] = position
            self._unmarked = True

    def _forget_passed(self) -> None:
        for topic, beyond in self.beyond.items():
            position = self.positions[topic]
            self.beyond[topic] = {offset for offset in beyond if offset >= position}

    def _forget_delivered(self, offset: int) -> None:
        self.acknowledged_offset = max(self.acknowledged_offset, offset)
        while self._undelivered and self._undelivered[0].offset <= offset:
            self._undelivered.popleft()

    def restore(
        self,
        *,
        epoch: int,
        next_seq: int,
        offset: int,
        acknowledged: int,
        positions: dict[str, int],
        beyond: dict[str, set[int]],
        chain: str = "",
    ) -> None:
        """Begins after a snapshot that is true up to and including `offset`."""
        self.chain = chain or GENESIS
        self.filter, self.has_history = JournalFilter(epoch, next_seq), True
        self.next_offset, self.acknowledged_offset = offset + 1, acknowledged
        self.positions.update(positions)
        self.beyond.update(beyond)

    def restore_state(self, packed: bytes) -> None:
        """One state of a snapshot."""
        state = self.core.unpack(packed)
        execution_id: str = state.execution_id  # type: ignore[attr-defined]  # every core's state says whose it is
        self.states[execution_id] = packed if self.core.is_parked(state) else state
        for timer in self.core.live_timers(state):
            heapq.heappush(self._timers, (timer.due, execution_id, timer.token))

    def fence_stamp(self) -> Stamp:
        """The epoch that has to be fenced before `claim` may be appended."""
        return Stamp(self.owner, self.filter.epoch)

    def claim(self, nonce: str) -> tuple[list[tuple[str, bytes]], bytes]:
        """Headers and value of the claim; it names the epoch that was fenced."""
        return [claim_header(self.filter.epoch, nonce)], b"{}"

    def claimed(self, offset: int) -> bool:
        """After folding up to the claim at `offset`: whether it counted. Then `offset` is our epoch."""
        if self.filter.epoch != offset:
            return False
        self.epoch, self._next_seq = offset, 0
        return True

    def undelivered(self) -> list[Outgoing]:
        """One-way messages that may not have been delivered before the claim: to be sent again, with the same ids."""
        return [message for batch in self._undelivered for message in batch.messages]

    def undelivered_sent(self) -> None:
        self._undelivered.clear()
        self.acknowledged_offset = max(self.acknowledged_offset, self.epoch)

    def outstanding(self, execution_ids: Iterable[str]) -> Iterator[Outgoing]:
        """Requests that these executions still wait for; call once all inputs that lay there at the claim are decided.

        Those of records that the journal has not acknowledged yet are left out: nobody may hear of them before it has.
        """
        unsaid = {command.message.event_id for pending in self._unacknowledged for command in pending.commands}
        for execution_id in execution_ids:
            packed = self.states.get(execution_id)
            if packed is None:
                continue
            state = self.core.unpack(packed) if isinstance(packed, bytes) else packed
            for request in self.core.outstanding(state, self.partition):
                if request.message.event_id not in unsaid:
                    yield request

    # --- deciding ---------------------------------------------------------------------------------------------------

    def handle(self, received: Input, now: float, instead: Instead | None = None) -> None:
        """Decides on one input; `instead` if the ordinary decision was tried and can't be.

        Raises `Missing` (nothing has changed; catch up and try again) or `TooLarge` (this machine is of no more use).
        """
        if self.is_decided(received.topic, received.offset):
            return
        self._take_in(received, now, instead)
        self._note_decided(received.topic, received.offset)
        self._unmarked = True

    def _take_in(self, received: Input, now: float, instead: Instead | None) -> None:
        if received.topic in self.core.wiring.fenced_inputs and not self._is_authorised(received):
            return
        try:
            message = decode(received.topic, received.value)
        except DecodeError as error:
            self._rejected.append(Rejected(received, error.code, str(error)))
            return
        execution_id: str = message.execution_id
        if partition_of(execution_id, self._partitions) != self.partition:
            self._misrouted.append(Misrouted(received, execution_id))
            return
        try:
            self._decide(execution_id, message, Source(topic=received.topic, offset=received.offset), now, instead)
        except Refused as refusal:
            self._rejected.append(Rejected(received, refusal.code, str(refusal)))

    def _is_authorised(self, received: Input) -> bool:
        try:
            if self._fences.observe(received.headers):
                return False
            return self._fences.allows(received.headers)
        except ValueError:
            self._rejected.append(Rejected(received, "BAD_STAMP", "the record's fence or command header can't be read"))
            return False

    def refuse(self, received: Input, code: str, reason: str) -> None:
        """Passes an input over without deciding on it; it goes to the dead letters."""
        if not self.is_decided(received.topic, received.offset):
            self._note_decided(received.topic, received.offset)
            self._unmarked = True
            self._rejected.append(Rejected(received, code, reason))

    def fire_timers(self, now: float, limit: int = 1000, skip: Container[tuple[str, str]] = ()) -> int:
        """Decides on timers that are due, earliest first; returns how many there were. Raises `TimerFailed`."""
        fired = 0
        while self._timers and self._timers[0][0] <= now and fired < limit:
            _, execution_id, token = heapq.heappop(self._timers)
            if execution_id in self.states and (execution_id, token) not in skip:
                try:
                    self._decide(execution_id, TimerDue(token), Source(topic=TIMER), now, None)
                except Exception as error:
                    raise TimerFailed(execution_id, token) from error
            fired += 1
        return fired

    def next_due(self) -> float | None:
        return self._timers[0][0] if self._timers else None

    def _decide(self, execution_id: str, message: Any, source: Source, now: float, instead: Instead | None) -> None:
        state = self._load(execution_id)
        workflow_id = self.core.workflow_id(state) or getattr(message, "workflow_id", "")
        clock = self.core.wiring.record(at=utc(now), execution_id=execution_id, workflow_id=workflow_id)
        events: list[Any] = []
        commands: list[Outgoing] = []
        facts: list[Outgoing] = []

        def emit(event: Any) -> None:
            events.append(event)
            self.core.evolve(state, event, clock)
            self._after_event(execution_id, event)
            for outgoing in self.core.react(state, event, clock, self.partition):
                (facts if outgoing.kind is Kind.FACT else commands).append(outgoing)

        if instead is not None:
            self.core.decide_instead(state, message, instead, now, emit)
        else:
            self.core.decide(state, message, now, emit, self.ended.__contains__)
        if not events:
            return
        self._store(execution_id, state)
        if self.core.wiring.begins is not None:
            self._note_busy(execution_id, state, now)
        record = clock.model_copy(update={"source": source, "events": tuple(events)})
        self._append(execution_id, record, commands, facts)

    def _append(self, key: str, record: Record, commands: list[Outgoing], facts: list[Outgoing]) -> None:
        value = encode(record)
        if len(value) + len(key) > MAX_RECORD_BYTES:
            raise TooLarge(f"{key}: {len(value)} bytes")
        seq = self._next_seq
        self._next_seq += 1
        headers = [record_header(self.epoch, seq)]
        if self.core.wiring.chained:
            headers.append(chain_header(self.chain))
            self.chain = link(self.chain, value)
        self._appends.append(Append(seq, key.encode(), value, headers))
        pending = _Pending(seq, commands, facts)
        self.facts_waiting += len(facts)
        self._unacknowledged.append(pending)
        self._unread.append(pending)

    def _load(self, execution_id: str) -> S:
        state = self.states.get(execution_id)
        if state is None:
            return self.core.new(execution_id)
        return self.core.unpack(state) if isinstance(state, bytes) else state

    def _store(self, execution_id: str, state: S) -> None:
        if self.core.is_finished(state):
            self.states.pop(execution_id, None)
        elif self.core.is_parked(state):
            self.states[execution_id] = self.core.pack(state)
        else:
            self.states[execution_id] = state

    def _note_busy(self, execution_id: str, state: S, now: float) -> None:
        tenant = self.core.busy_for(state)
        if tenant is None:
            self.busy.leave(execution_id)
        else:
            self.busy.touch(execution_id, tenant, now)

    def _after_event(self, execution_id: str, event: Any) -> None:
        for timer in self.core.timers(event):
            heapq.heappush(self._timers, (timer.due, execution_id, timer.token))
        ended = self.core.ending(event, execution_id)
        if ended is not None:
            self.ended.add(ended)

    def sweep_timers(self) -> None:
        """Drops timers of executions that have ended; cheap enough to call now and then."""
        alive = [entry for entry in self._timers if entry[1] in self.states]
        if len(alive) < len(self._timers):
            heapq.heapify(alive)
            self._timers = alive

    @property
    def timer_count(self) -> int:
        return len(self._timers)

    # --- confirming -------------------------------------------------------------------------------------------------

    def take_appends(self) -> list[Append]:
        """What is to be appended to the journal next, in order."""
        appends, self._appends = self._appends, []
        return appends

    def take_set_aside(self) -> tuple[list[Rejected], list[Misrouted]]:
        """Inputs for the dead letters, and inputs for other partitions."""
        taken = (self._rejected, self._misrouted)
        self._rejected, self._misrouted = [], []
        return taken

    def stamp(self) -> Stamp:
        """Goes on every command: who decided it, and in which epoch."""
        return Stamp(self.owner, self.epoch)

    def acknowledged(self, seq: int) -> list[Outgoing]:
        """The journal took everything up to `seq`: the commands that may be sent now."""
        commands: list[Outgoing] = []
        while self._unacknowledged and self._unacknowledged[0].seq <= seq:
            commands += self._unacknowledged.popleft().commands
        return commands

    def read_back(self, offset: int, headers: Headers) -> list[Outgoing]:
        """A record at our journal's end, as every reader sees it: the facts that may be published now.

        Raises `Fenced` if it is a claim that is not ours, or if a record of ours is missing.
        """
        if offset < self.next_offset:
            return []
        before = self.filter.next_seq
        verdict = self.filter.take(offset, headers)
        self.next_offset = offset + 1
        if verdict is Verdict.CLAIM:
            raise Fenced(f"{self.owner}: epoch {self.epoch} ended, the claim at offset {offset} counts")
        if verdict is Verdict.IGNORED:
            if self._is_ours(headers):
                raise Fenced(f"{self.owner}: the record at offset {offset} follows a gap; expected sequence {before}")
            return []
        pending = self._unread.popleft()
        self._read.append((pending.seq, offset))
        self.facts_waiting -= len(pending.facts)
        return pending.facts

    def _is_ours(self, headers: Headers) -> bool:
        prefix = b"record/%d/" % self.epoch
        return any(name == "hr-journal" and value.startswith(prefix) for name, value in headers)

    def is_quiet(self) -> bool:
        """Everything decided was read back: memory equals what every reader folds."""
        return not self._unread and not self._appends

    def commands_delivered(self, seq: int) -> None:
        """Commands of records up to `seq` were acknowledged by their topics."""
        self._delivered_commands_seq = max(self._delivered_commands_seq, seq)
        self._note_delivered()

    def facts_delivered(self, offset: int) -> None:
        """Facts of records up to journal offset `offset` were acknowledged by their topics."""
        self._delivered_facts_offset = max(self._delivered_facts_offset, offset)
        self._note_delivered()

    def _note_delivered(self) -> None:
        """A record is done with when its commands and its facts have arrived, whichever comes last."""
        while self._read:
            seq, offset = self._read[0]
            if seq > self._delivered_commands_seq or offset > self._delivered_facts_offset:
                break
            self.acknowledged_offset = offset
            self._read.popleft()

    def is_delivered(self) -> bool:
        """Everything that the records say to others was acknowledged, and memory equals what every reader folds."""
        return self.is_quiet() and not self._read and not self._undelivered

    def mark(self, now: float) -> bool:
        """Appends a marker if there is something new to say: positions, and what was delivered."""
        if not self._unmarked:
            return False
        self._unmarked = not self.is_delivered()
        self._forget_passed()
        record = self.core.wiring.record(
            at=utc(now), positions=dict(self.positions), acknowledged=self.acknowledged_offset
        )
        self._append("", record, [], [])
        return True
