"""The platform on an in-memory log and a virtual clock: the real machines and cores, everything around them hostile.

Sends are delayed, refused, or outlive their sender; owners crash, pause, and are several at once; snapshots are taken and
read; runners die with work in their hands, or are cut off and go on; people decide twice, late, or not at all, comment, and
change budgets. `Fault` removes one rule, to show that the checks notice.
"""

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from handrail_contracts import topics
from handrail_contracts.approvals import ApprovalDirected, ApprovalSubmitted, CommentAdded, SuggestionCreated
from handrail_contracts.budgets import BudgetRaised, BudgetSet, Limits, Period, Scope, budget_id
from handrail_contracts.codec import decode, encode
from handrail_contracts.control import ExecutionControlled
from handrail_contracts.envelope import utc
from handrail_contracts.reviewers import Reviewer, ReviewerDefined, pool_id
from handrail_contracts.steps import StepRequested
from handrail_contracts.workflows import WorkflowStarted

Record = tuple[str, bytes, list[tuple[str, bytes]]]
Place = tuple[str, int]
COMMAND_PARTITIONS = 2
BEGIN = 12 * 86_400.0 - 100
"""Shortly before midnight, so that budgets of a day are renewed on the way."""


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
    ACTION_NOT_ONCE = "action_not_once"
    APPROVED_IN_ANY_PHASE = "approved_in_any_phase"
    CONVERSATION_FORKS = "conversation_forks"
    NOT_RETURNED_ON_CANCEL = "not_returned_on_cancel"
    RESERVED_IS_LEFT = "reserved_is_left"
    ANY_REVISION = "any_revision"
    ONE_IS_ENOUGH = "one_is_enough"
    REVIEWER_KEPT = "reviewer_kept"


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


@dataclass(frozen=True, slots=True)
class Call:
    """A tool was called, or an action carried out; `granted` is what a person has allowed, if it had to be `asked`."""

    request: StepRequested
    call_id: str
    repeatable: bool
    granted: Any = None
    failed: bool = False
    asked: bool = False


@dataclass
class World:
    """Logs, wire, clock, and the dice."""

    seed: int
    faults: frozenset[Fault] = frozenset()
    hostile: bool = True
    now: float = BEGIN
    logs: dict[Place, list[Record]] = field(default_factory=lambda: defaultdict(list))
    wire: list[Send] = field(default_factory=list)
    times: dict[Place, list[float]] = field(default_factory=lambda: defaultdict(list))
    effects: list[StepRequested] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    budgets: list[BudgetSet] = field(default_factory=list)
    excused: set[tuple[str, int]] = field(default_factory=set)
    started: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self._answers: list[tuple[float, Any]] = []

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

    def send_until_taken(self, sender: Sender, place: Place, record: Record, done: Callable[[int], None]) -> None:
        self.send(sender, place, record, done, lambda: self.send_until_taken(sender, place, record, done))

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
        self.times[first.place].append(self.now)
        if first.sender.life == first.life:
            first.done(len(log) - 1)

    def put(self, topic: str, key: str, message: Any) -> None:
        """Somebody outside writes a record, successfully."""
        self.logs[topic, 0].append((key, encode(message), []))
        self.times[topic, 0].append(self.now)

    def answers(self) -> list[tuple[float, Any]]:
        """What runners have said, and when the log has taken it."""
        place = (topics.AGENT_EXECUTED, 0)
        for offset in range(len(self._answers), len(self.logs[place])):
            self._answers.append((self.times[place][offset], decode(place[0], self.logs[place][offset][1])))
        return self._answers

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

    def suggestions(self) -> list[SuggestionCreated]:
        return [decode(topics.SUGGESTION_CREATED, value) for _, value, _ in self.logs[topics.SUGGESTION_CREATED, 0]]

    def submissions(self) -> list[ApprovalSubmitted]:
        said = [decode(topics.APPROVAL_SUBMITTED, value) for _, value, _ in self.logs[topics.APPROVAL_SUBMITTED, 0]]
        return [message for message in said if isinstance(message, ApprovalSubmitted)]

    def answer_suggestion(self, made: SuggestionCreated, user: str) -> None:
        """A comment that sends it back, or a decision, sometimes on a revision that is not the latest."""
        if self.dice.random() < 0.5:
            self._comment(made, user)
            return
        seen = self.dice.choice([None, None, made.revision, max(1, made.revision - 1)])
        changes: dict[str, Any] = {"revision": seen}
        if self.dice.random() < 0.3:
            changes["data"] = {"n": -1}
        self._submit(made, made.suggestion_id, user, self.dice.choice(["approved", "approved", "rejected"]), **changes)

    def _comment(self, made: SuggestionCreated, user: str) -> None:
        message = CommentAdded(
            event_id=f"t{self.seed}-{len(self.logs[topics.COMMENT_ADDED, 0])}",
            occurred_at=utc(self.now),
            execution_id=made.execution_id,
            workflow_id=made.workflow_id,
            user_id=user,
            suggestion_id=made.suggestion_id,
            text="shorter",
            revise=self.dice.random() < 0.9,
        )
        for _ in range(1 if self.dice.random() < 0.8 else 2):
            self.put(topics.COMMENT_ADDED, made.execution_id, message)

    def decide_gate(self, gate: Any, user: str) -> None:
        self._submit(gate, gate.approval_id, user, self.dice.choice(["approved", "approved", "rejected"]))

    def direct_gate(self, gate: Any, user: str, to: str) -> None:
        """Somebody takes it, gives it back or passes it on; whoever may not is refused."""
        number = len(self.logs[topics.APPROVAL_SUBMITTED, 0])
        message = ApprovalDirected(
            event_id=f"h{self.seed}-{number}",
            occurred_at=utc(self.now),
            execution_id=gate.execution_id,
            workflow_id=gate.workflow_id,
            user_id=user,
            approval_id=gate.approval_id,
            action=self.dice.choice(["claim", "release", "delegate"]),
            to=to,
        )
        self.put(topics.APPROVAL_SUBMITTED, gate.execution_id, message)

    def define_reviewer(self, person: str) -> None:
        message = ReviewerDefined(
            event_id=f"p{self.seed}-{len(self.logs[topics.REVIEWER_DEFINED, 0])}",
            occurred_at=utc(self.now),
            execution_id=pool_id("", ""),
            workflow_id="reviewers",
            reviewer=Reviewer(
                reviewer_id=person,
                specialties=self.dice.choice([(), ("law",)]),
                capacity=self.dice.choice([1, 3]),
            ),
        )
        self.put(topics.REVIEWER_DEFINED, message.execution_id, message)

    def approve(self, made: SuggestionCreated, user: str) -> None:
        self._submit(made, made.suggestion_id, user, "approved")

    def _submit(self, about: Any, approval_id: str, user: str, decision: Any, **changes: Any) -> None:
        number = len(self.logs[topics.APPROVAL_SUBMITTED, 0])
        message = ApprovalSubmitted(
            event_id=f"d{self.seed}-{number}",
            occurred_at=utc(self.now),
            execution_id=about.execution_id,
            workflow_id=about.workflow_id,
            user_id=user,
            approval_id=approval_id,
            decision=decision,
            **changes,
        )
        for _ in range(1 if self.dice.random() < 0.8 else 2):
            self.put(topics.APPROVAL_SUBMITTED, about.execution_id, message)

    def set_budget(self, scope: Scope, name: str, limits: Limits | None, period: Period = "total") -> None:
        """Without limits it is removed. Schedulers hear of it when they look at their table, and that it has changed."""
        identifier = budget_id(scope, name, "", "")
        message = BudgetSet(
            event_id=f"b{self.seed}-{len(self.budgets)}",
            occurred_at=utc(self.now),
            budget_id=identifier,
            scope=scope,
            name=name,
            limits=limits or Limits(),
            period=period,
            removed=limits is None,
        )
        self.budgets.append(message)
        raised = BudgetRaised(
            event_id=f"{message.event_id}-raised",
            occurred_at=utc(self.now),
            execution_id=identifier,
            workflow_id=scope,
        )
        self.put(topics.ADMISSION, identifier, raised)

    def _about_task(self, action: str) -> dict[str, Any]:
        """Tasks are handed over to agents and people; agents that answer for themselves are the right ones now and then."""
        from simulation.graphs import AGENTS, TALKERS

        dice = self.dice
        match action:
            case "reassign":
                return dice.choice([{"agent": dice.choice(AGENTS + TALKERS)}, {"assignee": "ann@example.com"}])
            case "complete" | "fail":
                return {"agent": dice.choice(["", *AGENTS])}
            case "annotate":
                return {"changes": {"progress": 50, "due_date": utc(self.now + dice.choice([-1, 1, 30]))}}
            case _:
                return {}

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
            **self._about_task(action),
        )
        for _ in range(1 if self.dice.random() < 0.8 else 2):
            self.put(topics.EXECUTION_CONTROLLED, execution_id, message)
