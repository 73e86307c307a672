"""What waits to be sent to one client: bounded, and made once for all who are sent the same."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from websockets.frames import Frame, Opcode

from handrail_gateway.channels.messages import Message

QUEUE_ITEMS = 1024
QUEUE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Item:
    """Frames as they go over the wire. Who has had them has heard the channel up to `position`."""

    frames: bytes
    count: int = 1
    channel: str = ""
    position: str = ""


def frame(body: bytes) -> bytes:
    return bytes(Frame(Opcode.TEXT, body).serialize(mask=False))


def item(channel: str, messages: Sequence[Message], before: str, end: str) -> Item | None:
    """The messages, in order; only the last one names the position behind all of them. None if there is none."""
    if not messages:
        return None
    bodies = [each.on(channel, before) for each in messages[:-1]] + [messages[-1].on(channel, end)]
    return Item(b"".join(map(frame, bodies)), len(bodies), channel, end)


@dataclass(slots=True)
class Outbox:
    items: deque[Item] = field(default_factory=deque)
    bytes: int = 0

    def put(self, item: Item) -> bool:
        """False if it is full: then nothing of it may be sent any more, or there would be a gap."""
        if self.items and (len(self.items) >= QUEUE_ITEMS or self.bytes + len(item.frames) > QUEUE_BYTES):
            return False
        self.items.append(item)
        self.bytes += len(item.frames)
        return True

    def take(self) -> Item | None:
        if not self.items:
            return None
        found = self.items.popleft()
        self.bytes -= len(found.frames)
        return found

    def clear(self) -> None:
        self.items.clear()
        self.bytes = 0

    @property
    def roomy(self) -> bool:
        return len(self.items) < QUEUE_ITEMS // 2 and self.bytes < QUEUE_BYTES // 2
