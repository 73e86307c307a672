"""What the journal of approvals says of gates and of reviewers. Pure, and the same however batches are cut."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from handrail_contracts.gates import PRIORITIES

from handrail_projector.columns import Row, as_count, as_json, as_optional_time, as_text

ONLY_HISTORY = frozenset(
    {"approval.commented", "approval.refused", "approval.voted", "approval.reminded", "approval.notified"}
)
OF_POOLS = frozenset({"reviewer.set", "review.queued", "review.given", "review.ended", "pool.looked_again"})


@dataclass(slots=True)
class Approvals:
    """What a batch says, by gate, by reviewer, and by question of a gate to its pool."""

    opened: dict[str, Row] = field(default_factory=dict)
    revised: dict[str, Row] = field(default_factory=dict)
    handed: dict[str, Row] = field(default_factory=dict)
    closed: dict[str, Row] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)
    reviewers: dict[tuple[str, str], Row] = field(default_factory=dict)
    questions: dict[tuple[str, int], Row] = field(default_factory=dict)

    def add(self, record: Any, raw: Any, place: tuple[int, int], chain: str) -> None:
        """Takes one record in; `raw` is as the journal has it. Raises and then has changed nothing."""
        told = Approvals()
        at = as_time_of(record)
        for ordinal, event in enumerate(record.get("events", ())):
            told._take(record, event, at)
            if event["type"] not in OF_POOLS:
                said = orjson.dumps(raw["events"][ordinal]).decode()
                told.history.append((as_text(event["approval_id"]), *place, ordinal, at, said, chain))
        self._merge(told)

    def _take(self, record: Any, event: Any, at: datetime) -> None:
        kind = event["type"]
        if kind in OF_POOLS:
            self._take_pool(record, event, at)
            return
        gate = as_text(event["approval_id"])
        match kind:
            case "approval.opened":
                self.opened[gate] = _opened(record, event, at)
            case "suggestion.revised":
                self.revised[gate] = _revised(event)
            case "approval.handed":
                people = [as_text(person) for person in event.get("approvers", ())]
                self.handed[gate] = (gate, people, as_text(event.get("assignee", "")), as_count(event.get("level", 0)))
            case "approval.closed":
                self.closed[gate] = _closed(event, at)
            case _ if kind not in ONLY_HISTORY:
                raise KeyError(kind)

    def _take_pool(self, record: Any, event: Any, at: datetime) -> None:
        pool = as_text(record["execution_id"])
        if event["type"] == "reviewer.set":
            person = as_text(event["reviewer"]["reviewer_id"])
            whose = [as_text(event[name]) for name in ("organization_id", "project_id")]
            said = (as_json(event["reviewer"]), bool(event.get("removed", False)), at)
            self.reviewers[pool, person] = (pool, person, *whose, *said)
        elif event["type"] != "pool.looked_again":
            question = (as_text(event["approval_id"]), as_count(event["ask"]))
            person = as_text(event.get("reviewer_id", ""))
            self.questions[question] = (*question, pool, person, event["type"] == "review.ended", at)

    def _merge(self, told: "Approvals") -> None:
        for row in told.opened.values():
            self.opened.setdefault(row[0], row)
        self.revised |= told.revised
        self.handed |= told.handed
        self.closed |= told.closed
        self.history += told.history
        self.reviewers |= told.reviewers
        for question, row in told.questions.items():
            known = self.questions.get(question)
            self.questions[question] = row if known is None or row[3] else (*row[:3], known[3], *row[4:])


def as_time_of(record: Any) -> datetime:
    found = as_optional_time(record["at"])
    if found is None:
        raise ValueError("a record has a time")
    return found


def _opened(record: Any, event: Any, at: datetime) -> Row:
    rules = event.get("rules") or {}
    return (
        as_text(event["approval_id"]),
        as_text(record["execution_id"]),
        as_text(record["workflow_id"]),
        as_text(event["step_id"]),
        as_text(event["user_id"]),
        as_text(event["organization_id"]),
        as_text(event["project_id"]),
        [as_text(approver) for approver in event.get("approvers", ())],
        as_text(event.get("message", "")),
        as_json(event.get("show")),
        as_optional_time(event.get("deadline")),
        at,
        as_json(event.get("suggestion")),
        PRIORITIES[rules.get("priority", "medium")],
        as_json(rules or None),
        as_text(event.get("digest", "")),
    )


def _revised(event: Any) -> Row:
    suggestion = event["suggestion"]
    shown = (as_json(suggestion), as_json(suggestion["suggested_data"]))
    return (as_text(event["approval_id"]), *shown, as_text(event.get("digest", "")))


def _closed(event: Any, at: datetime) -> Row:
    said = [as_text(event.get(name, "")) for name in ("submission_id", "by", "comment")]
    return (as_text(event["approval_id"]), as_text(event["decision"]), *said, at, as_json(event.get("data")))
