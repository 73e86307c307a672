"""The guide's snippets do what the guide says, on a real broker."""

import asyncio
import json
import os
import re
import sys
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from handrail_contracts.codec import decode
from handrail_contracts.ids import partition_of
from handrail_contracts.topics import EXECUTION_PARTITIONS, WORKFLOW_STARTED
from handrail_contracts.workflows import WorkflowStarted

from contracts.contract_files import REPOSITORY

GUIDE = (REPOSITORY / "docs/guides/topics.md").read_text("utf-8")


def block(language: str) -> str:
    [found] = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return str(found)


def test_the_kcat_line_holds_a_message_under_its_own_key() -> None:
    shell = block("sh")
    [value] = re.findall(r"echo '(.*?)' \|", shell)
    message = decode(WORKFLOW_STARTED, value.encode())
    assert f"-k {message.execution_id} " in shell
    assert f"-t {WORKFLOW_STARTED} " in shell


@pytest.mark.integration
async def test_the_python_program_starts_an_execution(broker: str) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", block("python"),
        env={**os.environ, "HANDRAIL_BROKERS": broker},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, complaints = await program.communicate()
    assert program.returncode == 0, complaints.decode()
    told = re.fullmatch(r"(\S+) is in partition (\d+) at offset (\d+)\n", said.decode())
    assert told is not None, said
    record = await read_one(broker, TopicPartition(WORKFLOW_STARTED, int(told[2])), int(told[3]))
    message = decode(WORKFLOW_STARTED, record.value)
    assert isinstance(message, WorkflowStarted)
    assert json.loads(record.value)["execution_id"] == message.execution_id == told[1] == record.key.decode()
    assert record.partition == partition_of(told[1], EXECUTION_PARTITIONS)


async def read_one(broker: str, place: TopicPartition, offset: int) -> Any:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, auto_offset_reset="none")
    await consumer.start()
    try:
        consumer.assign([place])
        consumer.seek(place, offset)
        return await asyncio.wait_for(consumer.getone(), 20)
    finally:
        await consumer.stop()
