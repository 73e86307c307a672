"""Whose decision on a gate counts, and when there are enough of them. Pure."""

from typing import NamedTuple

from handrail_contracts.approvals import ApprovalDirected, ApprovalSubmitted
from handrail_contracts.gates import Origin

from handrail_approvals.state import Gate


class Refusal(NamedTuple):
    code: str
    reason: str


def _forbidden(reason: str) -> Refusal:
    return Refusal("FORBIDDEN", reason)


def speaker(user_id: str, origin: Origin | None) -> str:
    """Who really speaks: behind a program with a key of its own, whoever has made it."""
    return user_id if origin is None else origin.person or user_id


def may_decide(gate: Gate, person: str) -> bool:
    """Whether their word counts now or later; `why_not` says whether it does now."""
    if gate.terms.four_eyes and person == gate.user_id:
        return False
    if gate.assignee:
        return person == gate.assignee
    return not gate.approvers or person in gate.approvers


def why_not(gate: Gate, message: ApprovalSubmitted) -> Refusal | None:
    """Why a decision does not count; None if it does."""
    voter = message.on_behalf_of or message.user_id
    person = speaker(message.user_id, message.origin)
    if (reason := _no_say(gate, voter, message.user_id, person)) is not None:
        return _forbidden(reason)
    if gate.revision and message.revision is not None and message.revision != gate.revision:
        told = f"the suggestion has revision {gate.revision} by now, and this was about revision {message.revision}"
        return Refusal("REVISED", told)
    if message.digest and message.digest != gate.digest:
        return Refusal("CHANGED", "what is shown has changed since it was looked at")
    if voter in gate.votes:
        return Refusal("ALREADY_DECIDED", f"{voter} has decided before: {gate.votes[voter][0]}")
    if any(person == before for _, _, before in gate.votes.values()):
        return Refusal("ALREADY_DECIDED", f"{person} has decided before, under another name")
    if gate.terms.require == "in_order" and not gate.assignee and (first := _next_in_order(gate)) not in ("", voter):
        return Refusal("NOT_YOUR_TURN", f"it is {first}'s turn to decide")
    if message.data is not None and gate.revision and _needed(gate) != (1, 0):
        told = "several people decide on the suggestion, so none of them can change it: send it back with a comment"
        return Refusal("SEVERAL_DECIDE", told)
    return None


def _no_say(gate: Gate, voter: str, *speakers: str) -> str | None:
    name = voter or "somebody without a name"
    if gate.terms.four_eyes and gate.user_id and gate.user_id in (voter, *speakers):
        return f"{gate.user_id} has started the execution, and somebody else has to decide"
    if gate.assignee and voter != gate.assignee and (not gate.approvers or voter in gate.approvers):
        return f"{gate.assignee} is to decide, not {name}"
    return None if may_decide(gate, voter) else f"{name} is not among the approvers"


def _next_in_order(gate: Gate) -> str:
    return next((person for person in gate.approvers if person not in gate.votes), "")


def outcome(gate: Gate) -> str | None:
    """`approved` or `rejected` once the votes settle it."""
    votes = [decision for decision, *_ in gate.votes.values()]
    approvals, rejections = votes.count("approved"), votes.count("rejected")
    needed, spare = _needed(gate)
    if approvals >= needed:
        return "approved"
    return "rejected" if rejections > spare else None


def _needed(gate: Gate) -> tuple[int, int]:
    """How many approvals it takes, and how many rejections it bears. Of open groups nobody knows how many could be asked.

    Where an escalation asks fewer people than it takes, it takes all of them.
    """
    require, people = gate.terms.require, len(gate.approvers)
    if gate.assignee or require == "any":
        return 1, 0
    if isinstance(require, int):
        needed = min(require, people) if people else require
        return needed, max(0, people - needed)
    return max(1, people), 0


def why_not_directed(gate: Gate, message: ApprovalDirected) -> Refusal | None:
    person = message.user_id
    if message.action == "release":
        mine = gate.assignee and (person == gate.assignee or message.force)
        return None if mine else Refusal("NOT_YOURS", f"{gate.assignee or 'nobody'} has it, not {person}")
    if (reason := _no_say(gate, person, speaker(person, message.origin))) is not None:
        return _forbidden(reason)
    if message.action == "claim":
        return _why_not_alone(gate)
    if person in gate.votes:
        return Refusal("ALREADY_DECIDED", f"{person} has decided before")
    if not gate.approvers and (refusal := _why_not_alone(gate)) is not None:
        return refusal
    return _why_not_to(gate, person, message.to)


def _why_not_alone(gate: Gate) -> Refusal | None:
    if gate.terms.require == "any" or gate.assignee:
        return None
    return Refusal("SEVERAL_DECIDE", "several people have to decide, so nobody can have it alone")


def _why_not_to(gate: Gate, person: str, to: str) -> Refusal | None:
    if not to:
        return Refusal("VALIDATION_ERROR", "it does not say to whom")
    if to == person or (not gate.assignee and (to in gate.approvers or to in gate.votes)):
        return Refusal("ASKED_ALREADY", f"{to} is asked already")
    if gate.terms.four_eyes and to == gate.user_id:
        return _forbidden(f"{to} has started the execution, and somebody else has to decide")
    return None


def delegated(gate: Gate, by: str, to: str) -> tuple[tuple[str, ...], str]:
    """Approvers and assignee once `by` has passed it on. Whoever has a gate alone may pass it to another approver."""
    known = to in gate.approvers
    approvers = gate.approvers if known else tuple(to if person == by else person for person in gate.approvers)
    return approvers, to if gate.assignee or not approvers else ""
