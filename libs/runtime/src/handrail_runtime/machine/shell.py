"""The shell: owns partitions, moves bytes between the topics and the machines, and keeps the order of things.

The order (docs/architecture.md): inputs are decided in micro-batches; journal records are appended; after their
acknowledgement commands are sent; after they were read back facts are published; markers and snapshots come behind.
Anything unexpected ends in one place: drop everything, recover, claim again.
"""

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from handrail_contracts.codec import cloud_event_headers, encode
from handrail_contracts.envelope import Message
from handrail_contracts.journal import Fences
from handrail_contracts.platform import SnapshotChunk
from handrail_contracts.topics import DEAD_LETTERS, FENCES

from handrail_runtime.deadletters import dead_letter, letter_bytes
from handrail_runtime.errors import Fenced, JournalRegressed, Unavailable
from handrail_runtime.machine import snapshots
from handrail_runtime.machine.core import Catalog, Core, Instead, Kind, Missing, Outgoing, S, TooLarge
from handrail_runtime.machine.intake import MICRO_BATCH, Intake
from handrail_runtime.machine.partition import Append, Input, PartitionMachine, TimerFailed
from handrail_runtime.machine.recovery import Recovery, observe_fence, read_fences
from handrail_runtime.membership import Membership
from handrail_runtime.outbox import Outbox
from handrail_runtime.positions import Positions
from handrail_runtime.reader import Reader
from handrail_runtime.service import Health
from handrail_runtime.settings import Settings
from handrail_runtime.telemetry import CONSUMER_LAG, JOURNAL_POSITION, RECOVERY_SECONDS
from handrail_runtime.writer import Parcel, Writer, deliver

log = structlog.get_logger()

JOURNAL_BATCHES_IN_FLIGHT = 24
TICK_SECONDS = 0.1
TAIL_SECONDS = 0.1
REST_SECONDS = 0.25
TAIL_WAIT_MS = 10
HOUSEKEEPING_SECONDS = 1.0
REQUESTED_AGAIN_AT_ONCE = 500


class Observer:
    """What a service wants to know for its metrics; does nothing by itself."""

    def fact(self, message: Message) -> None:
        """A fact was read back and is about to be published."""

    def gauge(self, live: dict[int, int]) -> None:
        """States in memory by partition, about once a second."""


@dataclass(slots=True)
class Troubles:
    """What earlier lives of this process could not decide in the ordinary way, by place (topic, partition, offset)."""

    oversized: set[tuple[str, int, int]] = field(default_factory=set)
    undecidable: dict[tuple[str, int, int], str] = field(default_factory=dict)
    timers: set[tuple[str, str]] = field(default_factory=set)


class Shell(Generic[S]):
    """Runs a core over the partitions that the group gives it, until told to stop."""

    def __init__(
        self,
        core: Core[S],
        settings: Settings,
        health: Health,
        catalog: Catalog | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._core, self._settings, self._health, self._catalog = core, settings, health, catalog
        self._observer = observer or Observer()
        self._troubles = Troubles()

    async def run(self, stop: asyncio.Event) -> None:
        """Lives, and lives again after every fault that claiming again cures. Raises `JournalRegressed`: a person must look."""
        delay = 0.1
        while not stop.is_set():
            life = _Life(self._core, self._settings, self._health, self._catalog, self._observer, self._troubles)
            began = time.monotonic()
            try:
                await life.run(stop)
            except (Fenced, Unavailable, KafkaError, OSError, TimeoutError) as error:
                self._health.set_not_ready(f"recovering: {error}")
                log.warning("shell_starts_over", error=str(error) or repr(error))
            finally:
                await life.close()
            delay = 0.1 if time.monotonic() - began > 10 else min(delay * 2, 3.0)
            if not stop.is_set():
                await asyncio.sleep(delay)


class _Life(Generic[S]):
    """One life of the shell: from joining the group to the first fault."""

    def __init__(
        self,
        core: Core[S],
        settings: Settings,
        health: Health,
        catalog: Catalog | None,
        observer: Observer,
        troubles: Troubles,
    ) -> None:
        self._core, self._settings, self._health, self._catalog = core, settings, health, catalog
        self._observer, self._troubles = observer, troubles
        self._wiring = core.wiring
        self._fences = Fences({})
        self._machines: dict[int, PartitionMachine[S]] = {}
        self._catching_up: dict[int, dict[str, int]] = {}
        self._request_again: dict[int, list[str]] = {}
        self._snapshot_offsets: dict[int, int] = {}
        self._snapshot_starts: dict[int, list[int]] = {}
        self._in_flight: list[asyncio.Future[int]] = []
        self._adoption: asyncio.Task[dict[int, PartitionMachine[S]]] | None = None
        self._fault: Exception | None = None
        self._intake = Intake(settings, core.wiring, self._decide, self._read_fences)
        self._tail: Reader | None = None
        self._positions: Positions | None = None
        self._held: dict[int, list[tuple[TopicPartition, list[ConsumerRecord[Any, Any]]]]] = {}
        self._pumps: list[asyncio.Task[None]] = []
        self._tail_wanted = asyncio.Event()
        self._poke = asyncio.Event()
        self._planned_due = float("inf")
        self._journal: Writer | None = None
        self._others: Writer | None = None
        self._outbox: Outbox | None = None
        self._membership = Membership(settings, f"handrail.{core.wiring.service}", core.wiring.journal)
        self._chores: set[asyncio.Task[Any]] = set()

    # --- life and death ---------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        await self._open()
        last = housekeeping = time.monotonic()
        while not stop.is_set():
            await self._follow_membership()
            await self._tick()
            now = time.monotonic()
            if now - last > self._settings.session_timeout_ms / 1000:
                raise Fenced(f"this process stood still for {now - last:.1f} s; somebody else may own its partitions")
            last = now
            self._health.beat()
            if now - housekeeping > HOUSEKEEPING_SECONDS:
                housekeeping = now
                await self._keep_house()
        await self._drain()

    async def _open(self) -> None:
        service = self._wiring.service
        self._journal = await Writer.start(self._settings, f"handrail-{service}-journal")
        self._others = await Writer.start(self._settings, f"handrail-{service}-messages")
        self._tail = await Reader.start(self._settings, f"handrail-{service}-tail")
        self._positions = await Positions.start(self._settings, f"handrail.{service}.positions")
        self._outbox = Outbox(self._others, self._failed, self._settings.send_timeout_seconds)
        self._fences = await read_fences(self._settings, service)
        await self._membership.start()
        if self._catalog is not None:
            await self._catalog.catch_up()
        self._pumps = await self._intake.start()
        self._pumps.append(asyncio.create_task(self._pump_tail(self._tail), name="tail"))

    async def close(self) -> None:
        """Lets go of everything; what was under way has an unknown outcome, which the next claim settles."""
        tasks = [task for task in (self._adoption, *self._pumps, *self._chores) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._outbox is not None:
            self._outbox.close()
        await asyncio.gather(
            self._membership.stop(),
            self._intake.stop(),
            *(c.stop() for c in (self._tail, self._positions, self._journal, self._others) if c is not None),
        )

    def _failed(self, error: Exception) -> None:
        if self._fault is None:
            self._fault = error

    def _check(self) -> None:
        if self._fault is not None:
            raise Fenced(str(self._fault)) from self._fault

    async def _drain(self) -> None:
        """Orderly end: what was decided is journaled, said, and marked, as far as that goes in the time allowed."""
        self._health.set_not_ready("draining")
        self._intake.open = False
        try:
            async with asyncio.timeout(self._settings.drain_seconds):
                while not all(machine.is_delivered() for machine in self._machines.values()):
                    self._tail_wanted.set()
                    await self._tick()
                for machine in self._machines.values():
                    machine.mark(time.time())
                    self._append(machine)
                if self._in_flight:
                    await asyncio.wait(self._in_flight)
        except (TimeoutError, Fenced, KafkaError):
            log.warning("drain_incomplete", detail="the next owner continues from the journal")
        await self._membership.stop(leave=True)

    # --- ownership --------------------------------------------------------------------------------------------------

    async def _follow_membership(self) -> None:
        if self._adoption is not None and self._adoption.done():
            adopted, self._adoption = self._adoption.result(), None
            await self._take_over(adopted)
        if not self._membership.changed.is_set() or self._adoption is not None:
            return
        self._membership.changed.clear()
        wanted = self._membership.assigned
        for partition in set(self._machines) - wanted:
            self._drop(partition)
        new = wanted - set(self._machines)
        if new:
            log.info("partitions_assigned", partitions=sorted(new))
            self._adoption = asyncio.create_task(self._adopt(frozenset(new)), name="adoption")
        else:
            await self._assign()

    async def _adopt(self, partitions: frozenset[int]) -> dict[int, PartitionMachine[S]]:
        assert self._others is not None
        began = time.monotonic()
        recovery = Recovery(
            self._core, self._settings, self._others, self._fences, lambda p: p in self._membership.assigned
        )
        machines = await recovery.run(partitions)
        RECOVERY_SECONDS.labels(self._wiring.service).observe(time.monotonic() - began)
        log.info("partitions_claimed", partitions=sorted(machines), seconds=round(time.monotonic() - began, 3))
        return machines

    async def _take_over(self, adopted: dict[int, PartitionMachine[S]]) -> None:
        for partition, machine in adopted.items():
            if partition not in self._membership.assigned:
                continue
            self._machines[partition] = machine
            machine.busy = self._intake.busy
            self._snapshot_offsets[partition] = machine.next_offset
            tps = [TopicPartition(topic, partition) for topic in self._wiring.inputs]
            begins, ends = await self._intake.offsets.begin_offsets(tps), await self._intake.offsets.end_offsets(tps)
            for tp in tps:
                self._check_position(machine, tp, begins[tp], ends[tp])
            self._catching_up[partition] = {tp.topic: ends[tp] for tp in tps if tp.topic != self._wiring.begins}
            self._say_again(machine)
        await self._assign()
        self._health.set_ready(f"{len(self._machines)} partitions")

    def _check_position(self, machine: PartitionMachine[S], tp: TopicPartition, begin: int, end: int) -> None:
        position = machine.positions[tp.topic]
        if begin > 0 and not machine.has_history:
            log.warning(
                "begins_late", topic=tp.topic, partition=tp.partition, offset=begin, detail="the journal is new"
            )
            machine.positions[tp.topic] = begin
        elif not begin <= position <= end:
            raise JournalRegressed(
                f"{tp.topic} partition {tp.partition} holds offsets {begin} to {end}, but {machine.owner} continues at "
                f"{position}: records were removed before they were handled, or the topic was recreated. "
                "Restore the topic, or start with an empty journal."
            )

    def _say_again(self, machine: PartitionMachine[S]) -> None:
        """Notices and facts that may have been lost in a crash between the journal's acknowledgement and theirs."""
        assert self._outbox is not None
        parcels = [self._parcel(machine, message) for message in machine.undelivered()]
        self._outbox.put(parcels, machine.undelivered_sent)

    def _drop(self, partition: int) -> None:
        self._machines.pop(partition, None)
        for table in (
            self._catching_up,
            self._request_again,
            self._snapshot_offsets,
            self._snapshot_starts,
            self._held,
        ):
            table.pop(partition, None)

    async def _assign(self) -> None:
        """Points the readers at the inputs and the journals of what we own, each at its own position."""
        assert self._tail is not None
        ends = await self._intake.offsets.end_offsets([TopicPartition(FENCES, 0)])
        for stamp in (await read_fences(self._settings, self._wiring.service)).stamps():
            self._fences.raise_to(stamp)
        self._intake.assign(self._input_positions(), ends)
        self._tail.assign({TopicPartition(self._wiring.journal, p): m.next_offset for p, m in self._machines.items()})

    def _input_positions(self) -> dict[TopicPartition, int]:
        return {
            TopicPartition(topic, partition): machine.positions[topic]
            for partition, machine in self._machines.items()
            for topic in self._wiring.inputs
        }

    # --- the pumps --------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        """Timers, the work after a claim, and the faults that others reported; returns when there is more to do, or soon."""
        self._check()
        for pump in self._pumps:
            if pump.done():
                pump.result()
        now = time.time()
        for machine in list(self._machines.values()):
            if self._intake.open and (due := machine.next_due()) is not None and due <= now:
                self._fire_timers(machine, now)
                self._append(machine)
        if self._catching_up or self._request_again:
            self._catch_up()
        await self._rest()

    def _fire_timers(self, machine: PartitionMachine[S], now: float) -> None:
        try:
            machine.fire_timers(now, skip=self._troubles.timers)
        except TimerFailed as error:
            self._troubles.timers.add((error.execution_id, error.token))
            log.exception("timer_failed", execution_id=error.execution_id, token=error.token)
            raise Fenced(f"a timer of {error.execution_id} failed: {error.__cause__!r}; it is passed over") from error

    async def _rest(self) -> None:
        dues = [due for machine in self._machines.values() if (due := machine.next_due()) is not None]
        self._planned_due = min(dues, default=float("inf"))
        wait = min(0.001 if self._request_again else TICK_SECONDS, max(0.0, self._planned_due - time.time()))
        self._poke.clear()
        try:
            await asyncio.wait_for(self._poke.wait(), wait)
        except TimeoutError:
            pass

    async def _decide(self, inputs: dict[TopicPartition, list[ConsumerRecord[Any, Any]]]) -> None:
        """Waits for the journal only if too much of it is unacknowledged."""
        for tp, records in inputs.items():
            machine = self._machines.get(tp.partition)
            if tp.partition in self._held:
                self._held[tp.partition].append((tp, records))
            elif machine is not None:
                await self._take_in(machine, tp, records)
        await self._bound_in_flight()

    async def _take_in(
        self, machine: PartitionMachine[S], tp: TopicPartition, records: list[ConsumerRecord[Any, Any]]
    ) -> None:
        now = time.time()
        for record in records:
            await self._decide_one(machine, record, now)
        await self._set_aside(machine, records)
        position = self._intake.finish(tp, records)
        if position is not None:
            machine.pass_by(tp.topic, position)
        self._append(machine)

    async def _pump_tail(self, reader: Reader) -> None:
        """Reads our journals back: at once while facts wait for it, otherwise now and then.

        In between nothing is fetched: a fetch under way would come back with our own record just when its acknowledgement
        does, and taking it apart first would delay the command that the acknowledgement sets free.
        """
        while True:
            if not any(machine.facts_waiting for machine in self._machines.values()):
                self._tail_wanted.clear()
                try:
                    await asyncio.wait_for(self._tail_wanted.wait(), TAIL_SECONDS)
                except TimeoutError:
                    pass
            if not self._machines:
                continue
            for tp, records in (await self._poll(reader)).items():
                machine = self._machines.get(tp.partition)
                if machine is not None:
                    self._read_back(machine, records)

    async def _poll(self, reader: Reader) -> dict[TopicPartition, list[ConsumerRecord[Any, Any]]]:
        try:
            return await reader.poll(MICRO_BATCH, TAIL_WAIT_MS)
        except OffsetOutOfRangeError as error:
            raise JournalRegressed(f"{self._wiring.service}: the journal lost what was read: {error}") from error

    async def _decide_one(self, machine: PartitionMachine[S], record: ConsumerRecord[Any, Any], now: float) -> None:
        received = Input(record.topic, record.offset, record.key, record.value, record.headers)
        place = (record.topic, record.partition, record.offset)
        if (reason := self._troubles.undecidable.get(place)) is not None:
            machine.refuse(received, "INTERNAL_ERROR", reason)
            return
        try:
            await self._handle(machine, received, now, Instead.TOO_LARGE if place in self._troubles.oversized else None)
        except TooLarge as error:
            self._troubles.oversized.add(place)
            raise Fenced(f"a decision does not fit into a record ({error}); deciding it in another way") from error
        except (Fenced, Unavailable, KafkaError, OSError, TimeoutError):
            raise
        except Exception as error:
            # A mistake of ours must not stop everybody else: memory may be half changed, so it is folded again without.
            self._troubles.undecidable[place] = f"{type(error).__name__}: {error}"
            log.exception("decision_failed", topic=record.topic, partition=record.partition, offset=record.offset)
            raise Fenced(f"deciding on {place} failed: {error!r}; it goes to the dead letters") from error

    async def _handle(self, machine: PartitionMachine[S], received: Input, now: float, instead: Instead | None) -> None:
        try:
            machine.handle(received, now, instead)
        except Missing:
            if self._catalog is not None:
                await self._catalog.catch_up()
            try:
                machine.handle(received, now)
            except Missing:
                machine.handle(received, now, Instead.MISSING)

    async def _set_aside(self, machine: PartitionMachine[S], records: list[ConsumerRecord[Any, Any]]) -> None:
        """Dead letters and misrouted records are written before any marker can say that they were handled."""
        rejected, misrouted = machine.take_set_aside()
        if not rejected and not misrouted:
            return
        assert self._outbox is not None
        by_offset = {(record.topic, record.offset): record for record in records}
        parcels = []
        for entry in rejected:
            record = by_offset[entry.input.topic, entry.input.offset]
            letter = dead_letter(
                record, service=self._wiring.service, code=entry.code, reason=entry.reason, now=time.time()
            )
            key, value = letter_bytes(letter)
            parcels.append(Parcel(DEAD_LETTERS, key.decode(), value, cloud_event_headers(letter, self._source), 0))
            log.warning(
                "dead_letter", topic=record.topic, partition=record.partition, offset=record.offset, code=entry.code
            )
        for other in misrouted:
            assert other.input.value is not None
            headers = [(name, value) for name, value in other.input.headers if value is not None]
            parcels.append(Parcel(other.input.topic, other.key, other.input.value, headers))
        self._outbox.put(parcels)
        await self._outbox.flush()

    @property
    def _source(self) -> str:
        return f"/handrail/{self._wiring.service}"

    def _append(self, machine: PartitionMachine[S]) -> None:
        """Hands what was decided to the journal, in order."""
        appends: list[Append] = machine.take_appends()
        if appends:
            assert self._journal is not None
            journal, seq = self._wiring.journal, appends[-1].seq
            future = self._journal.write(
                [Parcel(journal, a.key.decode(), a.value, a.headers, machine.partition) for a in appends]
            )
            future.add_done_callback(partial(self._journaled, machine, seq))
            self._in_flight.append(future)
        if (due := machine.next_due()) is not None and due < self._planned_due:
            self._poke.set()
        if machine.facts_waiting:
            self._tail_wanted.set()

    def _journaled(self, machine: PartitionMachine[S], seq: int, future: asyncio.Future[int]) -> None:
        if (error := future.exception()) is not None:
            self._failed(Fenced(f"the journal was not written: {error}"))
        elif self._fault is None:
            self._send_commands(machine, seq)

    def _send_commands(self, machine: PartitionMachine[S], seq: int) -> None:
        assert self._outbox is not None
        parcels = [self._parcel(machine, command) for command in machine.acknowledged(seq)]
        if parcels:
            self._outbox.put(parcels, partial(machine.commands_delivered, seq))
        elif not self._outbox.open:
            machine.commands_delivered(seq)
        else:
            self._outbox.put([], partial(machine.commands_delivered, seq))

    def _parcel(self, machine: PartitionMachine[S], outgoing: Outgoing) -> Parcel:
        headers = cloud_event_headers(outgoing.message, self._source)
        if outgoing.kind is not Kind.FACT:
            headers.append(machine.stamp().header())
        return Parcel(outgoing.topic, outgoing.key, encode(outgoing.message), headers, outgoing.partition)

    def _read_back(self, machine: PartitionMachine[S], records: list[ConsumerRecord[Any, Any]]) -> None:
        assert self._outbox is not None
        parcels: list[Parcel] = []
        try:
            for record in records:
                for fact in machine.read_back(record.offset, record.headers):
                    parcels.append(self._parcel(machine, fact))
                    self._observer.fact(fact.message)
        except Fenced:
            if machine.partition in self._membership.assigned:
                raise
            self._drop(machine.partition)
            return
        delivered = partial(machine.facts_delivered, records[-1].offset)
        if parcels or self._outbox.open:
            self._outbox.put(parcels, delivered)
        else:
            delivered()

    def _read_fences(self, records: list[ConsumerRecord[Any, Any]]) -> None:
        for record in records:
            observe_fence(self._fences, record)
        for machine in list(self._machines.values()):
            if self._fences.highest.get(machine.owner, -2) >= machine.epoch:
                raise Fenced(f"{machine.owner}: epoch {machine.epoch} was fenced by another claimant")

    async def _bound_in_flight(self) -> None:
        self._in_flight = [future for future in self._in_flight if not future.done()]
        if len(self._in_flight) > JOURNAL_BATCHES_IN_FLIGHT:
            done, _ = await asyncio.wait(
                self._in_flight, timeout=self._settings.send_timeout_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                raise Fenced("the journal did not answer in time; the outcome of its last batches is unknown")

    # --- after a claim ----------------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Once the inputs that lay there at the claim are decided, what is still unanswered is requested again."""
        assert self._outbox is not None
        for partition, ends in list(self._catching_up.items()):
            machine = self._machines[partition]
            if all(machine.positions[topic] >= end for topic, end in ends.items()):
                del self._catching_up[partition]
                self._request_again[partition] = list(machine.states)
        for partition, waiting in list(self._request_again.items()):
            machine = self._machines[partition]
            now, self._request_again[partition] = waiting[:REQUESTED_AGAIN_AT_ONCE], waiting[REQUESTED_AGAIN_AT_ONCE:]
            parcels = [self._parcel(machine, command) for command in machine.outstanding(now)]
            if parcels:
                self._outbox.put(parcels)
            if not self._request_again[partition]:
                del self._request_again[partition]

    # --- behind the critical path -----------------------------------------------------------------------------------

    async def _keep_house(self) -> None:
        now = time.time()
        for partition, machine in list(self._machines.items()):
            if machine.mark(now):
                self._append(machine)
            JOURNAL_POSITION.labels(self._wiring.service, partition).set(machine.next_offset)
            if machine.timer_count > 10_000:
                machine.sweep_timers()
        self._observer.gauge({p: len(machine.states) for p, machine in self._machines.items()})
        if not any(task.get_name() == "chores" for task in self._chores):
            task = asyncio.create_task(self._chore(), name="chores")
            self._chores.add(task)
            task.add_done_callback(self._chores.discard)

    async def _chore(self) -> None:
        try:
            await self._report_positions()
            for machine in list(self._machines.values()):
                await self._snapshot(machine)
        except Fenced as error:
            self._failed(error)
        except (KafkaError, Unavailable, TimeoutError) as error:
            log.warning("chore_failed", error=repr(error))

    async def _report_positions(self) -> None:
        """Commits are a signal for lag tools, nothing else."""
        assert self._positions is not None
        positions = self._input_positions()
        if not positions:
            return
        await self._positions.commit(positions)
        lag = dict.fromkeys(self._wiring.inputs, 0)
        for tp, position in positions.items():
            lag[tp.topic] += self._intake.lag(tp, position)
        for topic, records in lag.items():
            CONSUMER_LAG.labels(self._wiring.service, topic).set(records)

    async def _snapshot(self, machine: PartitionMachine[S]) -> None:
        """Taken at a quiet moment, which is made: intake of the partition rests for the few milliseconds until it comes."""
        grown = machine.next_offset - self._snapshot_offsets[machine.partition]
        if grown < max(self._settings.snapshot_every_records, len(machine.states)):
            return
        assert self._others is not None
        chunks = await self._snapshot_at_rest(machine)
        if not chunks:
            return
        self._snapshot_offsets[machine.partition] = machine.next_offset
        topic, key = self._wiring.snapshots, str(machine.partition)
        parcels = [Parcel(topic, key, encode(chunk), [], machine.partition) for chunk in chunks]
        first = await deliver(self._others, parcels, self._settings.send_timeout_seconds)
        log.info("snapshot_taken", partition=machine.partition, offset=chunks[0].offset, chunks=len(chunks))
        await self._trim(machine.partition, first)

    async def _snapshot_at_rest(self, machine: PartitionMachine[S]) -> list[SnapshotChunk]:
        """Holds the partition's inputs back until everything that it decided was said; nothing if that takes long."""
        held = self._held.setdefault(machine.partition, [])
        try:
            deadline = time.monotonic() + REST_SECONDS
            while not machine.is_delivered() and time.monotonic() < deadline:
                self._tail_wanted.set()
                await asyncio.sleep(0.001)
            if not machine.is_delivered() or machine is not self._machines.get(machine.partition):
                return []
            return snapshots.take(machine)
        finally:
            while held and machine is self._machines.get(machine.partition):
                await self._take_in(machine, *held.pop(0))
            self._held.pop(machine.partition, None)

    async def _trim(self, partition: int, first_offset: int) -> None:
        """Keeps the newest snapshots, deletes what lies before them."""
        starts = self._snapshot_starts.setdefault(partition, [])
        starts.append(first_offset)
        if len(starts) <= snapshots.KEPT:
            return
        starts.pop(0)
        admin = AIOKafkaAdminClient(bootstrap_servers=self._settings.brokers)
        await admin.start()
        try:
            place = {TopicPartition(self._wiring.snapshots, partition): RecordsToDelete(before_offset=starts[0])}
            await admin.delete_records(place)
        finally:
            await admin.close()
