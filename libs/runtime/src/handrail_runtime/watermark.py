"""How far a partition is finished without a gap: only that may be committed."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Watermark:
    """`position` is the next offset to commit: everything before it is finished. `next_to_read` is the next to fetch."""

    position: int
    next_to_read: int = -1
    _open: deque[int] = field(default_factory=deque)
    _done: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.next_to_read = self.position

    def begin(self, offset: int) -> None:
        """Offsets come in ascending order; holes in them (compaction) do not matter."""
        self._open.append(offset)
        self.next_to_read = offset + 1

    def finish(self, offset: int) -> None:
        self._done.add(offset)
        while self._open and self._open[0] in self._done:
            first = self._open.popleft()
            self._done.discard(first)
            self.position = first + 1

    @property
    def open(self) -> int:
        return len(self._open)
