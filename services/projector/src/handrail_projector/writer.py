"""Writes a batch and the positions it brings the projector to, in one transaction."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
from handrail_contracts.journal import JournalFilter

from handrail_projector.agent_facts import Work
from handrail_projector.approval_facts import Approvals
from handrail_projector.columns import Row
from handrail_projector.projections import Batch
from handrail_projector.statements import statement

Place = tuple[str, int]
HISTORY = ("approval_id", "partition", "offset", "ordinal", "at", "event", "chain")
"""Of a gate; the order of the columns is the rows'."""


class PositionMoved(Exception):
    """Somebody else has advanced a position, or a replay has put another schema in place: read the positions again."""


@dataclass(slots=True)
class Position:
    """Where to read on in a partition; for journals also which records count from there."""

    next_offset: int
    filter: JournalFilter


async def read_positions(connection: asyncpg.Connection) -> dict[Place, Position]:
    rows = await connection.fetch(statement("positions"))
    return {
        (row["topic"], row["partition"]): Position(row["next_offset"], JournalFilter(row["epoch"], row["next_seq"]))
        for row in rows
    }


async def create_positions(connection: asyncpg.Connection, starts: Mapping[Place, int]) -> None:
    places = list(starts)
    await connection.execute(
        statement("positions_create"), [p[0] for p in places], [p[1] for p in places], [starts[p] for p in places]
    )


async def write(
    connection: asyncpg.Connection, batch: Batch, before: Mapping[Place, int], after: Mapping[Place, Position]
) -> None:
    """All or nothing. Raises `PositionMoved` if the batch does not continue where the read models are."""
    async with connection.transaction():
        await _advance(connection, before, after)
        await _write_executions(connection, batch)
        await _write_steps(connection, batch)
        await _write_work(connection, batch.work)
        if batch.history:
            await connection.copy_records_to_table("execution_history", records=batch.history)
        await _write_approvals(connection, batch.approvals)
        await _write_tables(connection, batch)


async def _advance(
    connection: asyncpg.Connection, before: Mapping[Place, int], after: Mapping[Place, Position]
) -> None:
    places = list(after)
    done = await connection.execute(
        statement("positions_advance"),
        [place[0] for place in places],
        [place[1] for place in places],
        [before[place] for place in places],
        [after[place].next_offset for place in places],
        [after[place].filter.epoch for place in places],
        [after[place].filter.next_seq for place in places],
    )
    if done != f"UPDATE {len(places)}":
        raise PositionMoved(f"{done}, but {len(places)} positions were to advance")


def _columns(rows: Iterable[tuple[Any, ...]], count: int) -> list[list[Any]]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(count)]


async def _write_executions(connection: asyncpg.Connection, batch: Batch) -> None:
    begun = [
        (
            execution_id, row.workflow_id, change.workflow_version or row.workflow_version, row.user_id,
            row.organization_id, row.project_id,
            row.session_id, change.status, row.trigger, row.input, row.context, change.result, change.error,
            row.started_at, change.completed_at, change.last_n, row.attributes, row.parent_id, row.origin_id,
        )
        for execution_id, (row, change) in batch.executions.items()
        if row is not None
    ]  # fmt: skip
    changed = [
        (
            execution_id,
            change.status,
            change.last_n,
            change.result,
            change.error,
            change.completed_at,
            change.workflow_version,
        )
        for execution_id, (row, change) in batch.executions.items()
        if row is None
    ]
    pending = [row for execution_id, row in batch.pending.items() if execution_id not in batch.executions]
    if begun:
        await connection.execute(statement("executions_begun"), *_columns(begun, 19))
        await connection.execute(statement("pending_begun"), [row[0] for row in begun])
    if changed:
        await connection.execute(statement("executions_changed"), *_columns(changed, 7))
    if pending:
        await connection.execute(statement("executions_pending"), *_columns(pending, 11))


async def _write_steps(connection: asyncpg.Connection, batch: Batch) -> None:
    begun = [
        (
            execution_id, step_id, row.step_type, row.run_id, change.agent or row.agent, change.status, row.attempt,
            row.waits_for, row.input, change.output, change.error, row.started_at, change.completed_at, change.wake_at,
            row.deadline, row.first_n,
        )
        for (execution_id, step_id), (row, change) in batch.steps.items()
        if row is not None
    ]  # fmt: skip
    changed = [
        (
            execution_id,
            step_id,
            change.status,
            change.output,
            change.error,
            change.completed_at,
            change.wake_at,
            change.agent,
        )
        for (execution_id, step_id), (row, change) in batch.steps.items()
        if row is None
    ]
    if begun:
        await connection.execute(statement("steps_begun"), *_columns(begun, 16))
    if changed:
        await connection.execute(statement("steps_changed"), *_columns(changed, 8))


async def _write_work(connection: asyncpg.Connection, work: Work) -> None:
    """What ended goes first: a step may have begun again since."""
    for name, rows in (
        ("agent_work_ended", work.rows_ended()),
        ("agent_work_counted", work.rows_counted()),
        ("agent_work_begun", work.rows_begun()),
    ):
        if rows:
            await connection.execute(statement(name), *_columns(rows, len(rows[0])))


async def _write_approvals(connection: asyncpg.Connection, told: Approvals) -> None:
    """In the order in which things can happen to a gate."""
    for name, rows in (
        ("approvals_opened", told.opened),
        ("approvals_revised", told.revised),
        ("approvals_handed", told.handed),
        ("approvals_closed", told.closed),
        ("reviewers", told.reviewers),
        ("review_questions", told.questions),
    ):
        if rows:
            await connection.executemany(statement(name), rows.values())
    if told.history:
        await connection.copy_records_to_table("approval_history", records=told.history, columns=HISTORY)


async def _write_tables(connection: asyncpg.Connection, batch: Batch) -> None:
    if batch.versions:
        await connection.executemany(statement("versions"), batch.versions.values())
    if batch.rollouts:
        await connection.executemany(statement("rollouts"), batch.rollouts.values())
    if batch.budgets:
        await connection.executemany(statement("budgets"), batch.budgets.values())
    if batch.budget_uses:
        await connection.executemany(statement("budget_uses"), batch.budget_uses.values())
    if batch.tasks:
        rows = [said.row(*place) for place, said in batch.tasks.items()]
        await connection.executemany(statement("tasks"), rows)
    if batch.task_comments:
        await connection.executemany(statement("task_comments"), batch.task_comments.values())
    if batch.agent_beats:
        await connection.executemany(statement("agent_beats"), batch.agent_beats.values())
    if batch.schedules:
        await connection.executemany(statement("schedules"), batch.schedules.values())
    if batch.schedule_runs:
        await connection.executemany(statement("schedule_runs"), batch.schedule_runs.values())
    if batch.agents:
        await _write_latest(connection, batch.agents, "agents", "agents_removed")
    if batch.runners:
        await _write_latest(connection, batch.runners, "runners", "runners_stopped")
    if batch.keys:
        await connection.executemany(statement("api_keys"), batch.keys.values())
    if batch.key_uses:
        await connection.executemany(statement("api_key_uses"), batch.key_uses.values())
    if batch.letters:
        await connection.executemany(statement("dead_letters"), batch.letters.values())


async def _write_latest(
    connection: asyncpg.Connection, rows: Mapping[str, Row | None], present: str, removed: str
) -> None:
    """The statements for the latest rows, and for the keys of those that are gone."""
    there = [row for row in rows.values() if row is not None]
    gone = [key for key, row in rows.items() if row is None]
    if there:
        await connection.executemany(statement(present), there)
    if gone:
        await connection.execute(statement(removed), gone)
