"""Brings a schema to the newest migration: numbered files, in order, once each, one process at a time."""

from pathlib import Path

import asyncpg

FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x68616E64


async def migrate(connection: asyncpg.Connection, schema: str) -> list[str]:
    """Names of the migrations that were applied. The connection's search path is set to the schema."""
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        await connection.execute(f'SET search_path TO "{schema}"')
        await connection.execute("CREATE TABLE IF NOT EXISTS schema_migrations (name text PRIMARY KEY)")
        known = {row["name"] for row in await connection.fetch("SELECT name FROM schema_migrations")}
        applied = []
        for path in sorted(FOLDER.glob("*.sql")):
            if path.stem not in known:
                async with connection.transaction():
                    await connection.execute(path.read_text("utf-8"))
                    await connection.execute("INSERT INTO schema_migrations VALUES ($1)", path.stem)
                applied.append(path.stem)
        return applied
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)
