"""Owners of the journal partition, as the real shell behaves, one small act at a time."""

from collections import deque
from functools import partial
from typing import Any

from handrail_contracts import topics
from handrail_contracts.codec import decode, encode
from handrail_contracts.journal import Fences, JournalFilter
from handrail_contracts.platform import Fence
from handrail_runtime.errors import Fenced
from handrail_runtime.machine import snapshots
from handrail_runtime.machine.core import Instead, Kind, Missing, Outgoing
from handrail_runtime.machine.partition import Input, PartitionMachine
from handrail_scheduler.definitions import Definitions

from simulation.world import COMMAND_PARTITIONS, Fault, World


class Unconditional(JournalFilter):
    """The filter without compare-and-swap: any claim counts."""

    def _take(self, offset: int, value: bytes) -> Any:
        if value.startswith(b"claim/"):
            value = b"claim/%d/x" % self.epoch
        return super()._take(offset, value)


class Unordered(JournalFilter):
    """The filter without sequence numbers: any record of the epoch counts."""

    def _take(self, offset: int, value: bytes) -> Any:
        if value.startswith(b"record/"):
            value = b"record/%s/%d" % (value.split(b"/")[1], self.next_seq)
        return super()._take(offset, value)


def new_filter(world: World) -> JournalFilter:
    if Fault.NO_SWAP in world.faults:
        return Unconditional()
    return Unordered() if Fault.NO_SEQUENCE in world.faults else JournalFilter()


class Owner:
    """One process of a stateful service. `life` goes up with every crash; sends of an earlier life have no answer."""

    def __init__(self, world: World, core: Any, name: str, definitions: Definitions | None = None) -> None:
        self.world, self.core, self.name, self._definitions = world, core, name, definitions
        self.wiring = core.wiring
        self.life = 0
        self.mode = "down"
        self.machine: PartitionMachine[Any] | None = None
        self._said = deque[list[Any]]()
        self._known_budgets = 0

    @property
    def journal(self) -> list[Any]:
        return self.world.logs[self.wiring.journal, 0]

    def states(self) -> list[Any]:
        """What it has in memory, unpacked."""
        machine = self.machine
        packed = [] if machine is None else machine.states.values()
        return [self.core.unpack(state) if isinstance(state, bytes) else state for state in packed]

    def crash(self) -> None:
        self.life += 1
        self.mode, self.machine = "down", None
        self._said = deque[list[Any]]()

    def owns_journal(self) -> bool:
        reader = new_filter(self.world)
        for offset, (_, _, headers) in enumerate(self.journal):
            reader.take(offset, headers)
        return self.mode == "active" and self.machine is not None and self.machine.epoch == reader.epoch

    def act(self) -> None:
        try:
            if self.mode == "down":
                self._recover()
            elif self.mode == "active":
                self._live()
        except Fenced:
            self.crash()

    # --- recovery ---------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        world = self.world
        fences = Fences({})
        for _, _, headers in world.logs[topics.FENCES, 0]:
            fences.observe(headers)
        self.machine = machine = PartitionMachine(self.core, 0, 1, fences)
        machine.filter = new_filter(world)
        chunks = [decode(self.wiring.snapshots, value) for _, value, _ in world.logs[self.wiring.snapshots, 0]]
        parts = snapshots.newest(chunks, self.wiring.fold_version)
        if parts is not None:
            snapshots.restore(machine, parts)
            kept = new_filter(world)
            kept.epoch, kept.next_seq = machine.filter.epoch, machine.filter.next_seq
            machine.filter = kept
        self._fold(len(self.journal))
        self.mode = "fencing"
        stamp = machine.fence_stamp()
        record = (stamp.owner, encode(Fence(owner=stamp.owner, epoch=stamp.epoch)), [stamp.fence_header()])
        if Fault.NO_FENCE in world.faults:
            self._claim()
            return
        places = self._fence_places()
        self._open_fences = len(places)

        def fence_commands(_: int) -> None:
            """Only when every later reader will hear of the fence: an owner that is cut off must find out."""
            for place in places:
                world.send(self, place, record, self._fenced_one, self.crash)
            if not places:
                self._claim()

        world.send(self, (topics.FENCES, 0), record, fence_commands, self.crash)

    def _fence_places(self) -> list[tuple[str, int]]:
        return [
            (topic.name, partition)
            for topic in self.wiring.commands
            for partition in (range(COMMAND_PARTITIONS) if topic.spread else (0,))
        ]

    def _fold(self, end: int) -> None:
        machine = self.machine
        assert machine is not None
        for offset in range(machine.next_offset, end):
            _, value, headers = self.journal[offset]
            machine.fold(offset, headers, value)

    def _fenced_one(self, _: int) -> None:
        self._open_fences -= 1
        if not self._open_fences:
            self._claim()

    def _claim(self) -> None:
        assert self.machine is not None
        headers, value = self.machine.claim(f"{self.name}-{self.life}")
        self.mode = "claiming"
        self.world.send(self, (self.wiring.journal, 0), ("", value, headers), self._claimed, self.crash)

    def _claimed(self, offset: int) -> None:
        machine = self.machine
        assert machine is not None
        self._fold(offset + 1)
        if not machine.claimed(offset):
            self.crash()
            return
        self.mode = "active"
        self._ends = {topic: len(self.world.logs[topic, 0]) for topic in self.wiring.inputs}
        self._again = Fault.NO_REPUBLISH not in self.world.faults
        messages = [] if Fault.FORGET_UNDELIVERED in self.world.faults else machine.undelivered()
        self._say(messages, machine.undelivered_sent)

    # --- life -------------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        dice = self.world.dice.random()
        if dice < 0.45:
            self._decide()
        elif dice < 0.55:
            self._timers()
        elif dice < 0.85:
            self._read_back()
        elif dice < 0.90:
            self._watch_fences()
            self._catch_up()
        elif dice < 0.95:
            self._mark()
        else:
            self._snapshot()

    def everything(self) -> bool:
        """All that there is to do now, for the healed world; false if there was nothing."""
        machine = self.machine
        if machine is None or self.mode != "active":
            self.act()
            return True
        before = (dict(machine.positions), machine.next_offset, len(self.world.wire), self._again)
        try:
            self._watch_fences()
            self._catch_up()
            self._decide(1000)
            self._timers()
            self._read_back()
        except Fenced:
            self.crash()
            return True
        return before != (dict(machine.positions), machine.next_offset, len(self.world.wire), self._again)

    def _decide(self, most: int = 3) -> None:
        machine = self.machine
        assert machine is not None
        for topic in self.wiring.inputs:
            log = self.world.logs[topic, 0]
            for _ in range(most):
                offset = machine.positions[topic]
                if topic == self.wiring.begins:
                    offset = self._next_turn(machine, topic)
                if offset >= len(log):
                    break
                key, value, headers = log[offset]
                self._handle(Input(topic, offset, key.encode(), value, headers))
        machine.take_set_aside()
        self._append()
        if self._again and all(machine.positions[topic] >= end for topic, end in self._ends.items()):
            self._again = False
            self._say(list(machine.outstanding(list(machine.states))))

    def _handle(self, received: Input) -> None:
        machine = self.machine
        assert machine is not None
        try:
            machine.handle(received, self.world.now)
        except Missing:
            self._catch_up()
            try:
                machine.handle(received, self.world.now)
            except Missing:
                machine.handle(received, self.world.now, Instead.MISSING)

    def _catch_up(self) -> None:
        """Its table of budgets lags behind what people have set."""
        if self._definitions is not None:
            for budget in self.world.budgets[self._known_budgets :]:
                self._definitions.add(budget)
            self._known_budgets = len(self.world.budgets)

    def _next_turn(self, machine: PartitionMachine[Any], topic: str) -> int:
        """Beginnings come in any order: the first that is open, or one of those behind it."""
        open_ = [
            offset
            for offset in range(machine.positions[topic], len(self.world.logs[topic, 0]))
            if not machine.is_decided(topic, offset)
        ][:4]
        return self.world.dice.choice(open_) if open_ else len(self.world.logs[topic, 0])

    def _timers(self) -> None:
        assert self.machine is not None
        self.machine.fire_timers(self.world.now)
        self._append()

    def _mark(self) -> None:
        assert self.machine is not None
        self.machine.mark(self.world.now)
        self._append()

    def _append(self) -> None:
        machine = self.machine
        assert machine is not None
        for append in machine.take_appends():
            if Fault.FACTS_BEFORE_READ_BACK in self.world.faults:
                pending = machine._unread[append.seq - machine._unread[0].seq]
                self._say(pending.facts)
            if Fault.COMMANDS_BEFORE_ACK in self.world.faults:
                self._commands(append.seq)
            self.world.send(
                self,
                (self.wiring.journal, 0),
                (append.key.decode(), append.value, append.headers),
                partial(self._journaled, append.seq),
                self.crash,
            )

    def _journaled(self, seq: int, _: int) -> None:
        self._commands(seq)

    def _commands(self, seq: int) -> None:
        machine = self.machine
        assert machine is not None
        self._say(machine.acknowledged(seq), lambda: machine.commands_delivered(seq))

    def _read_back(self) -> None:
        machine = self.machine
        assert machine is not None
        facts: list[Outgoing] = []
        end = len(self.journal)
        for offset in range(machine.next_offset, end):
            facts += machine.read_back(offset, self.journal[offset][2])
        self._say(facts, lambda: machine.facts_delivered(end - 1))

    def _watch_fences(self) -> None:
        machine = self.machine
        assert machine is not None
        for _, _, headers in self.world.logs[topics.FENCES, 0]:
            machine._fences.observe(headers)
        if machine._fences.highest.get(machine.owner, -2) >= machine.epoch:
            raise Fenced("fenced")

    def _snapshot(self) -> None:
        machine = self.machine
        assert machine is not None
        if Fault.SNAPSHOT_UNREAD in self.world.faults:
            machine.is_delivered = lambda: True  # type: ignore[method-assign]
        if machine.is_delivered():
            for chunk in snapshots.take(machine):
                self.world.send(self, (self.wiring.snapshots, 0), ("0", encode(chunk), []), refused=self.crash)

    def _say(self, messages: list[Outgoing], done: Any = lambda: None) -> None:
        """Sends, and calls `done` when these and all before them have arrived, as the outbox does."""
        machine = self.machine
        assert machine is not None
        entry = [len(messages), done]
        self._said.append(entry)

        def arrived(_: int) -> None:
            entry[0] -= 1
            self._confirm()

        for message in messages:
            spread = message.topic == topics.STEP_REQUESTED
            partition = sum(message.key.encode()) % COMMAND_PARTITIONS if spread else 0
            headers = [] if message.kind is Kind.FACT else [machine.stamp().header()]
            record = (message.key, encode(message.message), headers)
            self.world.send(self, (message.topic, partition), record, arrived, self.crash)
        self._confirm()

    def _confirm(self) -> None:
        while self._said and not self._said[0][0]:
            self._said.popleft()[1]()
