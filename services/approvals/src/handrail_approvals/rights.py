"""Whose decision on a gate counts, and when there are enough of them. Pure."""

from handrail_contracts.approvals import ApprovalDirected, ApprovalSubmitted

from handrail_approvals.state import Gate

SUGGESTION_REVISED = "the suggestion has revision"
SHOWN_OTHERWISE = "what is shown has changed"


def may_decide(gate: Gate, person: str) -> bool:
    """Whether their word counts now or later; `why_not` says whether it does now."""
    if gate.terms.four_eyes and person == gate.user_id:
        return False
    if gate.assignee:
        return person == gate.assignee
    return not gate.approvers or person in gate.approvers


def why_not(gate: Gate, message: ApprovalSubmitted) -> str | None:
    """Why a decision does not count; None if it does."""
    voter = message.on_behalf_of or message.user_id
    if (reason := _no_say(gate, voter, message.user_id)) is not None:
        return reason
    if gate.revision and message.revision is not None and message.revision != gate.revision:
        return f"{SUGGESTION_REVISED} {gate.revision} by now, and this was about revision {message.revision}"
    if message.digest and message.digest != gate.digest:
        return f"{SHOWN_OTHERWISE} since it was looked at"
    if voter in gate.votes:
        return f"{voter} has decided before: {gate.votes[voter][0]}"
    if gate.terms.require == "in_order" and not gate.assignee and (first := _next_in_order(gate)) not in ("", voter):
        return f"it is {first}'s turn to decide"
    if message.data is not None and gate.revision and _needed(gate) != (1, 0):
        return "several people decide on the suggestion, so none of them can change it: send it back with a comment"
    return None


def _no_say(gate: Gate, voter: str, speaker: str) -> str | None:
    name = voter or "somebody without a name"
    if gate.terms.four_eyes and gate.user_id in (voter, speaker):
        return f"{gate.user_id} has started the execution, and somebody else has to decide"
    if gate.assignee and voter != gate.assignee and (not gate.approvers or voter in gate.approvers):
        return f"{gate.assignee} is to decide, not {name}"
    return None if may_decide(gate, voter) else f"{name} is not among the approvers"


def _next_in_order(gate: Gate) -> str:
    return next((person for person in gate.approvers if person not in gate.votes), "")


def outcome(gate: Gate) -> str | None:
    """`approved` or `rejected` once the votes settle it."""
    votes = [decision for decision, _ in gate.votes.values()]
    approvals, rejections = votes.count("approved"), votes.count("rejected")
    needed, spare = _needed(gate)
    if approvals >= needed:
        return "approved"
    return "rejected" if rejections > spare else None


def _needed(gate: Gate) -> tuple[int, int]:
    """How many approvals it takes, and how many rejections it bears. Of open groups nobody knows how many could be asked."""
    require, people = gate.terms.require, len(gate.approvers)
    if gate.assignee or require == "any":
        return 1, 0
    if isinstance(require, int):
        return require, max(0, people - require)
    return max(1, people), 0


def why_not_directed(gate: Gate, message: ApprovalDirected) -> str | None:
    person = message.user_id
    if message.action == "release":
        return None if person == gate.assignee else f"{gate.assignee or 'nobody'} has it, not {person}"
    if (reason := _no_say(gate, person, person)) is not None:
        return reason
    if message.action == "claim":
        several = gate.terms.require != "any" and not gate.terms.assign
        return "several people have to decide, so nobody can have it alone" if several else None
    if not message.to:
        return "it does not say to whom"
    if message.to == person or message.to in gate.approvers or message.to in gate.votes:
        return f"{message.to} is asked already"
    if person in gate.votes:
        return f"{person} has decided before"
    if gate.terms.four_eyes and message.to == gate.user_id:
        return f"{message.to} has started the execution, and somebody else has to decide"
    return None


def delegated(gate: Gate, by: str, to: str) -> tuple[tuple[str, ...], str]:
    """Approvers and assignee once `by` has passed it on."""
    approvers = tuple(to if person == by else person for person in gate.approvers)
    return approvers, to if gate.assignee or not approvers else ""
