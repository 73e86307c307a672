"""What the machine and the client library give at best: a raw hop between two processes, raw produce and consume.

`python -m handrail.bench.floor` is the other process: it sends back what it reads.
"""

import asyncio
import os
import sys
import time

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from handrail_contracts.topics import EXECUTION_PARTITIONS
from handrail_runtime import bus
from handrail_runtime.settings import Settings

# Topics of its own: a service that reads one of them would set each record aside while it is being measured.
THERE, BACK = "handrail.bench.there", "handrail.bench.back"
BODY = b"x" * 400


async def create_topics(settings: Settings) -> None:
    """The floor's own topics; safe to call again."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, EXECUTION_PARTITIONS, 1) for name in (THERE, BACK)])
    finally:
        await admin.close()


async def _ends(settings: Settings, topic: str) -> tuple[AIOKafkaConsumer, AIOKafkaProducer]:
    reader = await bus.start_reader(settings, "handrail-floor")
    places = await bus.end_offsets(reader, [TopicPartition(topic, p) for p in range(EXECUTION_PARTITIONS)])
    reader.assign(list(places))
    for tp, offset in places.items():
        reader.seek(tp, offset)
    return reader, await bus.start_producer(settings, "handrail-floor")


async def echo() -> None:
    reader, producer = await _ends(Settings(), THERE)
    print("ready", flush=True)
    while True:
        for tp, records in (await reader.getmany(timeout_ms=500)).items():
            for record in records:
                await producer.send(BACK, record.value, partition=tp.partition)


async def two_hops(settings: Settings, warm: int = 500, counted: int = 1000) -> list[float]:
    """Seconds there and back, sorted: two raw hops each."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "handrail.bench.floor",
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"HANDRAIL_BROKERS": settings.brokers},
    )
    assert child.stdout is not None
    if await child.stdout.readline() != b"ready\n":
        raise TimeoutError("the other process of the raw hop did not start")
    reader, producer = await _ends(settings, BACK)
    times = []
    try:
        for number in range(warm + counted):
            began = time.perf_counter()
            await producer.send(THERE, BODY, partition=number % EXECUTION_PARTITIONS)
            while not await reader.getmany(timeout_ms=1000):
                pass
            times.append(time.perf_counter() - began)
    finally:
        child.kill()
        await child.wait()
        await bus.stop(reader)
        await bus.stop(producer)
    return sorted(times[warm:])


async def throughput(settings: Settings, count: int = 100_000) -> tuple[float, float]:
    """Records a second: produced (acks=all, batched as our services do), and consumed."""
    reader, producer = await _ends(settings, BACK)
    began = time.perf_counter()
    for first in range(0, count, 6000):
        futures = []
        for partition in range(EXECUTION_PARTITIONS):
            batch = producer.create_batch()
            for _ in range(min(500, (count - first) // EXECUTION_PARTITIONS)):
                batch.append(key=None, value=BODY, timestamp=None)
            futures.append(await producer.send_batch(batch, BACK, partition=partition))
        await asyncio.wait_for(asyncio.gather(*futures), 60)
    produced = time.perf_counter() - began
    total, began = 0, time.perf_counter()
    while records := await reader.getmany(timeout_ms=1000):
        total += sum(map(len, records.values()))
        consumed = time.perf_counter() - began
    await bus.stop(reader)
    await bus.stop(producer)
    return total / produced, total / consumed


if __name__ == "__main__":
    uvloop.run(echo())
