"""Rules about one execution's journal: numbering, legal moves, one end, order of the graph, timers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from support.findings import Violation
from support.logs import Entry, seconds

TERMINAL = {
    "execution.completed": "workflow.completed",
    "execution.failed": "workflow.failed",
    "execution.cancelled": "workflow.cancelled",
    "execution.timed_out": "workflow.timeout",
    "execution.rejected": "workflow.failed",
}
"""The events that end an execution, and the public fact that each becomes."""

CLOSING = {"step.skipped", "steps.skipped", "step.cancelled", "steps.cancelled"}
"""What may still follow an end, in the end's own record."""

STEP_MOVES: dict[tuple[str, str], str] = {
    ("new", "started"): "running",
    ("new", "skipped"): "skipped",
    ("running", "completed"): "completed",
    ("running", "failed"): "failed",
    ("running", "retry_scheduled"): "backing off",
    ("running", "cancelled"): "cancelled",
    ("backing off", "started"): "running",
    ("backing off", "skipped"): "skipped",
    ("backing off", "cancelled"): "cancelled",
}
STEP_ENDS = {"completed", "failed", "skipped", "cancelled"}

EXECUTION_MOVES: dict[tuple[str, str], str] = {
    ("new", "execution.started"): "running",
    ("new", "execution.rejected"): "ended",
    ("running", "execution.status_changed waiting"): "waiting",
    ("waiting", "execution.status_changed running"): "running",
    **{(state, end): "ended" for state in ("running", "waiting") for end in TERMINAL if end != "execution.rejected"},
}
CLOCK_GRAIN = 0.001
"""The broker's timestamps are whole milliseconds."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The graph of an execution: pairs (before, after). A step in `any_of` starts when one predecessor has ended."""

    edges: frozenset[tuple[str, str]] = frozenset()
    any_of: frozenset[str] = frozenset()

    def waits_for(self, step: str) -> set[str]:
        return {before for before, after in self.edges if after == step}


@dataclass
class _Step:
    state: str = "new"
    attempt: int = 0
    wake_at: float = 0
    deadline: float = 0
    retry_at: float = 0


@dataclass
class ExecutionCheck:
    """Walks through the events of one execution once, in log order, and collects what is wrong."""

    execution_id: str
    plan: Plan | None = None
    state: str = "new"
    ends: list[Entry] = field(default_factory=list)
    deadline: float = 0
    steps: dict[str, _Step] = field(default_factory=dict)
    found: list[Violation] = field(default_factory=list)

    def run(self, entries: Sequence[Entry], settled: bool) -> list[Violation]:
        self._numbers(entries)
        for entry in entries:
            self._execution(entry)
            for step in entry.steps():
                if not entry.type.startswith("execution."):
                    self._step(entry, step)
        self._ending(settled)
        return self.found

    def _wrong(self, rule: str, detail: str) -> None:
        self.found.append(Violation(rule, self.execution_id, detail))

    def _numbers(self, entries: Sequence[Entry]) -> None:
        for expected, entry in enumerate(entries, start=1):
            if entry.n != expected:
                self._wrong("event_numbers", f"event {expected} has n={entry.n} at {entry.record.place}")
                return
        if len({(e.record.topic, e.record.partition) for e in entries}) > 1:
            self._wrong("journal_partition", f"events in {sorted({e.record.partition for e in entries})}")

    def _execution(self, entry: Entry) -> None:
        if entry.type == "execution.started":
            self.deadline = seconds(entry.event.get("deadline"))
        if entry.type in TERMINAL:
            self.ends.append(entry)
        if entry.type == "execution.timed_out":
            self._not_before("execution.timed_out", self.deadline, entry)
        if not entry.type.startswith("execution."):
            if self.state == "new":
                self._wrong("transition", f"{entry.type} before the start, at {entry.record.place}")
            if self.state == "ended" and not self._closes(entry):
                self._wrong("after_terminal", f"{entry.type} after {self.ends[-1].type}, at {entry.record.place}")
            return
        move = entry.type
        if move == "execution.status_changed":
            move += f" {entry.event.get('status')}"
        following = EXECUTION_MOVES.get((self.state, move))
        if following is None:
            self._wrong("transition", f"{move} while {self.state}, at {entry.record.place}")
        self.state = following or self.state

    def _closes(self, entry: Entry) -> bool:
        return entry.type in CLOSING and bool(self.ends) and entry.record == self.ends[-1].record

    def _step(self, entry: Entry, name: str) -> None:
        step = self.steps.setdefault(name, _Step())
        verb = entry.type.partition(".")[2]
        following = STEP_MOVES.get((step.state, verb))
        if following is None:
            self._wrong("transition", f"step {name}: {verb} while {step.state}, at {entry.record.place}")
            return
        self._attempt(entry, name, step, verb)
        self._timers(entry, name, step, verb)
        if verb == "started":
            self._predecessors(entry, name)
        step.state = following

    def _attempt(self, entry: Entry, name: str, step: _Step, verb: str) -> None:
        if entry.type in CLOSING or "attempt" not in entry.event:
            return
        attempt, expected = int(entry.event["attempt"]), step.attempt + (verb == "started")
        if attempt != expected:
            self._wrong("transition", f"step {name}: {verb} attempt {attempt} instead of {expected}")
        step.attempt = attempt

    def _timers(self, entry: Entry, name: str, step: _Step, verb: str) -> None:
        if verb == "started":
            self._not_before(f"retry of {name}", step.retry_at, entry)
            step.wake_at, step.deadline = seconds(entry.event.get("wake_at")), seconds(entry.event.get("deadline"))
        elif verb == "completed":
            self._not_before(f"delay {name}", step.wake_at, entry)
        elif verb in ("failed", "retry_scheduled") and entry.by_timer:
            self._not_before(f"time-out of {name}", step.deadline, entry)
        if verb == "retry_scheduled":
            step.retry_at = seconds(entry.event.get("retry_at"))

    def _not_before(self, what: str, due: float, entry: Entry) -> None:
        moments = [entry.at] if entry.written is None else [entry.at, entry.written + CLOCK_GRAIN]
        if due and min(moments) < due:
            self._wrong("timer_early", f"{what} was due {due - min(moments):.3f} s later, at {entry.record.place}")

    def _predecessors(self, entry: Entry, name: str) -> None:
        if self.plan is None:
            return
        before = self.plan.waits_for(name)
        waiting = {step for step in before if self.steps.get(step, _Step()).state not in STEP_ENDS}
        if waiting and (name not in self.plan.any_of or waiting == before):
            self._wrong("predecessors", f"step {name} started before {sorted(waiting)}, at {entry.record.place}")

    def _ending(self, settled: bool) -> None:
        if len(self.ends) > 1:
            ends = [f"{e.type} at {e.record.place}" for e in self.ends]
            self._wrong("terminal_count", f"{len(ends)} ends: {ends}")
        if settled and not self.ends:
            self._wrong("terminal_count", f"no end; it is {self.state}")
        if self.ends:
            under_way = sorted(name for name, step in self.steps.items() if step.state not in STEP_ENDS)
            if under_way:
                self._wrong("open_at_end", f"{self.ends[-1].type} with {under_way} under way")


def sources_twice(entries: Iterable[Entry]) -> Iterator[Violation]:
    """The same input decided in two accepted records."""
    seen: dict[tuple[str, int, str, int], str] = {}
    for entry in entries:
        topic, offset = entry.source.get("topic"), entry.source.get("offset", -1)
        if topic in (None, "timer"):
            continue
        first = seen.setdefault((entry.record.topic, entry.record.partition, topic, offset), entry.record.place)
        if first != entry.record.place:
            detail = f"{topic}@{offset} was decided at {first} and at {entry.record.place}"
            yield Violation("source_twice", entry.execution_id, detail)
