"""One broker and one database for a whole run: embedded, or containers where an engine and the images are there."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handrail.embedded.broker import EmbeddedBroker
from handrail.embedded.database import EmbeddedDatabase
from handrail.topics import create_topics

REDPANDA = "docker.redpanda.com/redpandadata/redpanda:v24.2.7"
POSTGRES = "postgres:16"


def _image_present(image: str) -> bool:
    """A daemon may answer although no image can be pulled: only what is there already counts."""
    try:
        done = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def use_containers() -> bool:
    """`HANDRAIL_TEST_INFRA=embedded` or `containers` decides; otherwise what is there."""
    chosen = os.environ.get("HANDRAIL_TEST_INFRA")
    return chosen == "containers" or (chosen is None and _image_present(REDPANDA) and _image_present(POSTGRES))


@contextmanager
def running_broker(folder: Path) -> Iterator[str]:
    """Bootstrap address of a broker that has all topics."""
    if use_containers():
        from testcontainers.kafka import RedpandaContainer

        with RedpandaContainer(REDPANDA) as container:
            bootstrap = container.get_bootstrap_server()
            asyncio.run(create_topics(bootstrap))
            yield bootstrap
        return
    broker = EmbeddedBroker(folder / "kafka")
    broker.start()
    try:
        broker.wait_ready()
        asyncio.run(create_topics(broker.bootstrap))
        yield broker.bootstrap
    finally:
        broker.stop()


@contextmanager
def running_database(folder: Path) -> Iterator[str]:
    """URL of an empty database."""
    if use_containers():
        from testcontainers.postgres import PostgresContainer

        with PostgresContainer(POSTGRES, driver=None) as container:
            yield container.get_connection_url()
        return
    database = EmbeddedDatabase(folder / "postgres")
    database.start()
    try:
        database.wait_ready()
        yield database.url
    finally:
        database.stop()
