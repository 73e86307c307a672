"""Read your writes: before the gateway says that something is not there, the projector has passed what was written."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from handrail_runtime import bus
from handrail_runtime.errors import Unavailable
from handrail_runtime.settings import Settings

from handrail_gateway.connection import Connection
from handrail_gateway.database import Row
from handrail_gateway.problems import Problem, unavailable

T = TypeVar("T")

POLL_SECONDS = 0.007
WAIT_SECONDS = 5.0
ENDS_SECONDS = 3.0

Place = tuple[str, int]
"""A topic and a partition."""


class Fetch(Protocol):
    async def fetch(self, name: str, *arguments: object) -> Sequence[Row]: ...


@dataclass(eq=False, slots=True)
class _Waiter:
    targets: Mapping[Place, int]
    done: "asyncio.Future[None]"


class Positions:
    """How far the projector is. One task asks for everybody who waits, and only while somebody does."""

    def __init__(self, database: Fetch, poll_seconds: float = POLL_SECONDS) -> None:
        self._database, self._poll_seconds = database, poll_seconds
        self._waiters: set[_Waiter] = set()
        self._poller: asyncio.Task[None] | None = None

    async def wait(self, targets: Mapping[Place, int], timeout: float = WAIT_SECONDS) -> bool:
        """Whether every place was projected up to (not including) its offset within `timeout` seconds."""
        waiter = _Waiter(targets, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="positions")
        try:
            await asyncio.wait_for(waiter.done, timeout)
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    async def current(self, place: Place) -> int:
        return (await self._read({place[0]})).get(place, 0)

    async def close(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    async def _poll(self) -> None:
        while self._waiters:
            waiting = list(self._waiters)
            try:
                positions = await self._read({topic for waiter in waiting for topic, _ in waiter.targets})
            except Problem as problem:
                for waiter in waiting:
                    self._waiters.discard(waiter)
                    if not waiter.done.done():
                        waiter.done.set_exception(problem)
                continue
            for waiter in waiting:
                if all(positions.get(place, 0) >= offset for place, offset in waiter.targets.items()):
                    self._waiters.discard(waiter)
                    if not waiter.done.done():
                        waiter.done.set_result(None)
            await asyncio.sleep(self._poll_seconds)

    async def _read(self, topics: set[str]) -> Mapping[Place, int]:
        rows = await self._database.fetch("positions", list(topics))
        return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


class Ends(Protocol):
    async def of(self, topic: str, partitions: Sequence[int]) -> Mapping[Place, int]: ...


class BrokerEnds:
    """Asks the broker where partitions end now."""

    def __init__(self, connection: Connection[Any]) -> None:
        self.connection = connection

    @classmethod
    def from_settings(cls, settings: Settings) -> "BrokerEnds":
        return cls(Connection("ends", lambda: bus.start_reader(settings, "handrail-gateway-ends"), bus.stop))

    async def of(self, topic: str, partitions: Sequence[int]) -> Mapping[Place, int]:
        """Raises a 503 `Problem` if the broker does not say."""
        away = unavailable(
            "BROKER_UNAVAILABLE", "It was not found, and whether it is on its way cannot be told without the broker."
        )
        if (reader := self.connection.client) is None:
            raise away
        places = [TopicPartition(topic, partition) for partition in partitions]
        try:
            ends = await asyncio.wait_for(bus.end_offsets(reader, places), ENDS_SECONDS)
        except (TimeoutError, Unavailable, KafkaError, OSError) as error:
            self.connection.replace(reader, error)
            raise away from error
        return {(place.topic, place.partition): offset for place, offset in ends.items()}


@dataclass(frozen=True, slots=True)
class ReadYourWrites:
    """Looks, and looks again once the projector has seen everything that was written before the first look."""

    positions: Positions
    ends: Ends

    async def find(
        self,
        look: Callable[[], Awaitable[T | None]],
        topic: str,
        partitions: Sequence[int],
        timeout: float = WAIT_SECONDS,
    ) -> T | None:
        """None means: it is not there, nor was it on its way. Raises a 503 `Problem` if that cannot be told in time."""
        found = await look()
        if found is not None:
            return found
        began = time.monotonic()
        ends = await self.ends.of(topic, partitions)
        if not await self.positions.wait(ends, max(0.1, timeout - (time.monotonic() - began))):
            raise unavailable(
                "READ_MODELS_BEHIND", "It may be on its way: the read models are behind. Ask again shortly."
            )
        return await look()
