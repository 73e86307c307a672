"""Looks into topics: how much is there, and what it says."""

import asyncio
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from handrail_contracts.topics import catalogue


@dataclass(frozen=True)
class Glance:
    """A topic's records, and the value of its latest one."""

    topic: str
    records: int
    latest: bytes | None


async def glance(brokers: str, topic: str) -> Glance:
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(catalogue()[topic].partitions)]
        consumer.assign(partitions)
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        filled = [tp for tp in partitions if ends[tp] > begins[tp]]
        records = sum(ends[tp] - begins[tp] for tp in filled)
        if not filled:
            return Glance(topic, 0, None)
        consumer.assign(filled)
        for tp in filled:
            consumer.seek(tp, ends[tp] - 1)
        latest = (0, None)
        for _ in range(len(filled)):
            for found in (await consumer.getmany(timeout_ms=300)).values():
                latest = max(latest, (found[-1].timestamp, found[-1].value), key=lambda pair: pair[0])
        return Glance(topic, records, latest[1])
    finally:
        await consumer.stop()


async def glance_all(brokers: str) -> list[Glance]:
    return list(await asyncio.gather(*(glance(brokers, topic) for topic in catalogue())))
