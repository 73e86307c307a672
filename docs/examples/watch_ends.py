"""An outsider in FastStream: starts a workflow, and prints how executions end. `faststream run watch_ends:app`

The settings are what makes it safe; FastStream's defaults would lose messages (ADR 0009): acknowledge by hand, after the
work; never answer to where a message says; read bodies and headers that are not what they should be.
"""

import json
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from aiokafka import ConsumerRecord
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker, KafkaMessage

broker = KafkaBroker(os.environ.get("HANDRAIL_BROKERS", "127.0.0.1:9092"))
app = FastStream(broker)


async def tolerant(record: ConsumerRecord, parse: Callable[[ConsumerRecord], Awaitable[KafkaMessage]]) -> KafkaMessage:
    """Drops headers that are no text; FastStream would lose the whole message for one of them."""
    return await parse(replace(record, headers=tuple((n, v) for n, v in record.headers if is_text(v))))


def is_text(value: bytes | None) -> bool:
    try:
        return value is not None and value.decode() is not None
    except UnicodeDecodeError:
        return False


async def readable(message: KafkaMessage) -> Any:
    """What can't be parsed is passed on as text, so that it is seen and then acknowledged like any other."""
    try:
        return json.loads(message.body)
    except ValueError:
        return message.body.decode("utf-8", "replace")


@broker.subscriber(
    "workflow.completed",
    group_id="ends-watcher",
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.MANUAL,
    no_reply=True,
    parser=tolerant,
    decoder=readable,
)
async def on_end(end: Any, message: KafkaMessage) -> None:
    if isinstance(end, dict) and "execution_id" in end:
        print(end["execution_id"], end["event_type"], end.get("result"), flush=True)
    else:
        print("no message of Handrail's, was read all the same:", end, flush=True)
    await message.ack()


@app.after_startup
async def start_one() -> None:
    execution_id = str(uuid.uuid4())
    started = {
        "event_type": "workflow.started",
        "schema_version": 2,
        "event_id": execution_id,
        "occurred_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "execution_id": execution_id,
        "workflow_id": os.environ.get("WORKFLOW", "hello"),
        "input": {"from": "FastStream"},
    }
    await broker.publish(started, topic="workflow.started", key=execution_id.encode())
