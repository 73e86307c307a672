"""The checker: pure functions from what was recorded during a run to a report of everything that must not have happened.

| rule | broken when |
|---|---|
| `lost_start` | an accepted start has no execution in the journal |
| `phantom_execution` | the journal has an execution that nobody asked for |
| `terminal_count`, `after_terminal`, `open_at_end` | an execution doesn't end once, goes on, or leaves steps behind |
| `transition` | a step, an attempt or an execution makes a move that its table does not have |
| `event_numbers`, `journal_partition`, `source_twice`, `unreadable_record` | the accepted journal is not one history |
| `predecessors` | a step starts before those that it waits for have ended |
| `timer_early` | a delay, retry, deadline or time-out comes before its time |
| `effect_repeated`, `effect_undecided`, `effect_missing` | effects and decided attempts don't match |
| `gate_decisions`, `gate_bypassed` | a gate has two decisions, a false one, or is passed without one |
| `public_end`, `event_id_conflict`, `event_id_repeated` | public facts differ from the journal or from themselves |
| `projection`, `stream_gap`, `stream_short` | readers were told something else than the journal |
| `lost_write`, `moved_write`, `duplicate_write`, `failed_write_visible`, `send_order` | acknowledgements and log differ |
| `inconsistent_read`, `read_order`, `read_gap`, `unseen_write` | readers and log differ |
| `floor` | too little succeeded for the rest to mean anything |

A report without violations means nothing by itself: `floor` counts the successes that must be there.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from support import checks_effects, checks_log
from support.checks_effects import Stream
from support.checks_execution import TERMINAL, ExecutionCheck, Plan, sources_twice
from support.checks_log import Read, Send
from support.effects import Effect
from support.findings import Report, Violation
from support.logs import Entry, JournalReader, Json, LogRecord, accepted, entries

__all__ = ["Evidence", "Plan", "Read", "Report", "Send", "Stream", "Violation", "check"]

COMPLETED_TOPIC = "workflow.completed"
DECIDED_TOPIC = "approval.decided"


def _all_visible(_: Json) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a run left behind. Of what is None or empty nothing is checked; `journal`, `new_filter`, `floor` are a must.

    `started` are the accepted starts, `maybe_started` those of unknown outcome (None: others may have started some too).
    `published` are raw records of public topics. `interruptions` are the `time.monotonic()` moments at which runners
    were killed, stopped or cut off. `settled`: the run was given time to end, so everything must have.
    """

    journal: Sequence[LogRecord]
    new_filter: Callable[[], JournalReader]
    floor: int
    started: Collection[str] = ()
    maybe_started: Collection[str] | None = None
    settled: bool = True
    plan_of: Callable[[str], Plan | None] | None = None
    effects: Sequence[Effect] | None = None
    interruptions: Collection[float] = ()
    effect_slack: float = checks_effects.EFFECT_SLACK
    approvals: Sequence[LogRecord] | None = None
    published: Sequence[LogRecord] | None = None
    ids_once: Collection[str] = ()
    fold: Callable[[Sequence[Json]], Any] | None = None
    view: Callable[[str], Any] | None = None
    streams: Sequence[Stream] = ()
    visible: Callable[[Json], bool] = _all_visible
    log: Sequence[LogRecord] = ()
    sends: Sequence[Send] = ()
    reads: Sequence[Read] = ()
    everything_read: bool = False


def check(evidence: Evidence) -> Report:
    """Applies every rule that there is evidence for."""
    found: list[Violation] = []
    flat = list(_history(evidence.journal, evidence.new_filter, found))
    histories: dict[str, list[Entry]] = defaultdict(list)
    for entry in flat:
        histories[entry.execution_id].append(entry)
    found += _starts(evidence, histories)
    found += sources_twice(flat)
    for execution_id, own in histories.items():
        plan = evidence.plan_of(execution_id) if evidence.plan_of else None
        found += ExecutionCheck(execution_id, plan).run(own, evidence.settled)
    approvals = list(_history(evidence.approvals or (), evidence.new_filter, found))
    found += _outside(evidence, flat, histories, approvals)
    found += checks_log.check_log(
        evidence.log, evidence.sends, evidence.reads, everything_read=evidence.everything_read
    )
    counts = _counts(evidence, flat, histories)
    if counts["execution.completed"] < evidence.floor:
        detail = f"only {counts['execution.completed']} executions completed, at least {evidence.floor} must"
        found.append(Violation("floor", "", detail))
    return Report(tuple(found), counts)


def _history(
    records: Sequence[LogRecord], new_filter: Callable[[], JournalReader], found: list[Violation]
) -> Iterator[Entry]:
    for record in accepted(records, new_filter):
        body = record.json()
        if body is None:
            found.append(Violation("unreadable_record", "", f"{record.place} counts and is no JSON object"))
            continue
        yield from entries(record, body)


def _starts(evidence: Evidence, histories: Mapping[str, object]) -> Iterator[Violation]:
    for execution_id in evidence.started:
        if execution_id not in histories:
            yield Violation("lost_start", execution_id, "its start was accepted and the journal does not know it")
    if evidence.maybe_started is not None:
        for execution_id in histories.keys() - set(evidence.started) - set(evidence.maybe_started):
            yield Violation("phantom_execution", execution_id, "it is in the journal and nobody started it")


def _outside(
    evidence: Evidence, flat: Sequence[Entry], histories: Mapping[str, Sequence[Entry]], approvals: Sequence[Entry]
) -> Iterator[Violation]:
    if evidence.effects is not None:
        yield from checks_effects.effects_once(evidence.effects, evidence.interruptions, evidence.effect_slack)
        yield from checks_effects.effects_match_journal(evidence.effects, flat)
    if evidence.approvals is not None:
        decided = [record for record in evidence.published or () if record.topic == DECIDED_TOPIC]
        yield from checks_effects.gates(approvals, flat, decided)
    if evidence.published is not None:
        completed = [record for record in evidence.published if record.topic == COMPLETED_TOPIC]
        yield from checks_effects.public_ends(completed, _ends(flat))
        yield from checks_effects.one_content_per_id(evidence.published, evidence.ids_once)
    if evidence.fold is not None and evidence.view is not None:
        yield from checks_effects.projections(histories, evidence.fold, evidence.view)
    yield from checks_effects.streams_are_prefixes(evidence.streams, histories, evidence.visible)


def _ends(flat: Sequence[Entry]) -> dict[str, str]:
    return {entry.execution_id: entry.type for entry in flat if entry.type in TERMINAL}


def _counts(evidence: Evidence, flat: Sequence[Entry], histories: Mapping[str, object]) -> Counter[str]:
    counts = Counter(entry.type for entry in flat)
    counts["executions"] = len(histories)
    counts["starts accepted"] = len(evidence.started)
    counts["journal records"] = len(evidence.journal)
    counts["journal records that count"] = len({(e.record.partition, e.record.offset) for e in flat})
    counts["effects"] = len(evidence.effects or ())
    counts["effects repeated"] = counts["effects"] - len({(e.key, e.attempt) for e in evidence.effects or ()})
    counts["interruptions"] = len(evidence.interruptions)
    counts["streams"] = len(evidence.streams)
    return counts
