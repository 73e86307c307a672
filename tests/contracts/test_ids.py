"""Ids and partitions are what other programs would compute too."""

from uuid import UUID, uuid5

import pytest
from aiokafka.partitioner import DefaultPartitioner
from handrail_contracts.ids import derive, fraction, murmur2, partition_of
from hypothesis import given, settings
from hypothesis import strategies as st

NAMESPACE = UUID("3c1f5a52-6a0c-5d3f-9f3e-5f7d3a1c9b10")
KEYS = st.text(st.characters(codec="utf-8"))
PARTS = st.lists(KEYS | st.integers() | st.none() | st.booleans(), max_size=5)


@settings(max_examples=1000, deadline=None)
@given(KEYS, st.integers(1, 64))
def test_a_key_goes_to_the_partition_that_aiokafka_picks(key: str, count: int) -> None:
    partitions = list(range(count))
    assert partition_of(key, count) == DefaultPartitioner()(key.encode(), partitions, partitions)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_the_hash_is_aiokafka_s_for_any_bytes(data: bytes) -> None:
    partitions = list(range(2**16))
    assert (murmur2(data) & 0x7FFFFFFF) % 2**16 == DefaultPartitioner()(data, partitions, partitions)


@pytest.mark.parametrize(
    "data, signed",
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536),
     (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971), (b"abc", 479470107)],
)  # fmt: skip
def test_the_hash_is_java_s(data: bytes, signed: int) -> None:
    """The vectors of Kafka's own UtilsTest.testMurmur2."""
    assert murmur2(data) == signed & 0xFFFFFFFF


@settings(max_examples=1000, deadline=None)
@given(PARTS)
def test_derived_ids_are_version_5_uuids_of_the_joined_name(parts: list[object]) -> None:
    assert derive(*parts) == str(uuid5(NAMESPACE, "\x1f".join(str(part) for part in parts)))


def test_parts_are_kept_apart() -> None:
    assert len({derive("ab", "c"), derive("a", "bc"), derive("abc"), derive("a", "b", "c")}) == 4


@settings(max_examples=300, deadline=None)
@given(PARTS)
def test_a_fraction_belongs_to_its_parts_and_is_below_one(parts: list[object]) -> None:
    assert 0 <= fraction(*parts) < 1
    assert fraction(*parts) == fraction(*parts)


def test_fractions_spread() -> None:
    found = [fraction("execution", number) for number in range(4000)]
    tenths = [sum(tenth / 10 <= value < (tenth + 1) / 10 for value in found) for tenth in range(10)]
    assert min(tenths) > 300 and max(tenths) < 500
