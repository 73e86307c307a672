"""Tables that are fed from a whole topic: definitions, agents."""

from collections.abc import Callable
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from handrail_contracts.codec import DecodeError, decode

from handrail_runtime import bus
from handrail_runtime.machine.recovery import read_to, seek_to_begin
from handrail_runtime.settings import Settings

log = structlog.get_logger()


class TopicTable:
    """Reads a one-partition topic from its beginning, and on, into `add`. A message that does not decode is skipped."""

    def __init__(self, settings: Settings, topic: str, add: Callable[[Any], None]) -> None:
        self._settings, self._topic, self._add = settings, topic, add
        self._reader: AIOKafkaConsumer | None = None

    async def catch_up(self) -> None:
        """Returns when everything that the topic held at the call has been added."""
        partition = TopicPartition(self._topic, 0)
        if self._reader is None:
            reader = await bus.start_reader(self._settings, f"handrail-table-{self._topic}", max_wait_ms=20)
            reader.assign([partition])
            await seek_to_begin(reader, [partition])
            self._reader = reader
        async for records in read_to(self._reader, await bus.end_offsets(self._reader, [partition])):
            for record in records:
                try:
                    self._add(decode(self._topic, record.value))
                except DecodeError as error:
                    log.warning("message_unreadable", topic=self._topic, offset=record.offset, error=str(error))

    async def close(self) -> None:
        await bus.stop(self._reader)
        self._reader = None
