"""`handrail publish`."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from handrail_contracts.codec import DecodeError, decode, encode
from handrail_contracts.ids import partition_of
from handrail_contracts.topics import catalogue

from handrail.commands.dlq import brokers_of, run_client
from handrail.commands.up import DataDir, fail


def publish(
    topic: str,
    file: Annotated[Path, typer.Argument(help="A JSON message, or one a line; - for standard input.")],
    data_dir: DataDir = None,
) -> None:
    """Publish messages to a topic, after checking them against its contract.

    Example: handrail publish workflow.started start.json
    """
    if topic not in catalogue():
        raise fail(f"there is no topic {topic!r}; there are {', '.join(catalogue())}.")
    text = sys.stdin.read() if str(file) == "-" else file.read_text()
    lines = [text] if text.lstrip().startswith("{") and text.count("\n{") == 0 else text.splitlines()
    records = []
    for number, line in enumerate(filter(str.strip, lines), 1):
        try:
            message = decode(topic, line.encode())
        except DecodeError as error:
            raise fail(f"message {number} was not published, nor any other: {error}") from error
        key = getattr(message, catalogue()[topic].key, None) or getattr(message, "execution_id", "")
        records.append((str(key), encode(message)))
    run_client(_publish(brokers_of(data_dir), topic, records))
    typer.echo(f"{len(records)} messages published to {topic}")


async def _publish(brokers: str, topic: str, records: list[tuple[str, bytes]]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=brokers, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        sends = [
            await producer.send(
                topic, value, key=key.encode(), partition=partition_of(key, catalogue()[topic].partitions)
            )
            for key, value in records
        ]
        await asyncio.gather(*sends)
    except KafkaError as error:
        raise fail(f"the broker refused: {error}. Some may be on the topic; a second try is safe.") from error
    finally:
        await producer.stop()
