"""What was missed since a position: names of what has changed, from the topics themselves.

Records that are no history are taken as hints all the same: what they name is looked up, and found as it is.
"""

from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition
from handrail_runtime.machine.recovery import read_to
from handrail_runtime.reader import Reader
from handrail_runtime.settings import Settings

from handrail_gateway.channels.changes import Changes, changes_of
from handrail_gateway.channels.positions import behind, earliest
from handrail_gateway.live import Offsets

MOST_RECORDS = 200_000


class Backlog:
    """One reader, for all who resume at the same time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reader: Reader | None = None

    async def since(self, starts: Mapping[str, Offsets], end: Offsets) -> dict[str, Changes]:
        """By the key of `starts`; not of a start that is too old. Raises `Unavailable` or a `KafkaError`."""
        if self._reader is None:
            self._reader = await Reader.start(self._settings, "handrail-gateway-backlog")
        begins = await self._reader.begin_offsets(end)
        near = {
            key: start
            for key, start in starts.items()
            if behind(start, end) <= MOST_RECORDS and not any(start[place] < begins[place] for place in begins)
        }
        found = {key: Changes() for key in near}
        if near:
            await self._read(self._reader, near, end, found)
        return found

    async def _read(
        self, reader: Reader, starts: Mapping[str, Offsets], end: Offsets, found: Mapping[str, Changes]
    ) -> None:
        first = earliest(list(starts.values()))
        places = {place: offset for place, offset in first.items() if offset < end[place]}
        reader.assign(places)
        async for records in read_to(reader, {place: end[place] for place in places}):
            for record in records:
                changes = readable(record)
                if changes is None:
                    continue
                place = TopicPartition(record.topic, record.partition)
                for key, start in starts.items():
                    if record.offset >= start[place]:
                        found[key].merge(changes)

    async def close(self) -> None:
        if self._reader is not None:
            await self._reader.stop()


def readable(record: Any) -> Changes | None:
    """None for what is no message: a claim, or a foreign record."""
    try:
        return changes_of(record.topic, record.value)[0]
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
