"""Rebuilds the read models from the topics, beside the live ones, and puts them in their place."""

import time
from collections.abc import Callable

import asyncpg
from handrail_contracts.topics import EXECUTION_PARTITIONS
from handrail_runtime.reader import Reader
from handrail_runtime.settings import Settings

from handrail_projector.columns import Unreadable
from handrail_projector.feed import Feed, Record, connect
from handrail_projector.migrate import migrate

TABLES = (
    "workflow_versions",
    "executions",
    "steps",
    "execution_history",
    "approvals",
    "approval_history",
    "reviewers",
    "review_questions",
    "agents",
    "agent_work",
    "agent_figures",
    "dead_letters",
    "pending",
    "schedules",
    "schedule_runs",
    "rollouts",
    "budgets",
    "budget_uses",
    "api_keys",
    "api_key_uses",
    "tasks",
    "task_comments",
)
"""All but `runners` and `agent_beats`, which change every few seconds: what is compared would be of two moments."""
Progress = Callable[[int, float], None]
"""Told now and then: records so far, seconds so far."""


async def rebuild(settings: Settings, schema: str, progress: Progress = lambda *_: None) -> int:
    """Fills a fresh schema from the topics, up to where they end when it gets there; returns the number of records.

    What is unreadable is skipped: it is among the dead letters already.
    """
    connection = await connect(settings.database_url, schema)
    reader = await Reader.start(settings, "handrail-replay")
    try:
        await connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')
        await migrate(connection, schema)
        feed = Feed(reader, connection, _skip)
        await feed.assign(range(EXECUTION_PARTITIONS))
        began = told = time.monotonic()
        while await feed.step(100) or not await feed.caught_up():
            if time.monotonic() - told > 1:
                told = time.monotonic()
                progress(feed.events, told - began)
        progress(feed.events, time.monotonic() - began)
        return feed.events
    finally:
        await reader.stop()
        await connection.close()


async def _skip(record: Record, error: Unreadable) -> None:
    """Nothing to do: the live projector has set it aside."""


async def swap(settings: Settings, fresh: str, live: str) -> None:
    """Puts the fresh schema in the place of the live one, in one transaction.

    Readers see the old tables or the new ones; a projector that was at work finds its positions moved and goes on.
    """
    connection = await connect(settings.database_url, live)
    try:
        async with connection.transaction():
            await connection.execute(f'ALTER SCHEMA "{live}" RENAME TO "{live}_before"')
            await connection.execute(f'ALTER SCHEMA "{fresh}" RENAME TO "{live}"')
        await connection.execute(f'DROP SCHEMA "{live}_before" CASCADE')
    finally:
        await connection.close()


async def table_hashes(connection: asyncpg.Connection, schema: str) -> dict[str, str]:
    """A hash of each read model's rows, whatever their order in the table. Equal hashes: equal read models."""
    hashes = {}
    for table in TABLES:
        statement = (
            f"SELECT coalesce(md5(string_agg(digest, '' ORDER BY digest)), 'empty') FROM "
            f'(SELECT md5(t::text) AS digest FROM "{schema}"."{table}" AS t) AS digests'
        )
        hashes[table] = await connection.fetchval(statement)
    return hashes
