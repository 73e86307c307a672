"""Which partitions are ours, as the consumer group says. Good for liveness only: safety is in the log."""

import asyncio
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener

from handrail_runtime import bus
from handrail_runtime.settings import Settings


class Membership(ConsumerRebalanceListener):
    """Joins a group on `topic` with a consumer that fetches nothing.

    `assigned` is the latest word, `changed` is set with every new word; between a revocation and the next assignment
    the old word stands, because losing a partition for good is told by the log, by a newer claim.
    """

    def __init__(self, settings: Settings, group: str, topic: str) -> None:
        self._settings, self._group, self._topic = settings, group, topic
        self._consumer: AIOKafkaConsumer | None = None
        self.assigned: frozenset[int] = frozenset()
        self.generation = 0
        self.changed = asyncio.Event()

    async def start(self) -> None:
        self._consumer = await bus.start_member(self._settings, f"handrail-{self._group}-member", self._group)
        self._consumer.subscribe([self._topic], listener=self)

    async def stop(self, *, leave: bool = False) -> None:
        """A static member keeps its place for a quick restart, unless it is to leave: then others take over at once."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None and consumer._coordinator is not None and leave:
            consumer._coordinator._group_instance_id = None  # the client has no other way to let a static member leave
        await bus.stop(consumer)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """The old word stands until the new one comes."""

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        partitions = list(assigned)
        if self._consumer is not None:
            for partition in partitions:
                self._consumer.seek(partition, 0)
            self._consumer.pause(*partitions)
        self.assigned = frozenset(partition.partition for partition in partitions)
        self.generation += 1
        self.changed.set()
