"""Read your writes, and ids that belong to a key."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from handrail_gateway.idempotency import RecentKeys, request_id
from handrail_gateway.identity.caller import Caller
from handrail_gateway.known import KnownWorkflows
from handrail_gateway.paging import decode_cursor, encode_cursor, page
from handrail_gateway.problems import Problem
from handrail_gateway.waiting import Positions, ReadYourWrites
from unit.gateway.builders import FakeDatabase

ADA = Caller("ada", "acme", "apollo", 0)


class Projector:
    """Positions that a test moves."""

    def __init__(self) -> None:
        self.next = 0
        self.database = FakeDatabase({"positions": lambda topics: [self.row(topic) for topic in topics]})

    def row(self, topic: str) -> dict[str, Any]:
        return {"topic": topic, "partition": 0, "next_offset": self.next, "epoch": -1, "next_seq": 0}

    def polls(self) -> int:
        return len(self.database.asked)


class Ends:
    def __init__(self, end: int) -> None:
        self.end = end

    async def of(self, topic: str, partitions: Sequence[int]) -> Mapping[tuple[str, int], int]:
        return {(topic, partition): self.end for partition in partitions}


async def test_one_poller_serves_everybody_who_waits_and_rests_afterwards() -> None:
    projector = Projector()
    positions = Positions(projector.database, 0.001)
    waiting = [asyncio.create_task(positions.wait({("t", 0): offset})) for offset in range(1, 101)]
    await asyncio.sleep(0.05)
    polls = projector.polls()
    assert 1 <= polls < 100
    assert not any(task.done() for task in waiting)
    projector.next = 100
    assert await asyncio.gather(*waiting) == [True] * 100
    await asyncio.sleep(0.01)
    rested = projector.polls()
    await asyncio.sleep(0.02)
    assert projector.polls() == rested


async def test_who_waits_in_vain_is_told_so() -> None:
    assert await Positions(Projector().database, 0.001).wait({("t", 0): 1}, timeout=0.02) is False


async def test_a_database_that_goes_away_fails_the_waiting_and_not_those_after_them() -> None:
    projector = Projector()
    positions = Positions(projector.database, 0.001)
    projector.database.away = True
    with pytest.raises(Problem):
        await positions.wait({("t", 0): 1})
    projector.database.away, projector.next = False, 1
    assert await positions.wait({("t", 0): 1}) is True


async def test_what_was_on_its_way_is_found_at_the_second_look() -> None:
    projector, shelf = Projector(), list[str]()

    async def look() -> str | None:
        return shelf[0] if shelf else None

    reads = ReadYourWrites(Positions(projector.database, 0.001), Ends(5))
    finding = asyncio.create_task(reads.find(look, "t", [0]))
    await asyncio.sleep(0.02)
    assert not finding.done()
    shelf.append("it")
    projector.next = 5
    assert await finding == "it"


async def test_what_is_there_costs_one_look_and_no_question_to_the_broker() -> None:
    async def look() -> str:
        return "it"

    class NoEnds:
        async def of(self, topic: str, partitions: Sequence[int]) -> Mapping[tuple[str, int], int]:
            raise AssertionError("asked the broker")

    assert await ReadYourWrites(Positions(FakeDatabase()), NoEnds()).find(look, "t", [0]) == "it"


async def test_nothing_is_missing_before_the_projector_has_passed_the_end() -> None:
    async def look() -> str | None:
        return None

    projector = Projector()
    with pytest.raises(Problem) as behind:
        await ReadYourWrites(Positions(projector.database, 0.001), Ends(1)).find(look, "t", [0], timeout=0.02)
    assert behind.value.code == "READ_MODELS_BEHIND"
    projector.next = 1
    assert await ReadYourWrites(Positions(projector.database, 0.001), Ends(1)).find(look, "t", [0]) is None


def test_ids_belong_to_caller_route_and_key() -> None:
    variants = {
        request_id(caller, route, key)
        for caller in (ADA, Caller("bob", "acme", "apollo", 0), Caller("ada", "acme", "other", 0))
        for route in ("workflows/a/execute", "workflows/b/execute")
        for key in ("1", "2")
    }
    assert len(variants) == 12
    assert request_id(ADA, "r", "1") == request_id(ADA, "r", "1")
    assert request_id(ADA, "r", None) != request_id(ADA, "r", None)


def test_a_key_with_another_body_is_refused_whatever_the_order_of_fields() -> None:
    keys = RecentKeys(limit=2)
    keys.check("id", "k", {"a": 1, "b": 2})
    keys.check("id", "k", {"b": 2, "a": 1})
    with pytest.raises(Problem) as refused:
        keys.check("id", "k", {"a": 2})
    assert (refused.value.status, refused.value.code) == (422, "IDEMPOTENCY_KEY_REUSED")
    keys.check("id", None, {"a": 3})
    for other in ("x", "y", "z"):
        keys.check(other, "k", {})
    assert len(keys._seen) == 2


def test_a_workflow_is_known_only_to_its_tenant() -> None:
    known = KnownWorkflows(limit=1)
    known.remember(ADA, "w", 3)
    assert known.get(ADA, "w") == 3
    assert known.get(Caller("ada", "acme", "other", 0), "w") is None
    known.remember(ADA, "v", 1)
    assert known.get(ADA, "w") is None


def test_a_cursor_gives_its_keys_back_and_a_page_is_cut_where_it_points() -> None:
    assert decode_cursor(encode_cursor("a", 7), str, int) == ["a", 7]
    assert decode_cursor(None, str, int) == [None, None]
    rows, cursor = page([1, 2, 3], 2, lambda row: (row,))
    assert (rows, decode_cursor(cursor, int)) == ([1, 2], [2])
    assert page([1, 2], 2, lambda row: (row,)) == ([1, 2], None)


@pytest.mark.parametrize(
    "forged", ["", "!", "W10", "WzFd", encode_cursor(1), encode_cursor("a", "b"), encode_cursor(True, 1)]
)
def test_a_forged_cursor_is_refused(forged: str) -> None:
    with pytest.raises(Problem):
        decode_cursor(forged, str, int)
