"""The hash chain of the journal of approvals, link by link."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from handrail_contracts.journal import GENESIS, JournalFilter, Verdict, chain_of, link
from handrail_contracts.topics import APPROVAL_EVENTS, catalogue
from handrail_runtime.machine.recovery import read_to
from handrail_runtime.reader import Reader
from handrail_runtime.settings import Settings

Head = Mapping[str, Any]
"""`partition`, `offset` and `link` of a record."""


@dataclass
class Chain:
    """One partition's. Records of before there was a chain carry no link; after the first that does, all have to."""

    partition: int
    kept: dict[int, str] = field(default_factory=dict)
    filter: JournalFilter = field(default_factory=JournalFilter)
    records: int = 0
    offset: int = -1
    link: str = GENESIS
    begun: bool = False
    problems: list[str] = field(default_factory=list)

    def take(self, record: Any) -> None:
        if self.filter.take(record.offset, record.headers) is not Verdict.ACCEPTED:
            return
        before = chain_of(record.headers)
        self.begun = self.begun or before is not None
        if self.begun and before != self.link:
            says = "no link at all" if before is None else f"{before[:12]}..."
            self._problem(record.offset, f"it follows {says}, and the one before it is {self.link[:12]}...")
        self.records, self.offset, self.link = self.records + 1, record.offset, link(self.link, record.value)
        kept = self.kept.pop(record.offset, self.link)
        if kept != self.link:
            self._problem(record.offset, f"the link that was kept is {kept[:12]}..., and it is {self.link[:12]}... now")

    def end(self) -> None:
        for offset in self.kept:
            self._problem(offset, "its link was kept, and the record does not count any more or is gone")

    def _problem(self, offset: int, what: str) -> None:
        self.problems.append(f"{APPROVAL_EVENTS} partition {self.partition} offset {offset}: {what}")

    @property
    def head(self) -> Head:
        return {"partition": self.partition, "offset": self.offset, "link": self.link}


async def read_chains(settings: Settings, kept: Sequence[Head]) -> list[Chain]:
    """Every partition's chain, from its beginning."""
    partitions = range(catalogue()[APPROVAL_EVENTS].partitions)
    chains = [Chain(p, {head["offset"]: head["link"] for head in kept if head["partition"] == p}) for p in partitions]
    places = [TopicPartition(APPROVAL_EVENTS, p) for p in partitions]
    reader = await Reader.start(settings, "handrail-audit")
    try:
        reader.assign(await reader.begin_offsets(places))
        async for records in read_to(reader, await reader.end_offsets(places)):
            for record in records:
                chains[record.partition].take(record)
    finally:
        await reader.stop()
    for chain in chains:
        chain.end()
    return chains
