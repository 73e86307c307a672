"""Suggestions of agents that work by themselves: a gate that people decide at, and nothing that the engine does."""

from collections.abc import Sequence

from handrail_contracts.approvals import SuggestionCreated
from handrail_contracts.envelope import utc
from handrail_contracts.ids import derive, partition_of
from handrail_contracts.topics import APPROVAL_EVENTS, EXECUTION_PARTITIONS, SUGGESTION_CREATED

from handrail_gateway import tasks
from handrail_gateway.answers import parsed
from handrail_gateway.database import Row
from handrail_gateway.gateway import Gateway
from handrail_gateway.given import plain, scoped
from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import conflict, invalid, unavailable
from handrail_gateway.schemas import NewSuggestion
from handrail_gateway.waiting import WAIT_SECONDS


async def suggest(gateway: Gateway, caller: Caller, suggestions: Sequence[NewSuggestion], request: str) -> list[str]:
    """Their ids, once the read models show them. Raises a `Problem` before anything was published."""
    messages = [
        await _message(gateway, caller, number, each, derive(request, number))
        for number, each in enumerate(suggestions)
    ]
    for message in messages:
        if not await _is_there(gateway, caller, message):
            await gateway.publisher.publish(SUGGESTION_CREATED, message.execution_id, message)
    for message in messages:
        await _until_shown(gateway, caller, message)
    return [message.suggestion_id for message in messages]


async def _message(
    gateway: Gateway, caller: Caller, number: int, body: NewSuggestion, standard: str
) -> SuggestionCreated:
    task = await tasks.find(gateway, caller, body.task_id)
    if body.agent_id not in (None, task["agent_id"]):
        told = f"The task is {task['agent_id'] or task['assignee']}'s, and not {body.agent_id}'s. Nothing was stored."
        raise invalid(told, [{"path": f"[{number}].agent_id", "message": "not the task's agent"}])
    if task["agent_id"] is None:
        raise conflict("NO_AGENT", f"Task {body.task_id} is in the hands of {task['assignee']}. Nothing was stored.")
    identifier = standard if body.id is None else scoped(caller, body.id)
    said = body.model_dump(include={"action", "reasoning", "confidence", "suggested_data", "comment", "revision"})
    return SuggestionCreated(
        **caller.tenant.model_dump(),
        event_id=derive(identifier, "revision", body.revision),
        occurred_at=utc(gateway.now()),
        execution_id=task["execution_id"],
        workflow_id=task["workflow_id"],
        suggestion_id=identifier,
        step_id=task["step_id"],
        agent=task["agent_id"],
        task_id=task["id"],
        approvers=tuple(body.approvers),
        **said,
    )


async def _look(gateway: Gateway, caller: Caller, message: SuggestionCreated) -> Row | None:
    return await gateway.database.row("suggestion", caller.organization_id, caller.project_id, message.suggestion_id)


async def _is_there(gateway: Gateway, caller: Caller, message: SuggestionCreated) -> bool:
    """The same once more changes nothing. Raises a 409 `Problem` if it is another, or no revision of it is wanted."""
    row = await _look(gateway, caller, message)
    if row is None:
        return False
    known = parsed(row["suggestion"])
    same = ("task_id", "action", "reasoning", "confidence", "suggested_data", "agent")
    if known["revision"] == message.revision and all(known[name] == getattr(message, name) for name in same):
        return True
    if known["revision"] + 1 == message.revision and row["status"] == "pending":
        return False
    name = plain(message.suggestion_id)
    raise conflict(
        "ALREADY_EXISTS", f"Suggestion {name} is {row['status']} in revision {known['revision']}, and is another."
    )


async def _until_shown(gateway: Gateway, caller: Caller, message: SuggestionCreated) -> None:
    place = (APPROVAL_EVENTS, partition_of(message.execution_id, EXECUTION_PARTITIONS))
    deadline = gateway.now() + WAIT_SECONDS
    while True:
        seen = await gateway.positions.current(place)
        row = await _look(gateway, caller, message)
        if row is not None and parsed(row["suggestion"])["revision"] >= message.revision:
            return
        left = deadline - gateway.now()
        if left <= 0 or not await gateway.positions.wait({place: seen + 1}, left):
            raise unavailable(
                "READ_MODELS_BEHIND", "It was sent, and is not journaled yet. It is safe to send it again."
            )
