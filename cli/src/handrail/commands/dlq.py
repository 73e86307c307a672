"""`handrail dlq list`, `show`, `redrive`."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer
from aiokafka.errors import KafkaError
from handrail_contracts.platform import DeadLetter
from handrail_runtime.settings import Settings

from handrail.commands.up import DataDir, fail
from handrail.deadletters import Filter, letters
from handrail.deadletters import redrive as redrive_letters
from handrail.stack import data_folder, read_running

app = typer.Typer(
    help="Records that a service could not take: list them, look at one, send them back.", no_args_is_help=True
)

Topic = Annotated[str, typer.Option(help="Only those from this topic.")]
Code = Annotated[str, typer.Option(help="Only those with this code, such as MALFORMED_JSON.")]
T = TypeVar("T")


def brokers_of(data_dir: DataDir) -> str:
    running = read_running(data_folder(data_dir))
    return Settings().brokers if running is None else running.brokers


def run_client(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except KafkaError as error:
        raise fail(f"the broker does not answer: {error}. Is it running (`handrail status`)?") from error


async def _all(brokers: str, wanted: Filter) -> list[DeadLetter]:
    return [letter async for letter in letters(brokers, wanted)]


@app.command("list")
def list_letters(
    data_dir: DataDir = None, topic: Topic = "", code: Code = "", limit: Annotated[int, typer.Option(min=1)] = 50
) -> None:
    """List dead letters, the newest last.

    Example: handrail dlq list --code MALFORMED_JSON
    """
    found = run_client(_all(brokers_of(data_dir), Filter(topic, code)))
    for letter in found[-limit:]:
        typer.echo(
            f"{letter.event_id}  {letter.occurred_at:%F %T}  {letter.topic}/{letter.partition}/{letter.offset}  {letter.code}"
        )
        typer.echo(f"    {letter.reason}")
    typer.echo(f"{len(found)} dead letters" + (f", the newest {limit} shown" if len(found) > limit else ""))


@app.command()
def show(event_id: str, data_dir: DataDir = None) -> None:
    """Print one dead letter whole.

    Example: handrail dlq show 0b6f2b0e-6e0c-5b1c-9d0a-2f1f4f6f7a11
    """
    found = run_client(_all(brokers_of(data_dir), Filter(event_id=event_id)))
    if not found:
        raise fail(f"there is no dead letter {event_id}; `handrail dlq list` shows what there is.")
    typer.echo(found[0].model_dump_json(indent=2))


@app.command()
def redrive(
    data_dir: DataDir = None,
    topic: Topic = "",
    code: Code = "",
    event_id: Annotated[str, typer.Option(help="Only this one.")] = "",
) -> None:
    """Send dead letters back to their topics, as they were. Twice does no harm.

    Example: handrail dlq redrive --topic agent.executed
    """
    count = run_client(redrive_letters(brokers_of(data_dir), Filter(topic, code, event_id)))
    typer.echo(f"{count} records written again to their topics")
