"""A bounded memory of ids that ended."""

from collections.abc import Iterable
from hashlib import blake2b

CAPACITY = 10_000


class EndedIds:
    """The latest `CAPACITY` ids that ended in a partition: a duplicate start within that window begins nothing.

    Ids are kept as 12-byte digests. The order of insertion is the journal's, so every fold keeps the same ones.
    """

    def __init__(self, digests: Iterable[bytes] = (), capacity: int = CAPACITY) -> None:
        self._digests = dict.fromkeys(digests)
        self._capacity = capacity

    @staticmethod
    def _digest(identifier: str) -> bytes:
        return blake2b(identifier.encode(), digest_size=12).digest()

    def add(self, identifier: str) -> None:
        self._digests[self._digest(identifier)] = None
        if len(self._digests) > self._capacity:
            del self._digests[next(iter(self._digests))]

    def __contains__(self, identifier: object) -> bool:
        return isinstance(identifier, str) and self._digest(identifier) in self._digests

    def digests(self) -> list[bytes]:
        return list(self._digests)
