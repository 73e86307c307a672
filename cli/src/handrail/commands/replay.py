"""`handrail replay`."""

import asyncio
from typing import Annotated

import asyncpg
import typer
from handrail_projector.feed import connect
from handrail_projector.main import SCHEMA
from handrail_projector.replay import rebuild, swap, table_hashes
from handrail_runtime.errors import Unavailable
from handrail_runtime.settings import Settings

from handrail.commands.up import DataDir, fail
from handrail.stack import data_folder, read_running

FRESH = f"{SCHEMA}_replayed"


def replay(
    data_dir: DataDir = None,
    check: Annotated[
        bool, typer.Option(help="Only compare: build the fresh read models, and drop them again.")
    ] = False,
) -> None:
    """Rebuild the read models from the topics, then put them in the place of the live ones.

    The live ones serve until then. With --check nothing is replaced: differences are listed, and the exit code is 1.

    Example: handrail replay --check
    """
    running = read_running(data_folder(data_dir))
    settings = Settings()
    if running is not None:
        settings = settings.model_copy(update={"brokers": running.brokers, "database_url": running.database_url})
    try:
        different = asyncio.run(_replay(settings, check))
    except (Unavailable, OSError, asyncpg.PostgresError) as error:
        raise fail(f"the replay stopped: {error}. The live read models are as they were.") from error
    if different:
        raise fail(f"these read models differ from a replay: {', '.join(different)}.")
    typer.echo("the read models equal a replay" if check else "the replayed read models are live")


async def _replay(settings: Settings, check: bool) -> list[str]:
    count = await rebuild(settings, FRESH, lambda n, s: typer.echo(f"{n:,} records, {n / max(s, 1e-9):,.0f} a second"))
    typer.echo(f"{count:,} records replayed")
    if not check:
        await swap(settings, FRESH, SCHEMA)
        return []
    connection = await connect(settings.database_url, SCHEMA)
    try:
        live, fresh = await table_hashes(connection, SCHEMA), await table_hashes(connection, FRESH)
        await connection.execute(f'DROP SCHEMA "{FRESH}" CASCADE')
    finally:
        await connection.close()
    return [table for table in live if live[table] != fresh[table]]
