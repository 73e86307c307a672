"""Positions in a consumer group that nobody is a member of: for lag tools, and for those whose only memory they are."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest

from handrail_runtime.errors import Unavailable
from handrail_runtime.reader import start_client
from handrail_runtime.settings import Settings

SECONDS = 5.0
TRIES = 3


class Positions:
    """Both methods raise `Unavailable` if the group's coordinator does not help in time."""

    def __init__(self, client: AIOKafkaClient, group: str) -> None:
        self._client, self._group = client, group
        self._coordinator: int | None = None

    @classmethod
    async def start(cls, settings: Settings, group: str) -> "Positions":
        return cls(await start_client(settings, group), group)

    async def stop(self) -> None:
        await self._client.close()

    async def commit(self, positions: dict[TopicPartition, int]) -> None:
        """`positions` are the offsets that come next."""
        topics: defaultdict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for tp, offset in positions.items():
            topics[tp.topic].append((tp.partition, offset, ""))
        await self._ask(OffsetCommitRequest(self._group, -1, "", -1, list(topics.items())))

    async def committed(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Only those partitions for which a position was ever committed."""
        topics: defaultdict[str, list[int]] = defaultdict(list)
        for tp in tps:
            topics[tp.topic].append(tp.partition)
        answer = await self._ask(OffsetFetchRequest(self._group, list(topics.items())))
        return {TopicPartition(topic, row[0]): row[1] for topic, row in answer if row[1] >= 0}

    async def _ask(self, request: OffsetCommitRequest | OffsetFetchRequest) -> list[tuple[str, tuple[Any, ...]]]:
        """What was said of each partition, by topic; its last field is its error code, which is 0 here."""
        for attempt in range(TRIES):
            try:
                return await asyncio.wait_for(self._ask_once(request), SECONDS)
            except (KafkaError, OSError, TimeoutError) as error:
                self._coordinator = None
                if attempt == TRIES - 1:
                    raise Unavailable(f"the coordinator of {self._group} does not answer: {error!r}") from error
                await asyncio.sleep(0.1 * 2**attempt)
        raise AssertionError("unreachable")

    async def _ask_once(self, request: OffsetCommitRequest | OffsetFetchRequest) -> list[tuple[str, tuple[Any, ...]]]:
        if self._coordinator is None:
            self._coordinator = await self._client.coordinator_lookup(CoordinationType.GROUP, self._group)
        response = await self._client.send(self._coordinator, request, group=ConnectionGroup.COORDINATION)
        rows = [(topic, row) for topic, partitions in response.topics for row in partitions]
        for code in (getattr(response, "error_code", 0), *(row[-1] for _, row in rows)):
            if code:
                raise for_code(code)(self._group)
        return rows
