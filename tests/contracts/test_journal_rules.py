"""The rules of reading a journal, over logs whose right reading is known from how they were made."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from handrail_contracts.journal import (
    COMMAND_HEADER,
    FENCE_HEADER,
    JOURNAL_HEADER,
    NO_EPOCH,
    Fences,
    JournalFilter,
    Stamp,
    Verdict,
    claim_header,
    header_map,
    record_header,
)
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

IGNORED, ACCEPTED, CLAIM = Verdict.IGNORED, Verdict.ACCEPTED, Verdict.CLAIM
Header = tuple[str, bytes]


@dataclass(frozen=True)
class Entry:
    """A record in the log, and what a reader has to make of it."""

    offset: int
    headers: tuple[Header, ...]
    verdict: Verdict


GARBAGE = (
    (),
    (("content-type", b"application/json"),),
    ((JOURNAL_HEADER, b""),),
    ((JOURNAL_HEADER, b"record"),),
    ((JOURNAL_HEADER, b"record/x/0"),),
    ((JOURNAL_HEADER, b"record/0/x"),),
    ((JOURNAL_HEADER, b"claim/\xff/nonce"),),
    ((JOURNAL_HEADER, b"marker/-1/0"),),
    ((JOURNAL_HEADER, b"record/" + b"9" * 6000 + b"/0"),),
)


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """A partition in which owners come and go: what each record is worth is known as it is written."""
    epoch, next_seq, offset = NO_EPOCH, 0, draw(st.integers(0, 5))
    past: list[int] = [NO_EPOCH]
    log: list[Entry] = []

    def add(header: tuple[Header, ...], verdict: Verdict) -> None:
        log.append(Entry(offset, header, verdict))

    for act in draw(st.lists(st.sampled_from("CCcnnnnngdsz"), max_size=60)):
        if act == "C":  # a claim that names the current epoch
            add((claim_header(epoch, "a1"),), CLAIM)
            epoch, next_seq = offset, 0
            past.append(epoch)
        elif act == "c":  # a claimant that fenced an epoch which is over, or none that ever was
            wrong = draw(st.sampled_from(past) | st.integers(-5, 500))
            add((claim_header(wrong, "b2"),), CLAIM if wrong == epoch else IGNORED)
            if wrong == epoch:
                epoch, next_seq = offset, 0
                past.append(epoch)
        elif act == "n" and epoch == NO_EPOCH:  # before the first claim there is no owner
            add((record_header(epoch, next_seq),), IGNORED)
        elif act == "n":  # the owner's next record
            add((record_header(epoch, next_seq),), ACCEPTED)
            next_seq += 1
        elif act == "g":  # something was lost before it
            add((record_header(epoch, next_seq + draw(st.integers(1, 5))),), IGNORED)
        elif act == "d" and next_seq:  # said twice
            add((record_header(epoch, draw(st.integers(0, next_seq - 1))),), IGNORED)
        elif act == "s" and len(past) > 1:  # a zombie of an earlier epoch
            add((record_header(draw(st.sampled_from(past[:-1])), draw(st.integers(0, 9))),), IGNORED)
        elif act == "z":
            add(draw(st.sampled_from(GARBAGE)), IGNORED)
        offset += draw(st.integers(1, 3))
    return log


def read(log: list[Entry], reader: JournalFilter | None = None) -> list[Verdict]:
    reader = reader or JournalFilter()
    return [reader.take(entry.offset, entry.headers) for entry in log]


@settings(max_examples=1000, deadline=None)
@given(logs())
def test_only_the_owner_s_records_in_sequence_and_claims_on_the_current_epoch_count(log: list[Entry]) -> None:
    verdicts = read(log)
    event(f"{sum(verdict is ACCEPTED for verdict in verdicts) // 10 * 10}+ records count")
    assert verdicts == [entry.verdict for entry in log]


@settings(max_examples=500, deadline=None)
@given(logs(), st.lists(st.integers(0, 60), max_size=6))
def test_readers_agree_however_they_batch_and_wherever_they_restart(log: list[Entry], cuts: list[int]) -> None:
    """A restart keeps `epoch` and `next_seq` beside the offset, and nothing else."""
    kept = JournalFilter()
    verdicts: list[Verdict] = []
    edges = [0, *sorted(min(cut, len(log)) for cut in cuts), len(log)]
    for start, stop in pairwise(edges):
        restarted = JournalFilter(kept.epoch, kept.next_seq)
        verdicts += read(log[start:stop], restarted)
        kept = restarted
    whole = JournalFilter()
    assert verdicts == read(log, whole)
    assert kept == whole


@settings(max_examples=500, deadline=None)
@given(logs())
def test_a_prefix_reads_the_same_whatever_follows(log: list[Entry]) -> None:
    for cut in range(len(log)):
        assert read(log[:cut]) == read(log)[:cut]


@settings(max_examples=500, deadline=None)
@given(logs())
def test_what_was_ignored_might_as_well_not_be_there(log: list[Entry]) -> None:
    history = [entry for entry in log if entry.verdict is not IGNORED]
    assert read(history) == [entry.verdict for entry in history]


@settings(max_examples=500, deadline=None)
@given(logs(), st.data())
def test_saying_a_counted_record_again_later_changes_nothing(log: list[Entry], data: st.DataObject) -> None:
    counted = [index for index, entry in enumerate(log) if entry.verdict is not IGNORED]
    assume(counted)
    index = data.draw(st.sampled_from(counted))
    place = data.draw(st.integers(index + 1, len(log)))
    again = Entry(10_000, log[index].headers, IGNORED)
    assert read([*log[:place], again, *log[place:]]) == [
        *(entry.verdict for entry in log[:place]),
        IGNORED,
        *(entry.verdict for entry in log[place:]),
    ]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from([JOURNAL_HEADER, "other"]), st.none() | st.binary(max_size=30)))))
def test_no_header_whatever_it_holds_stops_a_reader(records: list[list[Any]]) -> None:
    reader = JournalFilter()
    for offset, headers in enumerate(records):
        assert reader.take(offset, headers) in Verdict


def test_of_two_claims_on_one_epoch_the_first_in_the_log_wins() -> None:
    reader = JournalFilter()
    assert read(
        [Entry(7, (claim_header(NO_EPOCH, "a"),), CLAIM), Entry(8, (claim_header(NO_EPOCH, "b"),), IGNORED)], reader
    ) == [
        CLAIM,
        IGNORED,
    ]
    assert reader.epoch == 7


def test_of_a_header_that_comes_twice_the_first_counts() -> None:
    reader = JournalFilter(epoch=3, next_seq=1)
    assert reader.take(9, (record_header(3, 0), record_header(3, 1))) is IGNORED
    assert header_map([("a", b"1"), ("b", b"2"), ("a", b"3")]) == {"a": b"1", "b": b"2"}


# --- stamps and fences ------------------------------------------------------------------------------------------------

STAMPS = st.builds(
    lambda service, partition, epoch: Stamp(f"{service}/{partition}", epoch),
    st.sampled_from(["scheduler", "approvals"]),
    st.integers(0, 3),
    st.integers(-1, 12),
)


@settings(max_examples=300, deadline=None)
@given(STAMPS)
def test_a_stamp_is_read_as_it_was_written(stamp: Stamp) -> None:
    assert Stamp.parse(stamp.header()[1]) == stamp == Stamp.parse(stamp.fence_header()[1])


@pytest.mark.parametrize("value", [None, b"", b"7", b"/7", b"scheduler/3/", b"scheduler/3/x", b"\xff/3/7"])
def test_what_is_no_stamp_is_a_value_error(value: bytes | None) -> None:
    with pytest.raises(ValueError):
        Stamp.parse(value)


@settings(max_examples=500, deadline=None)
@given(st.lists(STAMPS, max_size=20), STAMPS)
def test_a_command_is_allowed_above_the_highest_fence_of_its_owner(fences: list[Stamp], command: Stamp) -> None:
    seen = Fences({})
    for fence in fences:
        assert seen.observe([fence.fence_header()])
    fenced = [fence.epoch for fence in fences if fence.owner == command.owner]
    assert seen.allows([command.header()]) == (not fenced or command.epoch > max(fenced))


@settings(max_examples=300, deadline=None)
@given(st.lists(STAMPS, max_size=20), st.randoms(use_true_random=False))
def test_fences_may_be_read_in_any_order_and_any_number_of_times(fences: list[Stamp], random: Any) -> None:
    once, shuffled = Fences({}), Fences({})
    for fence in fences:
        once.raise_to(fence)
    for fence in random.sample(fences * 2, len(fences) * 2):
        shuffled.raise_to(fence)
    assert sorted(once.stamps(), key=str) == sorted(shuffled.stamps(), key=str)


@settings(max_examples=300, deadline=None)
@given(st.lists(STAMPS, max_size=20), STAMPS, STAMPS)
def test_a_fence_never_allows_what_was_forbidden(fences: list[Stamp], later: Stamp, command: Stamp) -> None:
    seen = Fences({})
    for fence in fences:
        seen.raise_to(fence)
    before = seen.allows([command.header()])
    seen.raise_to(later)
    assert before or not seen.allows([command.header()])


def test_a_command_without_a_stamp_was_decided_by_nobody() -> None:
    assert not Fences({}).allows([])
    assert not Fences({}).allows([("ce_type", b"step.requested")])


def test_what_is_no_fence_is_not_taken_in() -> None:
    seen = Fences({})
    assert not seen.observe([(COMMAND_HEADER, b"scheduler/1/5")])
    assert seen.stamps() == []
    with pytest.raises(ValueError):
        seen.observe([(FENCE_HEADER, b"nonsense")])
