"""The generic proxy in front of a real PostgreSQL: commits that nobody heard of, and commits that never came."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import asyncpg
import pytest
import pytest_asyncio
from support.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from handrail.embedded.database import EmbeddedDatabase

# the wheel of PostgreSQL warns at its import where no user session is
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR")]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator["EmbeddedDatabase"]:
    from handrail.embedded.database import EmbeddedDatabase

    database = EmbeddedDatabase(tmp_path_factory.mktemp("postgres"))
    database.start()
    try:
        database.wait_ready()
        yield database
    finally:
        database.stop()


@pytest_asyncio.fixture
async def table(database: "EmbeddedDatabase") -> AsyncIterator[asyncpg.Connection]:
    """A direct connection, past the proxy, with an empty table `facts`."""
    connection = await asyncpg.connect(database.url)
    try:
        await connection.execute("drop table if exists facts; create table facts (n int)")
        yield connection
    finally:
        await connection.close()


async def insert_through(proxy: TcpProxy, database: "EmbeddedDatabase") -> None:
    connection = await asyncpg.connect(database.url.replace(f":{database.port}/", f":{proxy.port}/"))
    try:
        async with connection.transaction():
            await connection.execute("insert into facts values (1)")
    finally:
        connection.terminate()


async def test_a_commit_that_was_never_answered(database: "EmbeddedDatabase", table: asyncpg.Connection) -> None:
    async with TcpProxy(f"127.0.0.1:{database.port}") as proxy:
        proxy.cut_at(b"COMMIT\0", "response")
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await insert_through(proxy, database)
        assert await table.fetchval("select count(*) from facts") == 1


async def test_a_commit_that_was_delivered_and_cut(database: "EmbeddedDatabase", table: asyncpg.Connection) -> None:
    async with TcpProxy(f"127.0.0.1:{database.port}") as proxy:
        proxy.cut_at(b"COMMIT;")
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await insert_through(proxy, database)
        async with asyncio.timeout(10):
            while await table.fetchval("select count(*) from facts") == 0:
                await asyncio.sleep(0.01)


async def test_a_commit_that_never_came(database: "EmbeddedDatabase", table: asyncpg.Connection) -> None:
    async with TcpProxy(f"127.0.0.1:{database.port}") as proxy:
        proxy.cut_at(b"COMMIT;", delivered=False)
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await insert_through(proxy, database)
        await table.execute("begin; lock table facts; commit")  # waits until the abandoned transaction has ended
        assert await table.fetchval("select count(*) from facts") == 0
        await insert_through(proxy, database)
        assert await table.fetchval("select count(*) from facts") == 1
