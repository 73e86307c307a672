"""How a journal is written and read: epochs, sequence numbers, fences.

A journal partition is a lock as well as a history. Every record names, in one header, its kind, its writer's epoch and
its sequence number in it; every command names its owner and epoch. The rules are here, once, for every reader.
"""

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Any, Literal

from pydantic import AwareDatetime

from handrail_contracts.envelope import Model

Headers = Iterable[tuple[str, bytes]]
"""As a client hands them over. A foreign record may carry a null for a value: nothing here stumbles over it."""

JOURNAL_HEADER = "hr-journal"
COMMAND_HEADER = "hr-command"
FENCE_HEADER = "hr-fence"
CHAIN_HEADER = "hr-chain"
NO_EPOCH = -1
GENESIS = "0" * 64
"""What the first link of a chain follows."""


class Source(Model):
    """Where an input came from; `topic` is `timer` for a due timer, which has no offset."""

    topic: str
    offset: int = -1


class Record(Model):
    """The body of a journal record. One input gives one record, so state and input position change together.

    `positions` (markers only) are the offsets before which each input topic is decided, `acknowledged` the journal offset up to
    which everything that the records say to others has been acknowledged.
    """

    schema_version: Literal[1] = 1
    at: AwareDatetime
    execution_id: str = ""
    workflow_id: str = ""
    source: Source | None = None
    positions: dict[str, int] | None = None
    acknowledged: int | None = None


class Verdict(IntEnum):
    """What a journal record is to a reader."""

    IGNORED = 0
    ACCEPTED = 1
    CLAIM = 2


def record_header(epoch: int, seq: int) -> tuple[str, bytes]:
    return (JOURNAL_HEADER, b"record/%d/%d" % (epoch, seq))


def chain_header(before: str) -> tuple[str, bytes]:
    """On each record of a journal that is chained: the link of the accepted record before it, or `GENESIS`."""
    return (CHAIN_HEADER, before.encode())


def link(before: str, value: bytes | None) -> str:
    """A record's link: SHA-256 of the link before it and its bytes, so that nothing before it can be changed unseen."""
    return sha256(before.encode() + (value or b"")).hexdigest()


def chain_of(headers: Headers) -> str | None:
    """The link that the record says it follows; None of one that is not chained."""
    return next(((value or b"").decode("latin-1") for name, value in headers if name == CHAIN_HEADER), None)


def claim_header(fenced: int, nonce: str) -> tuple[str, bytes]:
    """A claim names the epoch that its author has fenced: it counts only while that epoch is current."""
    return (JOURNAL_HEADER, b"claim/%d/%s" % (fenced, nonce.encode()))


@dataclass(slots=True)
class JournalFilter:
    """The state of a reader of one journal partition: keep it beside the offset, in the same transaction.

    The epoch is the offset of the last claim that counted; `next_seq` is the only sequence number that counts next.
    """

    epoch: int = NO_EPOCH
    next_seq: int = 0

    def take(self, offset: int, headers: Headers) -> Verdict:
        for name, value in headers:
            if name == JOURNAL_HEADER:
                return self._take(offset, value or b"")
        return Verdict.IGNORED

    def _take(self, offset: int, value: bytes) -> Verdict:
        kind, _, rest = value.partition(b"/")
        first, _, second = rest.partition(b"/")
        try:
            epoch = int(first)
            if kind == b"record":
                if epoch != self.epoch or epoch == NO_EPOCH or int(second) != self.next_seq:
                    return Verdict.IGNORED
                self.next_seq += 1
                return Verdict.ACCEPTED
        except ValueError:
            return Verdict.IGNORED
        if kind == b"claim" and epoch == self.epoch:
            self.epoch, self.next_seq = offset, 0
            return Verdict.CLAIM
        return Verdict.IGNORED


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who decided a command: the owner (`scheduler/3`: service and journal partition) and its epoch."""

    owner: str
    epoch: int

    def header(self) -> tuple[str, bytes]:
        return (COMMAND_HEADER, f"{self.owner}/{self.epoch}".encode())

    def fence_header(self) -> tuple[str, bytes]:
        return (FENCE_HEADER, f"{self.owner}/{self.epoch}".encode())

    @staticmethod
    def parse(value: bytes | None) -> "Stamp":
        """Raises `ValueError` for anything that is no stamp."""
        owner, _, epoch = (value or b"").decode("ascii").rpartition("/")
        if not owner:
            raise ValueError("a stamp is <service>/<partition>/<epoch>")
        return Stamp(owner, int(epoch))


@dataclass(slots=True)
class Fences:
    """The highest fenced epoch of each owner, as far as a consumer has read. Commands at or below it are dead."""

    highest: MutableMapping[str, int]

    def observe(self, headers: Headers) -> bool:
        """Takes a fence record in; false if the record is none."""
        for name, value in headers:
            if name == FENCE_HEADER:
                self.raise_to(Stamp.parse(value))
                return True
        return False

    def raise_to(self, stamp: Stamp) -> None:
        if stamp.epoch > self.highest.get(stamp.owner, NO_EPOCH - 1):
            self.highest[stamp.owner] = stamp.epoch

    def stamps(self) -> list[Stamp]:
        return [Stamp(owner, epoch) for owner, epoch in self.highest.items()]

    def allows(self, headers: Headers) -> bool:
        """Whether a command may be carried out. One without a stamp was not decided by any owner: no."""
        for name, value in headers:
            if name == COMMAND_HEADER:
                stamp = Stamp.parse(value)
                return stamp.epoch > self.highest.get(stamp.owner, NO_EPOCH - 1)
        return False


def header_map(headers: Headers) -> Mapping[str, Any]:
    """Headers by name; of a name that comes twice the first counts."""
    found: dict[str, Any] = {}
    for name, value in headers:
        found.setdefault(name, value)
    return found
