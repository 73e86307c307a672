"""Every rule of the checker has a history that breaks it, alone, and the good histories break none."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from handrail_contracts.execution_events import AnyExecutionEvent
from handrail_contracts.journal import JournalFilter, Verdict, claim_header, record_header
from pydantic import TypeAdapter
from support.checker import Evidence, Plan, Read, Send, Stream, check
from support.effects import Effect
from support.logs import ACCEPTED, Json, LogRecord

START = "2026-01-01T00:00:00Z"
EPOCH_SECONDS = 1767225600
ERROR = {"code": "AGENT_ERROR", "message": "no"}
TENANT = {"user_id": "u", "organization_id": "o", "project_id": "p"}


def at(second: float) -> str:
    return f"2026-01-01T00:00:{second:09.6f}Z"


@dataclass
class Journal:
    """Writes a journal partition as its owner does: a claim, then records in sequence, one per input."""

    topic: str = "execution.events"
    partition: int = 0
    records: list[LogRecord] = field(default_factory=list)
    epoch: int = -1
    seq: int = 0

    def claim(self) -> "Journal":
        self._append(claim_header(self.epoch, "n"), b"")
        self.epoch, self.seq = len(self.records) - 1, 0
        return self

    def write(
        self,
        execution: str,
        *events: Mapping[str, Any],
        second: float = 0,
        source: Mapping[str, Any] | None = None,
        header: tuple[str, bytes] | None = None,
    ) -> "Journal":
        source = {"topic": "agent.executed", "offset": len(self.records)} if source is None else source
        body = {"at": at(second), "execution_id": execution, "source": source, "events": events}
        self._append(header or record_header(self.epoch, self.seq), json.dumps(body).encode(), second)
        self.seq += header is None
        return self

    def _append(self, header: tuple[str, bytes], value: bytes, second: float = 0) -> None:
        timestamp = int((EPOCH_SECONDS + second) * 1000)
        self.records.append(
            LogRecord(self.topic, self.partition, len(self.records), value, headers=(header,), timestamp=timestamp)
        )


def started(n: int = 1, **more: Any) -> Json:
    return {"type": "execution.started", "n": n, "workflow_version": 1, **TENANT, **more}


def step(n: int, verb: str, name: str = "a", attempt: int = 1, **more: Any) -> Json:
    extra: dict[str, Any] = {"started": {"step_type": "agent", "run_id": f"run-{name}"}}.get(verb, {})
    if verb in ("failed", "retry_scheduled"):
        extra = {"error": ERROR, "retry_at": at(1)}
    return {"type": f"step.{verb}", "n": n, "step_id": name, "attempt": attempt, **extra, **more}


def skipped(n: int, *names: str, verb: str = "skipped") -> Json:
    return {"type": f"steps.{verb}", "n": n, "step_ids": list(names), "reason": "execution_ended"}


def status(n: int, value: str) -> Json:
    return {"type": "execution.status_changed", "n": n, "status": value}


def end(n: int, kind: str = "completed") -> Json:
    extra: dict[str, dict[str, Any]] = {
        "failed": {"error": ERROR},
        "timed_out": {"error": ERROR},
        "cancelled": {"by": "u", "reason": "r"},
    }
    return {"type": f"execution.{kind}", "n": n, **extra.get(kind, {})}


def journal(*groups: Sequence[Json], second: float = 5) -> Journal:
    """One execution `e`, one record per group of events, all written at `second`."""
    written = Journal().claim()
    for group in groups:
        written.write("e", *group, second=second)
    return written


def good() -> Journal:
    return journal(
        [started(), step(2, "started", waits_for="agent")],
        [step(3, "completed"), step(4, "started", "b", waits_for="approval"), status(5, "waiting")],
        [step(6, "completed", "b"), status(7, "running"), end(8)],
    )


def evidence(of: Journal, **more: Any) -> Evidence:
    given: dict[str, Any] = {"started": ["e"], "maybe_started": [], "floor": 0, "new_filter": JournalFilter}
    return Evidence(journal=of.records, **given | more)


def broken_rules(of: Journal, **more: Any) -> set[str]:
    return check(evidence(of, **more)).rules


def effect(key: str = "run-a", attempt: int = 1, started: float = 10, finished: float | None = 11) -> Effect:
    return Effect(key, "e", "a", key, attempt, "echo", 1, started, finished, 200)


def published(topic: str, *bodies: Json) -> list[LogRecord]:
    return [LogRecord(topic, 0, offset, json.dumps(body).encode()) for offset, body in enumerate(bodies)]


def ended(kind: str = "workflow.completed", identity: str = "id-1", **more: Any) -> Json:
    return {"event_id": identity, "event_type": kind, "execution_id": "e", **more}


def approvals(*events: Json) -> list[LogRecord]:
    return Journal("approval.events").claim().write("e", *events).records


OPENED = {"type": "approval.opened", "approval_id": "g", "step_id": "b"}
CLOSED = {"type": "approval.closed", "approval_id": "g", "decision": "approved"}


def closed(decision: str) -> Json:
    return {**CLOSED, "decision": decision}


def decided(decision: str) -> Json:
    return {"event_id": "d-1", "execution_id": "e", "approval_id": "g", "decision": decision}


def test_the_accepted_verdict_is_the_contracts() -> None:
    assert ACCEPTED == Verdict.ACCEPTED


def test_the_events_of_these_tests_are_events_of_the_contract() -> None:
    events = [started(), step(2, "started"), step(3, "completed"), step(4, "retry_scheduled"), step(5, "failed")]
    events += [skipped(6, "a"), skipped(7, "b", verb="cancelled"), status(8, "waiting"), end(9), end(10, "failed")]
    events += [end(11, "cancelled"), end(12, "timed_out")]
    parsed: list[Any] = TypeAdapter(list[AnyExecutionEvent]).validate_python(events)
    assert [event.n for event in parsed] == list(range(1, 13))


def test_a_good_run_with_all_evidence_breaks_no_rule() -> None:
    history = good()
    report = check(
        evidence(
            history,
            floor=1,
            plan_of=lambda _: Plan(frozenset({("a", "b")})),
            effects=[effect()],
            approvals=approvals(OPENED, CLOSED),
            published=published("workflow.completed", ended(), ended())
            + published("approval.decided", decided("approved")),
            fold=len,
            view=lambda _: 8,
            streams=[Stream("e", tuple(range(1, 9)), complete=True), Stream("e", (1, 2, 3)), Stream("e", ())],
        )
    )
    assert report.violations == ()
    assert report.require() is report
    assert report.counts["execution.completed"] == report.counts["executions"] == report.counts["effects"] == 1
    assert (report.counts["journal records"], report.counts["journal records that count"]) == (4, 3)


RETRIED = [
    [started(), step(2, "started")],
    [step(3, "retry_scheduled")],
    [step(4, "started", attempt=2)],
    [step(5, "failed", attempt=2), skipped(6, "b"), end(7, "failed")],
]
GOOD_HISTORIES: dict[str, list[list[Json]]] = {
    "retried and failed": RETRIED,
    "cancelled with work under way": [
        [started(), step(2, "started")],
        [end(3, "cancelled"), skipped(4, "a", verb="cancelled"), skipped(5, "b")],
    ],
    "cancelled between attempts": [
        [started(), step(2, "started")],
        [step(3, "retry_scheduled")],
        [skipped(4, "a", verb="cancelled"), end(5, "cancelled")],
    ],
    "rejected": [[{"type": "execution.rejected", "n": 1, **TENANT, "error": ERROR}]],
    "singular skip": [[started(), step(2, "skipped"), end(3)]],
}


@pytest.mark.parametrize("name", GOOD_HISTORIES)
def test_good_histories_break_no_rule(name: str) -> None:
    assert broken_rules(journal(*GOOD_HISTORIES[name])) == set()


BAD_HISTORIES: list[tuple[str, list[list[Json]]]] = [
    ("terminal_count", [[started(), step(2, "started")], [step(3, "completed")]]),
    ("after_terminal", [[started(), end(2)], [skipped(3, "b")]]),
    ("after_terminal", [[started(), end(2), step(3, "started"), step(4, "completed")]]),
    ("open_at_end", [[started(), step(2, "started"), end(3)]]),
    ("open_at_end", [[started(), step(2, "started"), step(3, "retry_scheduled"), end(4)]]),
    ("event_numbers", [[started(), step(3, "started")], [step(4, "completed"), end(5)]]),
    ("event_numbers", [[started(), step(2, "started")], [step(2, "completed"), end(3)]]),
    ("transition", [[started(), started(2), end(3)]]),
    ("transition", [[started(), status(2, "running"), end(3)]]),
    ("transition", [[started(), status(2, "waiting"), status(3, "waiting"), end(4)]]),
    ("transition", [[started(), step(2, "completed"), skipped(3, "a"), end(4)]]),
    ("transition", [[started(), step(2, "started"), step(3, "completed"), step(4, "completed"), end(5)]]),
    ("transition", [[started(), step(2, "started"), step(3, "completed"), step(4, "started"), end(5)]]),
    ("transition", [[started(), step(2, "started", attempt=2), step(3, "completed", attempt=2), end(4)]]),
    ("transition", [[started(), step(2, "started"), step(3, "completed", attempt=2), end(4)]]),
    ("transition", [[step(1, "skipped"), started(2), end(3)]]),
    ("transition", [[started(), {"type": "execution.rejected", "n": 2, "error": ERROR}]]),
    ("transition", [[started(), {"type": "step.invented", "n": 2, "step_id": "a"}, skipped(3, "a"), end(4)]]),
]


@pytest.mark.parametrize(("rule", "groups"), BAD_HISTORIES)
def test_a_bad_history_breaks_its_rule(rule: str, groups: list[list[Json]]) -> None:
    assert broken_rules(journal(*groups)) == {rule}


def test_two_ends_break_the_count_of_ends() -> None:
    assert "terminal_count" in broken_rules(journal([started(), end(2)], [end(3, "failed")]))


def test_an_unsettled_run_may_be_unfinished() -> None:
    assert broken_rules(journal([started(), step(2, "started")]), settled=False) == set()


def test_fenced_out_and_torn_records_are_no_history() -> None:
    history = journal([started(), step(2, "started")])
    zombie = record_header(history.epoch, 1)
    history.claim().write("e", step(3, "failed"), end(4, "failed"), header=zombie)
    history.write("e", step(3, "completed"), end(4))
    history.write("e", step(9, "completed"), header=record_header(history.epoch, 7))
    assert broken_rules(history) == set()
    assert "terminal_count" in broken_rules(history, new_filter=TakeAll)


class TakeAll:
    """What a reader without the fence does: the checker must see the difference."""

    def take(self, offset: int, headers: Iterable[tuple[str, bytes]]) -> int:
        return ACCEPTED if offset else 0


def test_an_execution_in_two_partitions_breaks_the_journal() -> None:
    other = Journal(partition=1).claim().write("e", step(2, "skipped"), end(3))
    first = journal([started()])
    assert broken_rules(replace(first, records=first.records + other.records)) == {"journal_partition"}


def test_an_input_decided_twice_is_found() -> None:
    source = {"topic": "workflow.started", "offset": 7}
    history = Journal().claim().write("e", started(), source=source).write("e", end(2), source=source)
    assert broken_rules(history) == {"source_twice"}
    timer = {"topic": "timer", "offset": -1}
    assert broken_rules(Journal().claim().write("e", started(), source=timer).write("e", end(2), source=timer)) == set()


def test_an_accepted_record_that_is_no_json_is_found() -> None:
    history = good()
    history._append(record_header(history.epoch, history.seq), b"{torn")
    assert broken_rules(history) == {"unreadable_record"}


def test_an_accepted_start_that_the_journal_lost() -> None:
    assert broken_rules(good(), started=["e", "lost"]) == {"lost_start"}


def test_an_execution_that_nobody_started() -> None:
    assert broken_rules(good(), started=[]) == {"phantom_execution"}
    assert broken_rules(good(), started=[], maybe_started=["e", "never happened"]) == set()
    assert broken_rules(good(), started=[], maybe_started=None) == set()


JOIN = frozenset({("a", "c"), ("b", "c")})


@pytest.mark.parametrize(
    ("plan", "rules"),
    [(Plan(JOIN), {"predecessors"}), (Plan(JOIN, frozenset({"c"})), set()), (Plan(frozenset({("a", "c")})), set())],
)
def test_a_step_waits_for_its_predecessors(plan: Plan, rules: set[str]) -> None:
    history = journal(
        [started(), step(2, "started", "a"), step(3, "started", "b")],
        [step(4, "completed", "a"), step(5, "started", "c")],
        [step(6, "completed", "b"), step(7, "completed", "c"), end(8)],
    )
    assert broken_rules(history, plan_of=lambda _: plan) == rules


def test_a_step_of_an_any_join_still_needs_one_predecessor() -> None:
    history = journal([started(), step(2, "started", "c"), step(3, "completed", "c"), skipped(4, "a", "b"), end(5)])
    assert broken_rules(history, plan_of=lambda _: Plan(JOIN, frozenset({"c"}))) == {"predecessors"}


def late_or_early(*groups: Sequence[Json], source: Mapping[str, Any] | None = None) -> tuple[set[str], set[str]]:
    """Rules broken when the last record comes at second 1, when it is due, and just before."""
    results = []
    for second in (1.0, 0.99):
        history = Journal().claim().write("e", *groups[0])
        for group in groups[1:]:
            history.write("e", *group, second=second, source=source)
        results.append(broken_rules(history))
    return results[0], results[1]


TIMER = {"topic": "timer", "offset": -1}


def test_a_delay_is_never_early() -> None:
    groups = [[started(), step(2, "started", wake_at=at(1))], [step(3, "completed"), end(4)]]
    assert late_or_early(*groups, source=TIMER) == (set(), {"timer_early"})


def test_a_retry_is_never_early() -> None:
    first = [started(), step(2, "started"), step(3, "retry_scheduled")]
    groups = [first, [step(4, "started", attempt=2), step(5, "completed", attempt=2), end(6)]]
    assert late_or_early(*groups, source=TIMER) == (set(), {"timer_early"})


def test_a_step_time_out_is_never_early_but_an_agent_may_fail_when_it_likes() -> None:
    groups = [[started(), step(2, "started", deadline=at(1))], [step(3, "failed"), end(4, "failed")]]
    assert late_or_early(*groups, source=TIMER) == (set(), {"timer_early"})
    assert late_or_early(*groups) == (set(), set())


def test_an_execution_time_out_is_never_early() -> None:
    groups = [[started(deadline=at(1))], [end(2, "timed_out")]]
    assert late_or_early(*groups, source=TIMER) == (set(), {"timer_early"})


def test_a_timer_that_lies_about_the_time_is_caught_by_the_brokers_clock() -> None:
    history = Journal().claim().write("e", started(), step(2, "started", wake_at=at(1)))
    history.write("e", step(3, "completed"), end(4), second=1)
    early = replace(history.records[-1], timestamp=(EPOCH_SECONDS * 1000) + 900)
    assert broken_rules(replace(history, records=[*history.records[:-1], early])) == {"timer_early"}


@pytest.mark.parametrize(
    ("effects", "interruptions", "rules"),
    [
        ([effect()], [], set()),
        ([effect(), effect(started=12, finished=13)], [], {"effect_repeated"}),
        ([effect(), effect(started=12, finished=13)], [10.5], set()),
        ([effect(), effect(started=12, finished=13)], [11.3], set()),
        ([effect(), effect(started=12, finished=13)], [5.0, 12.5], {"effect_repeated"}),
        ([effect(finished=None), effect(started=60, finished=61)], [50.0], set()),
        ([effect(), effect(started=12, finished=13), effect(started=14, finished=15)], [10.5], {"effect_repeated"}),
        ([effect(), effect(attempt=2, started=12, finished=13)], [], {"effect_undecided"}),
        ([effect(), effect(key="run-b")], [], {"effect_undecided"}),
        ([], [], {"effect_missing"}),
        ([effect(finished=None)], [], {"effect_missing"}),
        (None, [], set()),
    ],
)
def test_effects_match_the_journal(effects: Any, interruptions: list[float], rules: set[str]) -> None:
    assert broken_rules(good(), effects=effects, interruptions=interruptions) == rules


def test_each_attempt_may_have_its_effect() -> None:
    history = journal(
        [started(), step(2, "started", waits_for="agent")],
        [step(3, "retry_scheduled")],
        [step(4, "started", attempt=2, waits_for="agent")],
        [step(5, "completed", attempt=2), end(6)],
    )
    assert broken_rules(history, effects=[effect(), effect(attempt=2, started=12, finished=13)]) == set()


@pytest.mark.parametrize(
    ("events", "facts", "rules"),
    [
        ([OPENED, CLOSED], ["approved", "approved"], set()),
        ([OPENED, closed("rejected")], ["rejected"], set()),
        ([OPENED, CLOSED], ["rejected"], {"gate_decisions"}),
        ([OPENED, CLOSED, closed("rejected")], ["approved"], {"gate_decisions"}),
        ([OPENED, OPENED, CLOSED], [], {"gate_decisions"}),
        ([CLOSED], [], {"gate_decisions", "gate_bypassed"}),
        ([OPENED], [], {"gate_bypassed"}),
        ([OPENED], ["approved"], {"gate_decisions", "gate_bypassed"}),
    ],
)
def test_a_gate_has_one_effective_decision(events: list[Json], facts: list[str], rules: set[str]) -> None:
    said = published("approval.decided", *map(decided, facts)) + published("workflow.completed", ended())
    assert broken_rules(good(), approvals=approvals(*events), published=said) == rules


@pytest.mark.parametrize(
    ("bodies", "rules"),
    [
        ([ended()], set()),
        ([ended(), ended()], set()),
        ([], {"public_end"}),
        ([ended("workflow.failed")], {"public_end"}),
        ([ended(), ended("workflow.failed", "id-2")], {"public_end"}),
        ([ended(), ended(execution_id="stranger", identity="id-2")], {"public_end"}),
        ([ended(), ended(result=2)], {"event_id_conflict"}),
    ],
)
def test_the_public_end_is_the_journals(bodies: list[Json], rules: set[str]) -> None:
    assert broken_rules(good(), published=published("workflow.completed", *bodies)) == rules


def test_ids_that_must_be_unique_are() -> None:
    said = published("workflow.completed", ended(), ended())
    assert broken_rules(good(), published=said, ids_once={"workflow.completed"}) == {"event_id_repeated"}


def test_the_read_model_equals_the_fold() -> None:
    def fold(events: Sequence[Json]) -> str:
        return str(events[-1]["type"])

    assert broken_rules(good(), fold=fold, view=lambda _: "execution.completed") == set()
    assert broken_rules(good(), fold=fold, view=lambda _: "execution.failed") == {"projection"}


@pytest.mark.parametrize(
    ("stream", "rules"),
    [
        (Stream("e", (1, 2, 3)), set()),
        (Stream("e", (1, 3)), {"stream_gap"}),
        (Stream("e", (2, 3)), {"stream_gap"}),
        (Stream("e", (1, 2, 2)), {"stream_gap"}),
        (Stream("e", tuple(range(1, 10))), {"stream_gap"}),
        (Stream("other", (1,)), {"stream_gap"}),
        (Stream("e", (1, 2), complete=True), {"stream_short"}),
    ],
)
def test_a_stream_is_a_prefix_without_gaps(stream: Stream, rules: set[str]) -> None:
    assert broken_rules(good(), streams=[stream]) == rules


def test_a_stream_shows_only_visible_events() -> None:
    def visible(event: Json) -> bool:
        return str(event["type"]).startswith("execution.")

    assert broken_rules(good(), streams=[Stream("e", (1, 5, 7, 8), complete=True)], visible=visible) == set()


def test_a_dead_system_does_not_pass() -> None:
    report = check(evidence(Journal().claim(), started=[], floor=1))
    assert report.rules == {"floor"}
    with pytest.raises(AssertionError, match="only 0 executions completed"):
        report.require()
    assert broken_rules(journal([started(), end(2, "failed")]), floor=1) == {"floor"}


LOG = [LogRecord("t", 0, offset, json.dumps({"event_id": f"m{offset}"}).encode()) for offset in (0, 1, 3, 4)]


def send(identity: str, offset: int | None, outcome: Any = "ok", producer: str = "p") -> Send:
    return Send(producer, identity, "t", 0, outcome, offset)


def read(identity: str, offset: int, session: int = 0) -> Read:
    return Read("r", identity, "t", 0, offset, session)


ALL_READ = [read("m0", 0), read("m1", 1), read("m3", 3), read("m4", 4)]
TWICE = [*LOG, replace(LOG[0], offset=5)]


@pytest.mark.parametrize(
    ("log", "sends", "reads", "rules"),
    [
        (LOG, [send("m0", 0), send("m1", 1), send("m3", None), send("m4", 4)], ALL_READ, set()),
        (LOG, [send("m9", None, "unknown"), send("m0", None, "unknown"), send("m8", None, "fail")], ALL_READ, set()),
        (LOG, [send("m9", 2)], ALL_READ, {"lost_write"}),
        (LOG, [send("m1", 0)], ALL_READ, {"moved_write"}),
        (LOG, [send("m1", None, "fail")], ALL_READ, {"failed_write_visible"}),
        (TWICE, [send("m0", 0)], [*ALL_READ, read("m0", 5)], {"duplicate_write"}),
        (LOG, [send("m1", 1), send("m0", 0)], ALL_READ, {"send_order"}),
        (LOG, [send("m1", 1), send("m0", 0, producer="q")], ALL_READ, set()),
        (LOG, [], [*ALL_READ, read("m1", 1, session=1), read("m3", 3, session=1)], set()),
        (LOG, [], [*ALL_READ, read("m1", 1)], {"read_order"}),
        (LOG, [], [read("m0", 0), read("m3", 3), read("m4", 4), read("m1", 1, session=1)], {"read_gap"}),
        (LOG, [], [*ALL_READ[:3], read("mX", 4)], {"inconsistent_read"}),
        (LOG, [], ALL_READ[:3], {"unseen_write"}),
    ],
)
def test_the_log_keeps_what_was_acknowledged_and_shows_what_it_keeps(
    log: list[LogRecord], sends: list[Send], reads: list[Read], rules: set[str]
) -> None:
    more: dict[str, Any] = {"log": log, "sends": sends, "reads": reads, "everything_read": True}
    assert broken_rules(good(), **more) == rules


def test_a_failing_report_tells_rule_execution_and_place() -> None:
    report = check(evidence(journal([started(), step(2, "completed"), skipped(3, "a"), end(4)])))
    with pytest.raises(
        AssertionError, match=r"transition: 1\n  e: step a: completed while new, at execution.events/0@1"
    ):
        report.require()


def test_a_rule_table_names_every_rule_that_the_code_can_break() -> None:
    import inspect
    import re

    from support import checker, checks_effects, checks_execution, checks_log

    modules: list[Any] = [checker, checks_effects, checks_execution, checks_log]
    source = "".join(inspect.getsource(module) for module in modules)
    used = set(re.findall(r'(?:Violation|_wrong)\(\s*"(\w+)"', source)) | {"timer_early"}
    assert used == set(re.findall(r"`(\w+)`", str(checker.__doc__).split("|---|---|")[1].split("A report")[0]))
