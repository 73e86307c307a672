"""Load on a service desk: many inquiries at one time, and what of it fell to whom."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

from handrail_client import CustomerServiceDesk, Handrail, HandrailError
from handrail_client.models import Execution

from handrail.bench.workloads import percentile

Json = dict[str, Any]
Team = Sequence[str]
"""Agents that are equal: of one tier, with the same specialties."""

SIMPLE = (
    "I need help with my account",
    "How do I change my address?",
    "What are your opening hours?",
    "Where is my invoice of last month?",
)
COMPLEX = (
    "We need help with the architecture of our API integration: some orders never arrive",
    "The bank disputes two of our payments, and the audit is next week",
)
LOOKERS = 20


@dataclass(frozen=True, slots=True)
class Work:
    """One inquiry with one agent; times in seconds since 1970."""

    agent: str
    began: float
    ended: float


@dataclass(slots=True)
class Unevenness:
    """How differently equal agents were used: the largest differences between two of one team."""

    count: int = 0
    load: int = 0
    chosen_above_least: int = 0
    """By how much the load of an agent that was chosen was above that of the one with the least, at that moment."""


@dataclass(slots=True)
class Report:
    seconds: float = 0.0
    took: list[float] = field(default_factory=list)
    answered: list[Json] = field(default_factory=list)
    unanswered: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    work: list[Work] = field(default_factory=list)
    agents: list[Json] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """As people read it."""
        yield f"answers         {len(self.answered)} in {self.seconds:.1f} s: {len(self.answered) / self.seconds:.1f} a second"
        if took := sorted(self.took):
            yield f"time to answer  p50 {percentile(took, 0.5):.2f} s, p95 {percentile(took, 0.95):.2f} s"
        yield f"answered by     {_shares(found['tier'] for found in self.answered)}"
        yield f"escalated       {sum(found['escalated'] for found in self.answered)}"
        done = Counter(work.agent for work in self.work)
        for tier, agents in groupby(self.agents, lambda agent: str(agent["tier"])):
            counts = (f"{agent['name']} {done[agent['id']]}" for agent in agents)
            yield f"{tier:15} {', '.join(counts)}"
        uneven = unevenness(self.work, teams_of(self.agents))
        yield (
            f"equal agents    differ by {uneven.count} in all, by {uneven.load} at one moment; "
            f"{uneven.chosen_above_least} above the least loaded when chosen"
        )
        for name, trouble in (("not answered", self.unanswered), ("errors", self.errors)):
            yield f"{name:15} {', '.join(f'{what}: {count}' for what, count in trouble.items()) or 'none'}"


def _shares(names: Iterable[str]) -> str:
    counts = Counter(names)
    whole = counts.total()
    return ", ".join(f"{name} {count / whole:.0%}" for name, count in counts.most_common()) or "nobody"


def unevenness(work: Iterable[Work], teams: Iterable[Team]) -> Unevenness:
    """Who ends at the very moment at which another begins is not counted as at work."""
    found, all_work = Unevenness(), list(work)
    for team in teams:
        mine = [each for each in all_work if each.agent in team]
        load, count = dict.fromkeys(team, 0), Counter(dict.fromkeys(team, 0))
        count.update(each.agent for each in mine)
        moments = [(each.ended, 0, each.agent) for each in mine] + [(each.began, 1, each.agent) for each in mine]
        for _, begins, agent in sorted(moments):
            if begins:
                found.chosen_above_least = max(found.chosen_above_least, load[agent] - min(load.values()))
            load[agent] += 1 if begins else -1
            found.load = max(found.load, max(load.values()) - min(load.values()))
        found.count = max(found.count, max(count.values()) - min(count.values()))
    return found


def inquiries(count: int, share_complex: float) -> Iterator[str]:
    """So many, of which that share is complex, spread evenly."""
    for number in range(count):
        is_complex = int((number + 1) * share_complex) > int(number * share_complex)
        texts = COMPLEX if is_complex else SIMPLE
        yield texts[number % len(texts)]


async def load(
    desk: CustomerServiceDesk,
    handrail: Handrail,
    *,
    count: int,
    concurrent: int,
    share_complex: float,
    timeout: float,
    told: Callable[[], None] = lambda: None,
) -> Report:
    """`told` is called for each that has come back."""
    report, waiting = Report(), enumerate(inquiries(count, share_complex))

    async def client() -> None:
        for number, text in waiting:
            began = time.monotonic()
            try:
                found = await desk.handle(f"load-{number}", text, timeout=timeout)
            except HandrailError as error:
                report.errors[type(error).__name__] += 1
            else:
                if found["status"] == "answered":
                    report.took.append(time.monotonic() - began)
                    report.answered.append(found)
                else:
                    report.unanswered[found["status"]] += 1
            told()

    began = time.monotonic()
    async with asyncio.TaskGroup() as clients:
        for _ in range(concurrent):
            clients.create_task(client())
    report.seconds = time.monotonic() - began
    report.agents = (await desk.status())["agents"]
    report.work = await work_of(handrail, [found["id"] for found in report.answered])
    return report


def teams_of(agents: Iterable[Json]) -> list[Team]:
    teams = defaultdict[tuple[str, ...], list[str]](list)
    for agent in agents:
        teams[agent["tier"], *sorted(agent["specialties"])].append(agent["id"])
    return list(teams.values())


async def work_of(handrail: Handrail, inquiry_ids: Iterable[str]) -> list[Work]:
    """What agents did for these inquiries, by the executions' steps."""
    found, waiting = list[Work](), iter(inquiry_ids)

    async def looker() -> None:
        for inquiry_id in waiting:
            found.extend(_work(await handrail.execution(inquiry_id).get()))

    async with asyncio.TaskGroup() as lookers:
        for _ in range(LOOKERS):
            lookers.create_task(looker())
    return found


def _work(execution: Execution) -> Iterator[Work]:
    for step in execution.steps:
        if step.step_id.startswith("tier_") and step.agent and step.started_at and step.completed_at:
            yield Work(step.agent, _at(step.started_at), _at(step.completed_at))


def _at(moment: datetime) -> float:
    return moment.timestamp()
