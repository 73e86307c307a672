"""The connection to the read models: named queries, bounded in time, JSON columns passed through unparsed."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg

from handrail_gateway.problems import invalid, unavailable

ACQUIRE_SECONDS = 2.0
QUERY_SECONDS = 4.0
CONNECTIONS = 12

Row = Mapping[str, Any]

_AWAY = (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.CannotConnectNowError)
_SHUTTING_DOWN = (asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, asyncpg.TooManyConnectionsError)
_SCHEMA_CHANGED = (
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
    asyncpg.UndefinedTableError,
    asyncpg.InvalidSchemaNameError,
)
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def queries() -> Mapping[str, str]:
    """Every named query of the `.sql` files beside this module."""
    found: dict[str, str] = {}
    for path in sorted((Path(__file__).parent / "sql").glob("*.sql")):
        parts = _NAME.split(path.read_text("utf-8"))
        found |= dict(zip(parts[1::2], parts[2::2], strict=True))
    return found


class Json:
    """A JSON column as the database wrote it: passed on unparsed."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


async def _prepare(connection: Any) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, schema="pg_catalog", format="text", encoder=str, decoder=Json)


class Database:
    """A pool that connects when it is first needed, and again after every outage."""

    def __init__(self, url: str, schema: str = "handrail") -> None:
        self._url, self._schema = url, schema
        self._pool: Any = None

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=CONNECTIONS,
            timeout=ACQUIRE_SECONDS,
            command_timeout=QUERY_SECONDS,
            init=_prepare,
            server_settings={"search_path": self._schema, "application_name": "handrail-gateway", "timezone": "UTC"},
        )

    async def close(self) -> None:
        if self._pool is None:
            return
        try:
            await asyncio.wait_for(self._pool.close(), 3)
        except TimeoutError:
            self._pool.terminate()

    async def fetch(self, name: str, *arguments: object) -> Sequence[Row]:
        """Runs a named query. Raises a `Problem`: 503 if the database is away, 422 for a value it cannot hold."""
        try:
            try:
                return await self._fetch(name, arguments)
            except _SCHEMA_CHANGED:
                return await self._fetch(name, arguments)  # a replay has just swapped the schema in
        except asyncpg.DataError as error:
            raise invalid(f"A value in the request cannot be looked up: {error}") from error
        except (*_AWAY, *_SHUTTING_DOWN, *_SCHEMA_CHANGED) as error:
            raise unavailable("DATABASE_UNAVAILABLE", "The read models cannot be read just now.") from error

    async def row(self, name: str, *arguments: object) -> Row | None:
        rows = await self.fetch(name, *arguments)
        return rows[0] if rows else None

    async def _fetch(self, name: str, arguments: Sequence[object]) -> Sequence[Row]:
        async with self._pool.acquire(timeout=ACQUIRE_SECONDS) as connection:
            return [dict(row) for row in await connection.fetch(queries()[name], *arguments)]
