"""The embedded broker and database: data that survives, errors that say what to do, nothing left behind."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from handrail import checks
from handrail.embedded import EmbeddedError
from handrail.embedded.broker import EmbeddedBroker
from handrail.embedded.database import EmbeddedDatabase
from handrail.embedded.jars import kafka_jars
from handrail.embedded.process import port_open
from handrail.topics import TopicMismatch, create_topics
from handrail_contracts.topics import WORKFLOW_STARTED, catalogue

# the wheel of PostgreSQL warns at its import where no user session is
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR")]

new_admin: Any = AIOKafkaAdminClient  # the client is untyped
new_producer: Any = AIOKafkaProducer
new_consumer: Any = AIOKafkaConsumer
PARTITION = TopicPartition(WORKFLOW_STARTED, 3)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def eventually(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


async def say(bootstrap: str, value: bytes) -> None:
    async with new_producer(bootstrap_servers=bootstrap, acks="all") as producer:
        await producer.send_and_wait(PARTITION.topic, value, partition=PARTITION.partition)


async def first_said(bootstrap: str) -> bytes:
    consumer = new_consumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([PARTITION])
        said: bytes = (await asyncio.wait_for(consumer.getone(), 20)).value
        return said
    finally:
        await consumer.stop()


async def test_the_broker_keeps_topics_and_records_over_a_kill(tmp_path: Path) -> None:
    first = EmbeddedBroker(tmp_path, heap_mb=256)
    first.start()
    try:
        first.wait_ready()
        assert set(await create_topics(first.bootstrap)) == set(catalogue())
        await say(first.bootstrap, b"kept")
    finally:
        first.kill()
    second = EmbeddedBroker(tmp_path, heap_mb=256)
    second.start()
    try:
        second.wait_ready()
        assert await create_topics(second.bootstrap) == []
        assert {finding.level for finding in await checks.broker(second.bootstrap)} == {"ok", "note"}
        assert await first_said(second.bootstrap) == b"kept"
    finally:
        second.stop()
    assert not port_open(second.port)


async def wrong_with(bootstrap: str) -> list[str]:
    return [finding.text for finding in await checks.broker(bootstrap) if finding.level == "wrong"]


async def test_a_topic_with_other_partitions_is_refused_by_name(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path, heap_mb=256, settings={"message.max.bytes": "500000"})
    broker.start()
    try:
        broker.wait_ready()
        admin = new_admin(bootstrap_servers=broker.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(WORKFLOW_STARTED, 2, 1)])
        await admin.close()
        with pytest.raises(TopicMismatch, match=rf"{WORKFLOW_STARTED} has 2 partitions and needs 12"):
            await create_topics(broker.bootstrap)
        async with asyncio.timeout(20):
            while "are missing" in "".join(wrong := await wrong_with(broker.bootstrap)):
                await asyncio.sleep(0.1)  # those that were made are not in everybody's metadata yet
        assert [text.split(" and")[0] for text in wrong] == [
            f"topic {WORKFLOW_STARTED} has 2 partitions",
            f"topic {WORKFLOW_STARTED} takes 500000 bytes",
        ]
    finally:
        broker.stop()


def test_a_foreign_broker_folder_is_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "meta.properties").write_text("version=1\ncluster.id=someone-elses\nnode.id=7\n")
    broker = EmbeddedBroker(tmp_path, heap_mb=256)
    with pytest.raises(EmbeddedError, match="is damaged"):
        broker.start()
        broker.wait_ready()
    broker.stop()


@pytest.mark.parametrize("kind", [EmbeddedBroker, EmbeddedDatabase])
def test_a_port_in_use_is_named(kind: Any, tmp_path: Path, taken_port: int) -> None:
    with pytest.raises(EmbeddedError, match=rf"port {taken_port}, .* is in use"):
        kind(tmp_path, taken_port).start()


@pytest.mark.parametrize("kind", [EmbeddedBroker, EmbeddedDatabase])
def test_a_folder_that_cannot_be_is_named(kind: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EmbeddedError, match=r"file/data can't be written"):
        kind(tmp_path / "file" / "data").start()


def test_jars_that_cannot_be_fetched_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDRAIL_CACHE_DIR", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(EmbeddedError, match=r"could not be downloaded .*connect to the network"):
        kafka_jars()


async def test_the_database_keeps_rows_over_an_orderly_stop(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)  # as in a private home: the server's own user can't pass through here
    database = EmbeddedDatabase(tmp_path / "postgres")
    for statement in ("CREATE TABLE facts AS SELECT 7 AS n", "SELECT n FROM facts"):
        database.start()
        try:
            database.wait_ready()
            connection = await asyncpg.connect(database.url)
            found = await connection.fetch(statement)
            await connection.close()
        finally:
            database.stop()
    assert [row["n"] for row in found] == [7]


def test_a_database_of_another_release_is_called_damaged(tmp_path: Path) -> None:
    database = EmbeddedDatabase(tmp_path)
    database.start()
    database.wait_ready()
    database.stop()
    (tmp_path / "cluster" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedError, match="read models are rebuilt"):
        database.start()
        database.wait_ready()


OWNER = """
import sys, time
from pathlib import Path
from handrail.embedded.broker import EmbeddedBroker
from handrail.embedded.database import EmbeddedDatabase
kind = {"broker": EmbeddedBroker, "database": EmbeddedDatabase}[sys.argv[1]]
it = kind(Path(sys.argv[2]))
it.start()
it.wait_ready()
print(it.port, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["broker", "database"])
def test_nothing_outlives_a_killed_owner(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", OWNER, kind, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as owner:
        assert owner.stdout is not None
        port = int(owner.stdout.readline())
        assert port_open(port)
        owner.send_signal(signal.SIGKILL)
    assert eventually(lambda: not port_open(port))
