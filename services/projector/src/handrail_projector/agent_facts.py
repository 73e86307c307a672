"""What agents work on and what they have done, from the scheduler's journal. Pure, and the same however batches are cut.

A task is an attempt that an agent answered, well or not; one that was cancelled, or that no agent was asked for, is none.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from handrail_projector.columns import Row, as_count, as_optional_text, as_text

NOBODY_ASKED = frozenset({"UNKNOWN_AGENT", "NO_CAPABLE_AGENT", "AGENT_UNAVAILABLE"})
"""Codes of failures in which the runner asked no agent."""
NO_MODELS = (0, 0, 0, 0)
WORKS = ("agent", "budget")
MOST_COST = 10**15
"""Of one attempt: a million dollars. What claims to have cost more must not break the sums."""
MICROSECOND = timedelta(microseconds=1)
Key = tuple[str, str]
"""An execution and a step."""


@dataclass(slots=True)
class Begun:
    run_id: str
    agent: str
    partition: int
    at: datetime


@dataclass(slots=True)
class Ended:
    """How an attempt ended; `agent` if its step asked for capabilities, `models` are calls, tokens in and out, cost."""

    at: datetime
    answered: bool
    failed: bool = False
    agent: str | None = None
    models: tuple[int, int, int, int] = NO_MODELS


Told = tuple[Key, Begun | Ended]


def told_of_agents(execution_id: str, partition: int, at: datetime, events: list[Any]) -> list[Told]:
    """What one journal record says of agents, in order. Raises for what is not as its contract says."""
    told: list[Told] = []
    models: dict[str, tuple[int, int, int, int]] = {}
    for event in events:
        match event["type"]:
            case "step.started" if event["step_type"] == "agent_execution" and event.get("waits_for") in WORKS:
                key = (execution_id, as_text(event["step_id"]))
                agent = as_optional_text(event.get("agent")) or ""
                if event["attempt"] > 1:  # one that stopped where its budget ended says no end of its own
                    told.append((key, Ended(at, answered=False)))
                told.append((key, Begun(as_text(event["run_id"]), agent, partition, at)))
            case "budget.awaited":
                told.append(((execution_id, as_text(event["step_id"])), Ended(at, answered=False)))
            case "suggestion.made":
                step_id = as_text(event["step_id"])
                told.append(((execution_id, step_id), Ended(at, True, models=models.get(step_id, NO_MODELS))))
            case "step.models_called":
                models[event["step_id"]] = _models(event["calls"])
            case "step.completed" | "step.retry_scheduled" | "step.failed":
                step_id = as_text(event["step_id"])
                told.append(((execution_id, step_id), _ended(at, event, models.get(step_id, NO_MODELS))))
            case "steps.cancelled":
                told += [((execution_id, as_text(step_id)), Ended(at, answered=False)) for step_id in event["step_ids"]]
    return told


def _ended(at: datetime, event: Any, models: tuple[int, int, int, int]) -> Ended:
    failed = event["type"] != "step.completed"
    answered = not failed or event["error"]["code"] not in NOBODY_ASKED
    return Ended(at, answered, failed, as_optional_text(event.get("agent")), models)


@dataclass(slots=True)
class Work:
    """What a batch says of agents: what still goes on, what ended that began before, and what did both in it."""

    begun: dict[Key, Begun] = field(default_factory=dict)
    ended: dict[Key, Ended] = field(default_factory=dict)
    sums: dict[Key, list[Any]] = field(default_factory=dict)
    """By execution and agent."""

    def merge(self, told: list[Told]) -> None:
        for key, said in told:
            if isinstance(said, Begun):
                self.begun[key] = said
            elif (begun := self.begun.pop(key, None)) is None:
                self.ended.setdefault(key, said)
            elif said.answered and (agent := said.agent or begun.agent):
                self._count((key[0], agent), begun, said)

    def _count(self, key: Key, begun: Begun, ended: Ended) -> None:
        sums = self.sums.setdefault(key, [begun.partition, 0, 0, 0, ended.at, 0, 0, 0, 0])
        sums[1] += 1
        sums[2] += ended.failed
        sums[3] += max(0, (ended.at - begun.at) // MICROSECOND)
        sums[4] = max(sums[4], ended.at)
        for place, number in enumerate(ended.models, 5):
            sums[place] += number

    def rows_begun(self) -> list[Row]:
        return [(*key, begun.run_id, begun.agent, begun.partition, begun.at) for key, begun in self.begun.items()]

    def rows_ended(self) -> list[Row]:
        return [
            (*key, ended.agent, ended.at, ended.answered, int(ended.failed), *ended.models)
            for key, ended in self.ended.items()
        ]

    def rows_counted(self) -> list[Row]:
        return [(*key, *sums) for key, sums in self.sums.items()]


def _models(calls: list[Any]) -> tuple[int, int, int, int]:
    tokens_in = sum(as_count(call.get("input_tokens", 0)) for call in calls)
    tokens_out = sum(as_count(call.get("output_tokens", 0)) for call in calls)
    cost = sum(call.get("cost_usd") or 0.0 for call in calls)
    return len(calls), tokens_in, tokens_out, min(max(0, round(cost * 1e9)), MOST_COST)
