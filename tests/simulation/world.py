"""The platform on an in-memory log and a virtual clock: the real machines and cores, everything around them hostile.

Sends are delayed, refused, or outlive their sender; owners crash, pause, and are several at once; snapshots are taken and
read; runners die with work in their hands; people decide twice, late, or not at all. `Fault` removes one rule of the
protocol, to show that the checks notice.
"""

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from handrail_contracts import topics
from handrail_contracts.approvals import ApprovalSubmitted
from handrail_contracts.codec import decode, encode
from handrail_contracts.control import ExecutionControlled
from handrail_contracts.envelope import utc
from handrail_contracts.workflows import WorkflowStarted

Record = tuple[str, bytes, list[tuple[str, bytes]]]
Place = tuple[str, int]
COMMAND_PARTITIONS = 2
BEGIN = 1_000_000.0


class Fault(StrEnum):
    """A rule of the protocol that can be left out."""

    NO_FENCE = "no_fence"
    NO_SWAP = "no_swap"
    NO_SEQUENCE = "no_sequence"
    COMMANDS_BEFORE_ACK = "commands_before_ack"
    FACTS_BEFORE_READ_BACK = "facts_before_read_back"
    NO_REPUBLISH = "no_republish"
    FORGET_UNDELIVERED = "forget_undelivered"
    RUNNER_IGNORES_FENCES = "runner_ignores_fences"
    RUNNER_NO_DEDUPE = "runner_no_dedupe"
    RUNNER_COMMITS_FIRST = "runner_commits_first"
    SNAPSHOT_UNREAD = "snapshot_unread"


class Sender(Protocol):
    """Whoever sends; `life` goes up when it dies, and answers to an earlier life are not heard."""

    life: int


@dataclass(slots=True)
class Send:
    sender: Sender
    life: int
    place: Place
    record: Record
    done: Callable[[int], None]
    refused: Callable[[], None]


@dataclass
class World:
    """Logs, wire, clock, and the dice."""

    seed: int
    faults: frozenset[Fault] = frozenset()
    hostile: bool = True
    now: float = BEGIN
    logs: dict[Place, list[Record]] = field(default_factory=lambda: defaultdict(list))
    wire: list[Send] = field(default_factory=list)
    effects: list[tuple[str, int, str]] = field(default_factory=list)
    excused: set[tuple[str, int]] = field(default_factory=set)
    started: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    # --- logs and wire ----------------------------------------------------------------------------------------------

    def send(
        self,
        sender: Sender,
        place: Place,
        record: Record,
        done: Callable[[int], None] = lambda _: None,
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        self.wire.append(Send(sender, sender.life, place, record, done, refused))

    def deliver(self) -> None:
        """One request reaches the broker: the oldest of some sender for some place, as an idempotent producer keeps order."""
        if not self.wire:
            return
        chosen = self.wire[self.dice.randrange(len(self.wire))]
        first = next(
            send
            for send in self.wire
            if send.sender is chosen.sender and send.life == chosen.life and send.place == chosen.place
        )
        self.wire.remove(first)
        if self.hostile and self.dice.random() < 0.01:
            if first.sender.life == first.life:
                first.refused()
            return
        log = self.logs[first.place]
        log.append(first.record)
        if first.sender.life == first.life:
            first.done(len(log) - 1)

    def put(self, topic: str, key: str, message: Any) -> None:
        """Somebody outside writes a record, successfully."""
        self.logs[topic, 0].append((key, encode(message), []))

    # --- people -----------------------------------------------------------------------------------------------------

    def start_execution(self) -> None:
        from simulation.graphs import COUNT

        number = len(self.started)
        execution_id, workflow_id = f"e{self.seed}-{number}", f"w{self.dice.randrange(COUNT)}"
        if self.started and self.dice.random() < 0.4:  # so that they meet in a queue
            workflow_id = self.dice.choice(list(self.started.values()))
        self.started[execution_id] = workflow_id
        message = WorkflowStarted(
            event_id=execution_id,
            occurred_at=utc(self.now),
            execution_id=execution_id,
            workflow_id=workflow_id,
            workflow_version=1,
            input={"n": self.dice.randrange(10)},
        )
        for _ in range(1 if self.dice.random() < 0.8 else 2):
            self.put(topics.WORKFLOW_STARTED, execution_id, message)

    def open_gates(self) -> list[Any]:
        """Gates that the log of commands asks for; some are closed by now, as people find out late."""
        found = []
        for _, value, headers in self.logs[topics.APPROVAL_REQUESTED, 0]:
            if any(name == "hr-command" for name, _ in headers):
                message = decode(topics.APPROVAL_REQUESTED, value)
                if message.event_type == "approval.requested":
                    found.append(message)
        return found

    def decide_gate(self, gate: Any, user: str) -> None:
        decision = self.dice.choice(["approved", "approved", "rejected"])
        number = len(self.logs[topics.APPROVAL_SUBMITTED, 0])
        message = ApprovalSubmitted(
            event_id=f"d{self.seed}-{number}",
            occurred_at=utc(self.now),
            execution_id=gate.execution_id,
            workflow_id=gate.workflow_id,
            user_id=user,
            approval_id=gate.approval_id,
            decision=decision,
        )
        for _ in range(1 if self.dice.random() < 0.8 else 2):
            self.put(topics.APPROVAL_SUBMITTED, gate.execution_id, message)

    def control(self, execution_id: str, action: Any, signal: str = "", step_id: str = "") -> None:
        message = ExecutionControlled(
            event_id=f"c{self.seed}-{len(self.logs[topics.EXECUTION_CONTROLLED, 0])}",
            occurred_at=utc(self.now),
            execution_id=execution_id,
            workflow_id=self.started.get(execution_id, "a child's"),
            user_id="ops",
            action=action,
            signal=signal,
            step_id=step_id,
            version=2 if action == "migrate" else None,
            data=5 if action == "edit" else {"by": "hand"},
        )
        for _ in range(1 if self.dice.random() < 0.8 else 2):
            self.put(topics.EXECUTION_CONTROLLED, execution_id, message)
