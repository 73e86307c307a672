"""Who may begin when: lanes of tenants, and how busy the platform is with each."""

from typing import Any

import orjson
import pytest
from aiokafka import ConsumerRecord
from handrail_runtime import turns
from handrail_runtime.turns import (
    BESIDE_SECONDS,
    BUSY_BESIDE,
    BUSY_SECONDS,
    LATELY_SECONDS,
    NOBODY,
    Busy,
    Tenant,
    Turns,
    lane_of,
)
from handrail_runtime.watermark import Watermark

A, B, C = ("a", "p"), ("b", "p"), ("c", "p")
ALONE = 100


def record(tenant: Tenant, offset: int, partition: int = 0, **more: Any) -> ConsumerRecord[Any, Any]:
    body = {"organization_id": tenant[0], "project_id": tenant[1], **more}
    value = orjson.dumps(body)
    return ConsumerRecord("t", partition, offset, 0, 0, b"k", value, None, 1, len(value), ())


def of(*tenants: Tenant) -> tuple[Turns, dict[int, Watermark]]:
    watermarks = {0: Watermark(0)}
    lanes = Turns(watermarks)
    lanes.add(0, [record(tenant, offset) for offset, tenant in enumerate(tenants)])
    return lanes, watermarks


def offsets(records: list[ConsumerRecord[Any, Any]]) -> list[int]:
    return [taken.offset for taken in records]


def anybody(tenant: Tenant) -> int:
    return 1000


def test_tenants_take_turns_and_each_goes_in_its_own_order() -> None:
    lanes, _ = of(A, A, A, A, B, B, C)
    assert offsets(lanes.take(5, anybody)) == [0, 4, 6, 1, 5]
    assert offsets(lanes.take(5, anybody)) == [2, 3]
    assert not lanes


def test_whoever_comes_last_is_next() -> None:
    lanes, _ = of(*[A] * 1000)
    lanes.take(10, anybody)
    lanes.add(0, [record(B, 1000)])
    assert 1000 in offsets(lanes.take(2, anybody))


def test_who_has_no_room_is_passed_over_and_keeps_his_place() -> None:
    lanes, _ = of(A, A, B, A)
    assert offsets(lanes.take(9, {A: 1, B: 5}.__getitem__)) == [0, 2]
    assert offsets(lanes.take(9, {A: 0}.__getitem__)) == []
    assert offsets(lanes.take(9, anybody)) == [1, 3]


def test_a_child_does_not_wait_behind_what_is_new() -> None:
    lanes, _ = of(A, A, A)
    lanes.add(0, [record(A, 3, parent={"execution_id": "x"})])
    assert offsets(lanes.take(2, anybody)) == [0, 3]
    assert lanes.tenants == {A}


def test_a_partition_is_finished_up_to_the_first_that_is_open() -> None:
    lanes, watermarks = of(A, A, B)
    for taken in lanes.take(2, anybody):
        watermarks[0].finish(taken.offset)
    assert watermarks[0].position == 1
    watermarks[0].finish(1)
    assert watermarks[0].position == 3


def test_what_is_read_again_or_of_a_foreign_partition_is_dropped() -> None:
    lanes, _ = of(A, A)
    lanes.add(0, [record(A, 1), record(A, 2)])
    lanes.add(7, [record(A, 0, partition=7)])
    assert offsets(lanes.take(9, anybody)) == [0, 1, 2]


def test_a_lost_partition_leaves_nothing_behind() -> None:
    watermarks = {0: Watermark(0), 1: Watermark(0)}
    lanes = Turns(watermarks)
    lanes.add(0, [record(A, 0), record(B, 1)])
    lanes.add(1, [record(A, 0, partition=1)])
    lanes.drop({0})
    assert [(taken.partition, taken.offset) for taken in lanes.take(9, anybody)] == [(1, 0)]
    assert lanes._bytes == 0


def test_reading_ahead_ends_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes, watermarks = of(A, A, A)
    assert not lanes.full
    monkeypatch.setattr(turns, "MOST_AHEAD", 2)
    assert lanes.full
    for taken in lanes.take(2, anybody):
        watermarks[0].finish(taken.offset)
    assert not lanes.full
    monkeypatch.setattr(turns, "MOST_BYTES", 10)
    assert lanes.full


@pytest.mark.parametrize("value", [None, b"", b"{", b"[1]", b"7", b"{}", b'{"organization_id": "a"}', b"\xff"])
def test_what_cannot_be_read_has_a_lane_too(value: bytes | None) -> None:
    assert lane_of(value) == NOBODY


def busy_with(tenant: Tenant, count: int, now: float = 0.0, alone: int = ALONE) -> Busy:
    busy = Busy(alone)
    for number in range(count):
        busy.touch(f"{tenant}{number}", tenant, now)
    busy.expire(now)
    return busy


def test_a_flood_that_is_alone_fills_the_platform() -> None:
    busy = busy_with(A, 30)
    assert busy.room({A}, {A})(A) == ALONE - 30


def test_floods_share_in_equal_parts() -> None:
    busy = busy_with(A, 30)
    room = busy.room({A, B}, {A, B})
    assert (room(A), room(B)) == (ALONE // 2 - 30, ALONE // 2)


def test_beside_others_a_flood_leaves_the_queues_short() -> None:
    busy = busy_with(A, 1)
    busy.touch("b", B, 0.0)
    busy.expire(0.0)
    assert busy.room({A}, {A})(A) == BUSY_BESIDE - 1
    busy.leave("b")
    busy.expire(LATELY_SECONDS - 1)
    assert busy.room({A}, {A})(A) == BUSY_BESIDE, "B may come again any moment"
    busy.expire(LATELY_SECONDS + 1)
    assert busy.room({A}, {A})(A) == ALONE


def test_who_comes_new_begins_at_once_and_is_no_flood_yet() -> None:
    busy = busy_with(A, ALONE)
    room = busy.room({A}, {A, B})
    assert room(B) == BUSY_BESIDE
    assert room(A) < 0


def test_what_waits_for_somebody_slow_is_not_busy() -> None:
    busy = busy_with(A, ALONE)
    busy.touch("late", A, BUSY_SECONDS)
    busy.expire(BUSY_SECONDS + 0.01)
    assert busy.room({A}, {A})(A) == ALONE - 1


def test_beside_others_that_is_seen_sooner() -> None:
    busy = busy_with(A, 2, alone=ALONE)
    busy.touch("b", B, 0.0)
    busy.expire(0.0)
    assert busy.room({A}, {A})(A) == BUSY_BESIDE - 2
    busy.expire(BESIDE_SECONDS + 0.01)
    assert busy.room({A}, {A})(A) == BUSY_BESIDE


def test_an_execution_counts_once_however_often_it_moves_and_may_leave_twice() -> None:
    busy = Busy(ALONE)
    for _ in range(3):
        busy.touch("x", A, 0.0)
    assert busy.room({A}, {A})(A) == ALONE - 1
    busy.leave("x")
    busy.leave("x")
    assert busy.room({A}, {A})(A) == ALONE
