"""Figures of agents and beats of runners: the same tables however the log is cut into batches, and the right ones."""

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest
from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.runners import AgentState, RunnerStatus
from handrail_projector.feed import connect
from handrail_projector.migrate import migrate
from handrail_projector.projections import Batch
from handrail_projector.writer import write

pytestmark = pytest.mark.integration

BEGAN = datetime(2026, 2, 18, 10, tzinfo=UTC)
TENANTS = ("acme", "umbrella")
AGENTS = ("ann", "bob", "cyd")
TABLES = ("agent_work", "agent_figures", "runners", "steps")
Json = dict[str, Any]
Record = tuple[str, int, int, bytes]


@dataclass
class Log:
    """A made-up log of executions whose steps begin, end, are tried again, edited and given up; and what it comes to."""

    rng: random.Random
    records: list[Record] = field(default_factory=list)
    figures: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0] * 7))
    work: dict[tuple[str, str], str] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)
    _begun: dict[tuple[str, str], tuple[datetime, str]] = field(default_factory=dict)
    _now: datetime = BEGAN

    def say(self, execution: int, *events: Json) -> None:
        name, partition = f"e{execution}", execution % 3
        self._now += timedelta(microseconds=self.rng.randrange(-1_000, 5_000_000))
        told = []
        for event in events:
            self._numbers[name] = self._numbers.get(name, 0) + 1
            told.append({"n": self._numbers[name], **event})
            self._expect(name, TENANTS[execution % 2], event, events)
        at = self._now.isoformat()
        body = {"execution_id": name, "workflow_id": "w", "at": at, "events": told}
        self.records.append((topics.EXECUTION_EVENTS, partition, len(self.records), orjson.dumps(body)))

    def _expect(self, name: str, tenant: str, event: Json, events: tuple[Json, ...]) -> None:
        key = (name, event.get("step_id", ""))
        match event["type"]:
            case "step.started" if event["step_type"] == "agent_execution":
                self._begun[key] = (self._now, event.get("agent", ""))
            case "steps.cancelled":
                for step_id in event["step_ids"]:
                    self._begun.pop((name, step_id), None)
            case "step.completed" | "step.retry_scheduled" | "step.failed":
                began, named = self._begun.pop(key, (None, ""))
                agent = event.get("agent", named)
                if began is None or not agent or event.get("error", {}).get("code") == "AGENT_UNAVAILABLE":
                    return
                calls = [call for other in events if other["type"] == "step.models_called" for call in other["calls"]]
                took = max(timedelta(), self._now - began) // timedelta(microseconds=1)
                counted = (
                    1, int("error" in event), took, len(calls), sum(call["input_tokens"] for call in calls),
                    sum(call["output_tokens"] for call in calls), round(sum(call.get("cost_usd", 0) for call in calls) * 1e9),
                )  # fmt: skip
                sums = self.figures[tenant, agent]
                sums[:] = [so_far + new for so_far, new in zip(sums, counted, strict=True)]

    @property
    def under_way(self) -> dict[tuple[str, str], str]:
        return {key: agent for key, (_, agent) in self._begun.items()}


def started(step_id: str, attempt: int, agent: str | None, kind: str = "agent_execution") -> Json:
    named = {} if agent is None else {"agent": agent}
    run = {"step_id": step_id, "step_type": kind, "run_id": f"{step_id}-run", "attempt": attempt}
    return {"type": "step.started", **run, "waits_for": "agent", **named}


def ended(rng: random.Random, step_id: str, attempt: int, agent: str | None) -> list[Json]:
    """How an attempt may end, and whether another one follows at once."""
    who = {} if agent is not None else {"agent": rng.choice(AGENTS)}
    same = {"step_id": step_id, "attempt": attempt}
    error = {"error": {"code": rng.choice(["AGENT_ERROR", "TIMEOUT", "AGENT_UNAVAILABLE"]), "message": "no"}}
    again = started(step_id, attempt + 1, agent)
    calls = [
        {"model": "m", "input_tokens": rng.randrange(900), "output_tokens": 7, "seconds": 0.1}
        | ({"cost_usd": rng.random()} if rng.random() < 0.5 else {})
        for _ in range(rng.randrange(3))
    ]
    models: list[Json] = [{"type": "step.models_called", **same, "calls": calls}] if calls else []
    ways: list[list[Json]] = [
        [*models, {"type": "step.completed", **same, **who, "output": 1}],
        [*models, {"type": "step.retry_scheduled", **same, **who, **error, "retry_at": BEGAN.isoformat()}, again],
        [*models, {"type": "step.failed", **same, **who, **error, "then": "wait"}],
        [{"type": "steps.cancelled", "step_ids": [step_id]}],
        [{"type": "steps.cancelled", "step_ids": [step_id]}, again],
        [{"type": "steps.cancelled", "step_ids": [step_id]}, {"type": "step.completed", **same, "output": "by hand"}],
    ]
    return rng.choice(ways)


def made_up(seed: int) -> Log:
    log = Log(random.Random(seed))
    rng, open_steps = log.rng, dict[tuple[int, str], tuple[int, str | None]]()
    for execution in range(6):
        tenant = {"user_id": "u", "organization_id": TENANTS[execution % 2], "project_id": "p"}
        log.say(execution, {"type": "execution.started", "workflow_version": 1, **tenant})
    for _ in range(120):
        execution, step_id = rng.randrange(6), rng.choice(["named", "asked", "tool"])
        if (execution, step_id) not in open_steps:
            agent = None if step_id == "asked" else rng.choice(AGENTS)
            attempt = rng.randrange(1, 5)
            kind = "tool_call" if step_id == "tool" else "agent_execution"
            log.say(execution, started(step_id, attempt, agent, kind))
            open_steps[execution, step_id] = (attempt, agent)
            continue
        attempt, agent = open_steps.pop((execution, step_id))
        events = [{"type": "step.completed", "step_id": "tool", "attempt": attempt, "output": 1}]
        if step_id != "tool":
            events = ended(rng, step_id, attempt, agent)
        log.say(execution, *events)
        if events[-1]["type"] == "step.started":
            open_steps[execution, step_id] = (attempt + 1, agent)
    beats = ((number, f"r{number % 3}") for number in range(20))
    log.records += [(topics.RUNNER_STATUS, 0, number, encode(beat(number, runner, rng))) for number, runner in beats]
    return log


def beat(number: int, runner: str, rng: random.Random) -> RunnerStatus:
    agents = (AgentState(agent="ann", error="gone"),) if rng.random() < 0.5 else ()
    at = BEGAN + timedelta(seconds=number)
    return RunnerStatus(
        event_id=f"b{number}", occurred_at=at, runner_id=runner, every_seconds=5, running=number, agents=agents,
        stopped=rng.random() < 0.2,
    )  # fmt: skip


def cut(records: list[Record], rng: random.Random, longest: int) -> Iterator[list[Record]]:
    rest = records
    while rest:
        size = rng.randint(1, longest)
        yield rest[:size]
        rest = rest[size:]


async def project(url: str, batches: Iterator[list[Record]]) -> dict[str, list[Any]]:
    """The tables that the batches lead to, in a schema of its own."""
    connection = await connect(url, "figures")
    try:
        await connection.execute("DROP SCHEMA IF EXISTS figures CASCADE")
        await migrate(connection, "figures")
        for records in batches:
            batch = Batch()
            for record in records:
                batch.add(*record)
            await write(connection, batch, {}, {})
        return {table: await rows(connection, table) for table in TABLES}
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS figures CASCADE")
        await connection.close()


async def rows(connection: asyncpg.Connection, table: str) -> list[Any]:
    return sorted((dict(row) for row in await connection.fetch(f"SELECT * FROM {table}")), key=repr)


@pytest.mark.parametrize("seed", range(12))
async def test_the_tables_do_not_depend_on_how_the_log_is_cut(database_url: str, seed: int) -> None:
    log = made_up(seed)
    whole = await project(database_url, iter([log.records]))
    assert whole == await project(database_url, cut(log.records, random.Random(seed), 1))
    assert whole == await project(database_url, cut(log.records, random.Random(seed), 12))
    in_all: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * 7)
    names = ("tasks", "failed", "microseconds", "model_calls", "input_tokens", "output_tokens", "cost_nanos")
    for row in whole["agent_figures"]:
        sums = in_all[row["organization_id"], row["agent"]]
        sums[:] = [so_far + row[name] for so_far, name in zip(sums, names, strict=True)]
    assert in_all == log.figures
    assert {(row["execution_id"], row["step_id"]): row["agent"] for row in whole["agent_work"]} == log.under_way
    assert whole["agent_figures"] and whole["runners"]


async def test_a_record_that_says_nonsense_of_agents_changes_nothing() -> None:
    tenant = {"user_id": "u", "organization_id": "acme", "project_id": "p"}
    begun = {"n": 1, "type": "execution.started", "workflow_version": 1, **tenant}
    nonsense = {"n": 3, "type": "step.models_called", "step_id": "s", "attempt": 1, "calls": [{"input_tokens": -1}]}
    body = {"execution_id": "e", "workflow_id": "w", "at": BEGAN.isoformat()}
    batch = Batch()
    with pytest.raises(Exception, match="a count below"):
        batch.add(
            topics.EXECUTION_EVENTS,
            0,
            0,
            orjson.dumps({**body, "events": [begun, {"n": 2, **started("s", 1, "ann")}, nonsense]}),
        )
    assert batch == Batch()
