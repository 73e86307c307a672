"""Tables that are fed from a whole topic: definitions, agents."""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from aiokafka import TopicPartition
from handrail_contracts.codec import DecodeError, decode
from handrail_contracts.topics import catalogue

from handrail_runtime.machine.recovery import read_to
from handrail_runtime.reader import Reader
from handrail_runtime.settings import Settings

log = structlog.get_logger()


class TopicTable:
    """Reads a topic from its beginning, and on, into `add`. A message that does not decode is skipped."""

    def __init__(self, settings: Settings, topic: str, add: Callable[[Any], None]) -> None:
        self._settings, self._topic, self._add = settings, topic, add
        self._reader: Reader | None = None
        self._one_at_a_time = asyncio.Lock()

    async def catch_up(self) -> None:
        """Returns when everything that the topic held at the call has been added."""
        async with self._one_at_a_time:
            await self._catch_up()

    async def _catch_up(self) -> None:
        partitions = [TopicPartition(self._topic, number) for number in range(catalogue()[self._topic].partitions)]
        if self._reader is None:
            reader = await Reader.start(self._settings, f"handrail-table-{self._topic}")
            reader.assign(await reader.begin_offsets(partitions))
            self._reader = reader
        async for records in read_to(self._reader, await self._reader.end_offsets(partitions)):
            for record in records:
                try:
                    self._add(decode(self._topic, record.value))
                except DecodeError as error:
                    log.warning("message_unreadable", topic=self._topic, offset=record.offset, error=str(error))

    async def close(self) -> None:
        if self._reader is not None:
            await self._reader.stop()
        self._reader = None
