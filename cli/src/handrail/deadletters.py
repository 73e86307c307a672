"""Dead letters: read from their topic, and sent back to where they came from."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from handrail_contracts import topics
from handrail_contracts.codec import DecodeError, decode
from handrail_contracts.platform import DeadLetter

REDRIVEN_HEADER = "hr-redriven"


@dataclass(frozen=True)
class Filter:
    """Which letters are meant; empty means any."""

    topic: str = ""
    code: str = ""
    event_id: str = ""

    def takes(self, letter: DeadLetter) -> bool:
        return (
            (not self.topic or letter.topic == self.topic)
            and (not self.code or letter.code == self.code)
            and (not self.event_id or letter.event_id == self.event_id)
        )


async def letters(brokers: str, wanted: Filter) -> AsyncIterator[DeadLetter]:
    """The letters that the topic holds now, oldest first, each once."""
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        place = TopicPartition(topics.DEAD_LETTERS, 0)
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        await consumer.seek_to_beginning(place)
        seen: set[str] = set()
        while await consumer.position(place) < end:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    try:
                        letter: DeadLetter = decode(topics.DEAD_LETTERS, record.value)
                    except DecodeError:
                        continue
                    if letter.event_id not in seen and wanted.takes(letter):
                        seen.add(letter.event_id)
                        yield letter
    finally:
        await consumer.stop()


async def redrive(brokers: str, wanted: Filter) -> int:
    """Writes the original records again, to their own topic and partition; returns how many.

    Twice does no harm: what is said twice has one id, and readers drop the second.
    """
    producer = AIOKafkaProducer(bootstrap_servers=brokers, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        count = 0
        async for letter in letters(brokers, wanted):
            headers = [(name, _bytes(value)) for name, value in letter.headers if value is not None]
            headers.append((REDRIVEN_HEADER, letter.event_id.encode()))
            key, value = _bytes(letter.key), _bytes(letter.value)
            await producer.send_and_wait(letter.topic, value, key=key, partition=letter.partition, headers=headers)
            count += 1
        return count
    finally:
        await producer.stop()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
