"""Records read ahead and handed out by tenant in turns, so that nobody waits behind another tenant's flood. Pure."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from aiokafka import ConsumerRecord

from handrail_runtime.watermark import Watermark

Record = ConsumerRecord[Any, Any]
Tenant = tuple[str, str]
Lane = tuple[Tenant, bool]

MOST_BYTES = 128 * 1024 * 1024
MOST_AHEAD = 50_000
"""Records past the first open one of a partition: what a restart reads again, and finds done."""
OVERHEAD_BYTES = 600
BUSY_BESIDE = 4
"""Busy executions that flooding tenants share while others work beside them: their queues stay short."""
BUSY_SECONDS, BESIDE_SECONDS = 0.25, 0.05
"""An execution that nothing has moved for so long waits for somebody slow, and keeps nobody else from beginning.

Several times as long as a step takes when the platform is full, or its own queues would pass for slow agents; less while
the queues are short.
"""
LATELY_SECONDS = 10.0

NOBODY: Lane = (("", ""), False)


def lane_of(value: bytes | None) -> Lane:
    """Whose record it is. A child has a lane of its own: what goes on already does not wait behind what is new."""
    try:
        body = orjson.loads(value or b"")
        return (str(body["organization_id"]), str(body["project_id"])), body.get("parent") is not None
    except (ValueError, KeyError, TypeError, AttributeError):
        return NOBODY


class Turns:
    """Lanes of records of one topic that wait. `watermarks`: how far each of our partitions was read and is finished.

    The watermarks stay their owner's, who also says when a record is finished.
    """

    def __init__(self, watermarks: dict[int, Watermark]) -> None:
        self._watermarks = watermarks
        self._lanes: dict[Lane, deque[Record]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        """Lanes in which somebody waits."""
        return len(self._lanes)

    @property
    def tenants(self) -> set[Tenant]:
        return {tenant for tenant, _ in self._lanes}

    @property
    def full(self) -> bool:
        """Nothing more should be read before some of it is done: past this, everybody waits as in any queue."""
        return self._bytes > MOST_BYTES or any(mark.open > MOST_AHEAD for mark in self._watermarks.values())

    def add(self, partition: int, records: Iterable[Record]) -> None:
        """Takes what was read of a partition, in order; what is not of ours, or was taken before, is dropped."""
        watermark = self._watermarks.get(partition)
        if watermark is None:
            return
        for record in records:
            if record.offset >= watermark.next_to_read:
                watermark.begin(record.offset)
                self._lanes.setdefault(lane_of(record.value), deque()).append(record)
                self._bytes += _weight(record)

    def take(self, most: int, room: Callable[[Tenant], int]) -> list[Record]:
        """The next records, one of each tenant after the other, as many of each as it has room for."""
        taken: list[Record] = []
        left = {tenant: room(tenant) for tenant in self.tenants}
        while len(taken) < most and (lane := next((lane for lane in self._lanes if left[lane[0]] > 0), None)):
            waiting = self._lanes.pop(lane)
            taken.append(waiting.popleft())
            if waiting:
                self._lanes[lane] = waiting
            self._bytes -= _weight(taken[-1])
            left[lane[0]] -= 1
        return taken

    def drop(self, partitions: set[int]) -> None:
        """Forgets what waits of partitions that are not ours any more."""
        for lane, waiting in list(self._lanes.items()):
            kept = deque(record for record in waiting if record.partition not in partitions)
            self._bytes -= sum(_weight(record) for record in waiting if record.partition in partitions)
            if kept:
                self._lanes[lane] = kept
            else:
                del self._lanes[lane]


def _weight(record: Record) -> int:
    return OVERHEAD_BYTES + len(record.value or b"")


class Busy:
    """Executions that were moved just now and work on, by tenant. Times are of one clock, in seconds."""

    def __init__(self, alone: int) -> None:
        """`alone`: busy executions that flooding tenants share while nobody else works.

        `beside`, as of the last `room`: somebody works, did lately or wants to who does not flood.
        """
        self._alone, self.beside = alone, False
        self._since: dict[str, tuple[float, Tenant]] = {}
        self._counts = Counter[Tenant]()
        self._lately: dict[Tenant, float] = {}

    def touch(self, execution_id: str, tenant: Tenant, now: float) -> None:
        if self._since.pop(execution_id, None) is None:
            self._counts[tenant] += 1
        self._since[execution_id] = (now, tenant)

    def leave(self, execution_id: str) -> None:
        entry = self._since.pop(execution_id, None)
        if entry is not None:
            self._forget(entry[1])

    def _forget(self, tenant: Tenant) -> None:
        self._counts[tenant] -= 1
        if not self._counts[tenant]:
            del self._counts[tenant]

    def expire(self, now: float) -> None:
        """Forgets executions that nothing has moved for long, and tenants after `LATELY_SECONDS` without one."""
        horizon = now - (BESIDE_SECONDS if self.beside else BUSY_SECONDS)
        while self._since:
            execution_id, (since, tenant) = next(iter(self._since.items()))
            if since > horizon:
                break
            del self._since[execution_id]
            self._forget(tenant)
        for tenant in self._counts:
            self._lately[tenant] = now
        for tenant in [t for t, seen in self._lately.items() if seen < now - LATELY_SECONDS]:
            del self._lately[tenant]

    def room(self, flooding: set[Tenant], waiting: set[Tenant]) -> Callable[[Tenant], int]:
        """How many more executions each tenant may begin. `flooding` are those who had to wait at the last turn already.

        Alone they fill the platform; beside others they leave its queues short.
        """
        self.beside = bool((self._lately.keys() | waiting) - flooding)
        share = max(1, (BUSY_BESIDE if self.beside else self._alone) // max(1, len(flooding)))
        return lambda tenant: (share if tenant in flooding else BUSY_BESIDE) - self._counts[tenant]
