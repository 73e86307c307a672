"""An agent suggests an action, people send it back or approve it, and then it happens.

The step waits meanwhile. What it does next is in `Execution.suggestions`: `waits` for people, `revises` (its agent was asked
again) or `acts` (what was approved is carried out), each of the last two with a run id of its own.

A call of a tool that asks first is a suggestion, too, but the attempt that wanted it goes on where it stood: `goes_on` is the
same run, and finds the call granted, or refused in place of a result.
"""

from typing import Any

from handrail_contracts.approvals import ApprovalDecided, Suggestion, SuggestionRevisionRequested
from handrail_contracts.codec import first_mistake
from handrail_contracts.envelope import ErrorInfo, JsonObject, utc
from handrail_contracts.execution_events import (
    ActionExecuted,
    SuggestionApproved,
    SuggestionMade,
    SuggestionRefused,
    SuggestionSentBack,
)
from handrail_contracts.steps import AgentExecuted
from handrail_graph import AgentParameters, Node, SuggestionRules, ToolParameters
from pydantic import ValidationError

from handrail_scheduler.decision import Decision
from handrail_scheduler.ending import attempt_failed, fail
from handrail_scheduler.identifiers import suggestion_id
from handrail_scheduler.state import Execution, Status

_HEARD = SuggestionRules(on_timeout="reject", on_reject="continue")
"""Of calls in a conversation whose step says nothing of people: the model hears what they have decided."""
BEGINS = ("revises", "acts", "goes_on")
RESULTS = {"email": "email_sent", "webhook": "webhook_called", "tool": "tool_called"}


def rules_of(decision: Decision, step_id: str) -> SuggestionRules | None:
    """Of a step that suggests."""
    parameters = decision.graph.nodes[step_id].parameters
    return parameters.suggestion if isinstance(parameters, AgentParameters) else None


def gate_of(node: Node) -> SuggestionRules:
    """Who decides on what the step suggests, or on a call that it wants to make."""
    match node.parameters:
        case AgentParameters(suggestion=rules) | ToolParameters(ask_first=rules) if rules is not None:
            return rules
        case _:
            return _HEARD


def schema_of(rules: SuggestionRules) -> JsonObject:
    """What an agent that suggests has to answer, as JSON Schema."""
    action = {"type": "string", "enum": list(rules.actions)} if rules.actions else {"type": "string"}
    return {
        "type": "object",
        "properties": {
            "action": action,
            "reasoning": {"type": "string", "description": "why, for the person who decides"},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
            "suggested_data": {
                "type": "object",
                "description": "what the action needs, such as recipient, subject, body",
            },
            "comment": {"type": "string", "description": "to those who sent your last suggestion back"},
        },
        "required": ["action", "confidence", "suggested_data"],
    }


def made(decision: Decision, rules: SuggestionRules, message: AgentExecuted) -> None:
    """The answer of a step that suggests. One that is no suggestion, or not of an allowed action, is a failed attempt."""
    step_id, found = message.step_id, _read(message, rules)
    if isinstance(found, str):
        told = f"agent {message.agent} was to suggest an action, but {found}"
        attempt_failed(decision, step_id, ErrorInfo(code="AGENT_ERROR", message=told, retryable=True))
        return
    _say_made(decision, rules, message, found, auto_approve_above=rules.auto_approve.get(found.action))


def _say_made(
    decision: Decision, rules: SuggestionRules, message: AgentExecuted, found: Suggestion, **fields: Any
) -> None:
    """Again under the same id if people sent it back; what they have decided on is settled, and this is another one."""
    revised, timeout = _sent_back_before(decision, message.step_id), rules.timeout_seconds
    decision.say(
        SuggestionMade,
        step_id=message.step_id,
        attempt=message.attempt,
        suggestion_id=suggestion_id(message.run_id, message.attempt) if revised is None else revised["id"],
        revision=1 if revised is None else revised["revision"] + 1,
        agent=message.agent,
        **found.model_dump(),
        deadline=None if timeout is None or revised is not None else utc(decision.now + timeout),
        **fields,
    )


def _sent_back_before(decision: Decision, step_id: str) -> dict[str, Any] | None:
    """The suggestion whose next revision comes, if its gate is still open."""
    own = decision.state.suggestions.get(step_id)
    return own if own is not None and own["phase"] == "revises" else None


def _read(message: AgentExecuted, rules: SuggestionRules) -> Suggestion | str:
    output = message.output
    given = output["suggestion"] if isinstance(output, dict) and isinstance(output.get("suggestion"), dict) else output
    try:
        found = Suggestion.model_validate(given)
    except ValidationError as error:
        return ": ".join(first_mistake(error))
    if rules.actions and found.action not in rules.actions:
        return f"{found.action!r} is none of those that it may suggest: {', '.join(rules.actions)}"
    return found


def call_suggested(decision: Decision, message: AgentExecuted) -> None:
    """The attempt wants to call a tool that asks first."""
    try:
        found = Suggestion.model_validate(message.output)
    except ValidationError as error:
        told = f"{message.agent} was to say what it wants to call, but {': '.join(first_mistake(error))}"
        attempt_failed(decision, message.step_id, ErrorInfo(code="AGENT_ERROR", message=told))
        return
    _say_made(decision, gate_of(decision.graph.nodes[message.step_id]), message, found, call_id=message.call_id)


def sent_back(decision: Decision, message: SuggestionRevisionRequested) -> None:
    """A person's comment, if it is about the suggestion as it is and the agent may try again."""
    own = decision.state.suggestions.get(message.step_id)
    if own is None or own["id"] != message.suggestion_id or own["phase"] != "waits":
        return
    rules = gate_of(decision.graph.nodes[message.step_id])
    if own["revision"] != message.revision or message.revision > rules.max_revisions:
        return
    decision.say(
        SuggestionSentBack,
        step_id=message.step_id,
        suggestion_id=message.suggestion_id,
        revision=message.revision,
        by=message.user_id,
        comment=message.comment,
    )
    _begin(decision, message.step_id)


def _begin(decision: Decision, step_id: str) -> None:
    if decision.state.status is not Status.PAUSED:
        decision.begin(step_id)


def owed(state: Execution) -> list[str]:
    """Steps that were to begin again while the execution was paused."""
    return [
        step_id
        for step_id, own in state.suggestions.items()
        if own["phase"] in BEGINS and state.steps[step_id].waits_for == "suggestion"
    ]


def decided(decision: Decision, message: ApprovalDecided) -> None:
    """What people have decided, also while the agent still revises what they saw."""
    step_id, own = message.step_id, decision.state.suggestions[message.step_id]
    if own["id"] != message.approval_id or own["phase"] not in ("waits", "revises"):
        return
    rules = gate_of(decision.graph.nodes[step_id])
    if message.decision == "approved":
        _approved(decision, rules, own, message)
    elif message.decision == "expired" and rules.on_timeout == "fail":
        fail(
            decision, step_id, ErrorInfo(code="TIMEOUT", message="nobody decided on the suggestion before its deadline")
        )
    elif own["call_id"] and rules.on_reject != "fail" and _talks(decision, step_id):
        _refused(decision, own, message)
    elif rules.on_reject == "continue":
        decision.complete(step_id, _output(own, "rejected", message.decided_by, message.comment))
    else:
        who = f"{message.decided_by} rejected the suggestion" if message.decided_by else "the suggestion was rejected"
        why = f"{who}: {message.comment}" if message.comment else who
        fail(decision, step_id, ErrorInfo(code="APPROVAL_REJECTED", message=why))


def _talks(decision: Decision, step_id: str) -> bool:
    """Whether somebody hears that a call was refused; a step that is the call itself just does not make it."""
    return isinstance(decision.graph.nodes[step_id].parameters, AgentParameters)


def _approved(decision: Decision, rules: SuggestionRules, own: dict[str, Any], message: ApprovalDecided) -> None:
    seen = own["before"] if own["before"] and own["before"]["revision"] == message.revision else own
    data = seen["said"]["suggested_data"] if message.data is None else message.data
    action = seen["said"]["action"]
    decision.say(
        SuggestionApproved,
        step_id=message.step_id,
        suggestion_id=own["id"],
        revision=seen["revision"],
        action=action,
        data=data,
        by=message.decided_by,
        comment=message.comment,
    )
    rule = rules.actions.get(action)
    if seen["call_id"]:
        _begin(decision, message.step_id)
    elif rule is None or rule.type == "none":
        decision.complete(message.step_id, _output(own, "approved", message.decided_by, message.comment))
    else:
        _begin(decision, message.step_id)


def _refused(decision: Decision, own: dict[str, Any], message: ApprovalDecided) -> None:
    why = message.comment if message.decision == "rejected" else "nobody decided in time"
    decision.say(
        SuggestionRefused, step_id=message.step_id, suggestion_id=own["id"], by=message.decided_by, comment=why
    )
    _begin(decision, message.step_id)


def acted(decision: Decision, rules: SuggestionRules, message: AgentExecuted) -> None:
    """The approved action has happened."""
    own = decision.state.suggestions[message.step_id]
    action = own["said"]["action"]
    result_type = RESULTS[rules.actions[action].type]
    decision.say(
        ActionExecuted,
        step_id=message.step_id,
        suggestion_id=own["id"],
        action=action,
        result_type=result_type,
        details=message.output,
    )
    output = _output(own, "approved", own["by"], own["comment"])
    decision.complete(message.step_id, {**output, "result": {"type": result_type, "details": message.output}})


def _output(own: dict[str, Any], decision: str, by: str, comment: str) -> JsonObject:
    said = {name: own["said"][name] for name in ("action", "reasoning", "confidence")}
    return {
        **said,
        "data": own["data"],
        "suggestion_id": own["id"],
        "revision": own["revision"],
        "decision": decision,
        "approved": decision == "approved",
        "decided_by": by,
        "comment": comment,
    }


def begins_with(state: Execution, step_id: str) -> dict[str, Any] | None:
    """The suggestion that the step begins again with, `asked` and `input` in it: for a revision, the call, or the action."""
    own = state.suggestions.get(step_id)
    return own if own is not None and own["phase"] in BEGINS else None
