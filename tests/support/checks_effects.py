"""Rules about what the journal's decisions did outside: effects, gates, public facts, read models, streams."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from support.checks_execution import TERMINAL
from support.effects import Effect
from support.findings import Violation
from support.logs import Entry, Json, LogRecord

EFFECT_SLACK = 0.5
"""Seconds: a runner holds an answer for a moment after its effect finished, and asks a moment before it starts."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What one client of an execution's live stream got, over all its reconnections, as event numbers in order."""

    execution_id: str
    numbers: tuple[int, ...]
    complete: bool = False


def effects_once(
    effects: Iterable[Effect], interruptions: Collection[float], slack: float = EFFECT_SLACK
) -> Iterator[Violation]:
    """An attempt of a key runs again only if a runner was killed or cut off (at a moment given) while it ran before."""
    runs: dict[tuple[str, int], list[Effect]] = defaultdict(list)
    for effect in effects:
        runs[effect.key, effect.attempt].append(effect)
    for (key, attempt), same in runs.items():
        same.sort(key=lambda effect: effect.started)
        for earlier, later in pairwise(same):
            if not _interrupted(earlier, interruptions, slack):
                detail = (
                    f"key {key} attempt {attempt} of step {later.step_id} ran again although nothing interrupted it"
                )
                yield Violation("effect_repeated", later.execution_id, detail)


def _interrupted(effect: Effect, interruptions: Collection[float], slack: float) -> bool:
    end = float("inf") if effect.finished is None else effect.finished
    return any(effect.started - slack <= moment <= end + slack for moment in interruptions)


def effects_match_journal(effects: Iterable[Effect], entries: Iterable[Entry]) -> Iterator[Violation]:
    """Every effect was decided (accepted journal), and every completed agent step had its effect."""
    effects = list(effects)
    started: dict[tuple[str, int], Entry] = {}
    completed: dict[str, Entry] = {}
    open_runs: dict[tuple[str, str], str] = {}
    for entry in entries:
        if entry.type == "step.started" and entry.event.get("waits_for") == "agent":
            open_runs[entry.execution_id, entry.event["step_id"]] = entry.event["run_id"]
            started[entry.event["run_id"], int(entry.event["attempt"])] = entry
        elif entry.type == "step.completed":
            run = open_runs.get((entry.execution_id, entry.event["step_id"]))
            if run is not None:
                completed[run] = entry
    for effect in effects:
        if (effect.key, effect.attempt) not in started:
            detail = f"key {effect.key} attempt {effect.attempt} of step {effect.step_id} is in no accepted record"
            yield Violation("effect_undecided", effect.execution_id, detail)
    finished = {effect.key for effect in effects if effect.finished is not None}
    for run, entry in completed.items():
        if run not in finished:
            detail = f"step {entry.event['step_id']} completed without an effect for key {run}"
            yield Violation("effect_missing", entry.execution_id, detail)


def gates(approvals: Iterable[Entry], executions: Iterable[Entry], decided: Iterable[LogRecord]) -> Iterator[Violation]:
    """One effective decision per gate, published as journaled; no step passes its gate before that."""
    opened: dict[str, tuple[str, str]] = {}
    closed: dict[str, Entry] = {}
    for entry in approvals:
        gate = str(entry.event.get("approval_id"))
        if entry.type == "approval.opened":
            if gate in opened:
                yield Violation("gate_decisions", entry.execution_id, f"gate {gate} was opened twice")
            opened[gate] = (entry.execution_id, entry.event["step_id"])
        elif entry.type == "approval.closed":
            if gate not in opened:
                yield Violation("gate_decisions", entry.execution_id, f"gate {gate} was decided and never opened")
            if gate in closed:
                decisions = [closed[gate].event["decision"], entry.event["decision"]]
                yield Violation("gate_decisions", entry.execution_id, f"gate {gate} was decided twice: {decisions}")
            closed.setdefault(gate, entry)
    yield from _decisions_as_journaled(decided, closed)
    yield from _steps_behind_gates(executions, {opened[gate] for gate in closed if gate in opened})


def _decisions_as_journaled(decided: Iterable[LogRecord], closed: Mapping[str, Entry]) -> Iterator[Violation]:
    for record in decided:
        body = record.json() or {}
        gate = body.get("approval_id", "")
        journaled = closed[gate].event["decision"] if gate in closed else None
        if body.get("decision") != journaled:
            detail = f"gate {gate}: {body.get('decision')} at {record.place}, the journal says {journaled}"
            yield Violation("gate_decisions", str(body.get("execution_id", "")), detail)


def _steps_behind_gates(executions: Iterable[Entry], decided: Collection[tuple[str, str]]) -> Iterator[Violation]:
    waiting: set[tuple[str, str]] = set()
    for entry in executions:
        step = (entry.execution_id, str(entry.event.get("step_id")))
        if entry.type == "step.started" and entry.event.get("waits_for") == "approval":
            waiting.add(step)
        elif entry.type == "step.completed" and step in waiting and step not in decided:
            yield Violation("gate_bypassed", step[0], f"step {step[1]} completed and its gate was never decided")


def public_ends(records: Iterable[LogRecord], ends: Mapping[str, str]) -> Iterator[Violation]:
    """Each ended execution (`ends`: id -> type of its terminal event) has one public end, of that kind; repeats are equal."""
    published: dict[str, set[str]] = defaultdict(set)
    for record in records:
        body = record.json() or {}
        published[str(body.get("execution_id", ""))].add(str(body.get("event_type", "")))
    for execution_id in sorted(published.keys() | ends.keys()):
        expected = {TERMINAL[ends[execution_id]]} if execution_id in ends else set()
        if published.get(execution_id, set()) != expected:
            detail = f"published {sorted(published.get(execution_id, set()))}, the journal says {sorted(expected)}"
            yield Violation("public_end", execution_id, detail)


def one_content_per_id(records: Iterable[LogRecord], once: Collection[str] = ()) -> Iterator[Violation]:
    """A repeated `event_id` repeats the same content; in the topics of `once` it doesn't repeat at all."""
    seen: dict[tuple[str, str], tuple[Json, LogRecord]] = {}
    for record in records:
        body = record.json()
        if body is None or "event_id" not in body:
            continue
        first, place = seen.setdefault((record.topic, body["event_id"]), (body, record))
        if place is record:
            continue
        where = f"id {body['event_id']} at {place.place} and {record.place}"
        if first != body:
            yield Violation("event_id_conflict", str(body.get("execution_id", "")), f"{where} with other content")
        if record.topic in once:
            yield Violation("event_id_repeated", str(body.get("execution_id", "")), where)


def projections(
    histories: Mapping[str, Sequence[Entry]], fold: Callable[[Sequence[Json]], Any], view: Callable[[str], Any]
) -> Iterator[Violation]:
    """The read model of an execution equals the fold of its accepted events."""
    for execution_id, entries in histories.items():
        folded, shown = fold([entry.event for entry in entries]), view(execution_id)
        if folded != shown:
            detail = f"the fold is {str(folded)[:300]}, the read model says {str(shown)[:300]}"
            yield Violation("projection", execution_id, detail)


def streams_are_prefixes(
    streams: Iterable[Stream], histories: Mapping[str, Sequence[Entry]], visible: Callable[[Json], bool]
) -> Iterator[Violation]:
    """What a client got is the beginning of the visible events, nothing missing, repeated or out of order."""
    for stream in streams:
        expected = tuple(e.n for e in histories.get(stream.execution_id, ()) if visible(e.event))
        if stream.numbers != expected[: len(stream.numbers)]:
            detail = f"got {stream.numbers}, which is no prefix of {expected}"
            yield Violation("stream_gap", stream.execution_id, detail[:500])
        elif stream.complete and stream.numbers != expected:
            yield Violation(
                "stream_short", stream.execution_id, f"ended after {len(stream.numbers)} of {len(expected)}"
            )
