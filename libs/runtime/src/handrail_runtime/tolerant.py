"""Reading records whose header names are not UTF-8.

Kafka does not look at header names; aiokafka decodes them while it unpacks a batch, so one foreign record raises from
every `getmany` for ever, takes records of other partitions down with it, and no seek past it helps as long as its batch
has more. Here the batch is unpacked a second time, slowly, with such bytes written as `\\xff`.
"""

from typing import Any, SupportsIndex, overload

from aiokafka.consumer import fetcher
from aiokafka.record import default_records
from aiokafka.record.memory_records import MemoryRecords

_fetcher: Any = fetcher  # the client's insides have no annotations, and mark as final what they do not close
_PythonBatch: Any = default_records._DefaultRecordBatchPy
_QuickRecords: Any = MemoryRecords
_PartitionRecords: Any = _fetcher.PartitionRecords


class KeptRecords(_QuickRecords):  # type: ignore[misc]
    """Unpacked by the compiled code, as always; keeps the bytes for the second look."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self.raw = raw


class _LenientBytes(bytearray):
    """What a batch is cut from: text in it always decodes."""

    @overload
    def __getitem__(self, place: SupportsIndex) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> "_LenientBytes": ...
    def __getitem__(self, place: Any) -> Any:
        cut = super().__getitem__(place)
        return _LenientBytes(cut) if isinstance(place, slice) else cut

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, "backslashreplace")


class _LenientBatch(_PythonBatch):  # type: ignore[misc]
    _buffer: Any

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        if not isinstance(self._buffer, _LenientBytes):
            self._buffer = _LenientBytes(self._buffer)


class _LenientRecords:
    """The batches of a fetch that reach to `start` or beyond, in the interface of `MemoryRecords`."""

    def __init__(self, raw: bytes, start: int) -> None:
        self._raw, self._place = memoryview(raw), 0
        self._next: _LenientBatch | None = self._read()
        while self._next is not None and self._next.next_offset <= start:
            self._next = self._read()

    def has_next(self) -> bool:
        return self._next is not None

    def next_batch(self) -> _LenientBatch:
        batch, self._next = self._next, self._read()
        assert batch is not None
        return batch

    def _read(self) -> _LenientBatch | None:
        size = self._size()
        if size is None:
            return None
        batch = _LenientBatch(bytearray(self._raw[self._place : self._place + size]))
        self._place += size
        return batch

    def _size(self) -> int | None:
        """A fetch may end in the middle of a batch; such a rest is fetched again."""
        head = self._raw[self._place : self._place + 12]
        if len(head) < 12:
            return None
        size = 12 + int.from_bytes(head[8:12], "big", signed=True)
        return size if self._place + size <= len(self._raw) else None


class TolerantPartitionRecords(_PartitionRecords):  # type: ignore[misc]
    """Goes on with the lenient look where the quick one stumbles; `next_fetch_offset` says where that is."""

    _records: Any

    def __init__(self, tp: Any, records: Any, aborted: Any, *rest: Any) -> None:
        self._aborted_again = list(aborted or [])
        super().__init__(tp, records, aborted, *rest)

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except UnicodeDecodeError:
            self._records = _LenientRecords(self._records.raw, self.next_fetch_offset)
            self._aborted_transactions = sorted(self._aborted_again, key=lambda entry: entry[1])
            self._aborted_producers: set[int] = set()
            self._records_iterator = self._unpack_records()
            return super().__next__()


def tolerate_foreign_headers() -> None:
    """Makes every consumer of this process read on over such records. Calling it again changes nothing."""
    _fetcher.MemoryRecords = KeptRecords
    _fetcher.PartitionRecords = TolerantPartitionRecords
