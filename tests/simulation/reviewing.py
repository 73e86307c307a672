"""Where several people decide: nobody counts twice, nobody decides alone what takes two, nobody is kept for nothing."""

from collections import defaultdict
from typing import Any

from handrail_contracts import topics
from handrail_contracts.gates import GateRules

from simulation.violations import accepted, require
from simulation.world import World


def check_reviews(world: World) -> None:
    gates: dict[str, _Gate] = {}
    questions: dict[tuple[str, int], str] = {}
    closed: set[str] = set()
    for record in accepted(world, topics.APPROVAL_EVENTS):
        for event in record.events:
            if event.type.startswith(("review.", "reviewer.", "pool.")):
                _take_question(event, questions)
            elif event.type == "approval.closed":
                closed.add(event.approval_id)
                if (gate := gates.get(event.approval_id)) is not None:
                    gate.check_closed(event)
            elif event.type == "approval.opened":
                gates[event.approval_id] = _Gate(event)
            elif (gate := gates.get(event.approval_id)) is not None:
                gate.take(event, event.approval_id in closed)
    kept = {question: person for question, person in questions.items() if person and question[0] in closed}
    require(not kept, "reviewers are kept by gates that are closed:", kept)


def _take_question(event: Any, questions: dict[tuple[str, int], str]) -> None:
    match event.type:
        case "review.queued":
            require((event.approval_id, event.ask) not in questions, event.approval_id, "was queued twice")
            questions[event.approval_id, event.ask] = ""
        case "review.given":
            require(questions[event.approval_id, event.ask] == "", event.approval_id, "was assigned twice")
            questions[event.approval_id, event.ask] = event.reviewer_id
        case "review.ended":
            questions[event.approval_id, event.ask] = ""


class _Gate:
    """Votes counted anew, from the rules alone."""

    def __init__(self, opened: Any) -> None:
        self.rules = opened.rules or GateRules()
        self.approvers, self.assignee = opened.approvers, ""
        self.votes: dict[str, str] = {}

    def take(self, event: Any, over: bool) -> None:
        match event.type:
            case "approval.handed":
                require(not over, event.approval_id, "was handed on after it was closed")
                self.approvers, self.assignee = event.approvers, event.assignee
                if event.action in ("assigned", "escalated"):
                    self.votes = {}
            case "suggestion.revised":
                self.votes = {}
            case "approval.voted":
                require(not over, event.approval_id, "was voted on after it was closed")
                require(event.by not in self.votes, event.approval_id, event.by, "voted twice")
                may = event.by == self.assignee if self.assignee else not self.approvers or event.by in self.approvers
                require(may, event.approval_id, "was decided by a stranger,", event.by)
                self.votes[event.by] = event.decision

    def check_closed(self, event: Any) -> None:
        if event.decision not in ("approved", "rejected") or event.by == "policy":
            return
        counted: defaultdict[str, int] = defaultdict(int)
        for decision in self.votes.values():
            counted[decision] += 1
        needed = self._needed()
        if event.decision == "approved":
            require(counted["approved"] == needed, event.approval_id, "was approved by", dict(counted), "of", needed)
        else:
            spare = max(0, len(self.approvers) - needed)
            require(counted["rejected"] > spare or needed == 1, event.approval_id, "was rejected by", dict(counted))

    def _needed(self) -> int:
        if self.assignee or self.rules.require == "any":
            return 1
        return self.rules.require if isinstance(self.rules.require, int) else max(1, len(self.approvers))
