"""Starting and finding executions."""

from collections.abc import Awaitable, Callable
from typing import Any

from handrail_contracts.envelope import utc
from handrail_contracts.ids import derive, partition_of
from handrail_contracts.topics import EXECUTION_PARTITIONS, WORKFLOW_STARTED
from handrail_contracts.workflows import WorkflowStarted

from handrail_gateway.answers import parsed
from handrail_gateway.database import Row
from handrail_gateway.definitions import version_to_start
from handrail_gateway.gateway import Gateway
from handrail_gateway.idempotency import key_reused, request_id
from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import Problem, not_found
from handrail_gateway.schemas import ExecuteRequest

HISTORY_TURNS = 20
History = Callable[[], Awaitable[list[dict[str, Any]]]]
"""How much of a session a chat is told."""


async def find(gateway: Gateway, caller: Caller, execution_id: str, query: str = "execution") -> Row:
    """The row; a 404 `Problem` only if nobody has asked for such an execution of this tenant."""

    async def look() -> Row | None:
        return await gateway.database.row(query, caller.organization_id, caller.project_id, execution_id)

    partition = partition_of(execution_id, EXECUTION_PARTITIONS)
    found = await gateway.reads.find(look, WORKFLOW_STARTED, [partition])
    if found is None:
        raise not_found("execution", execution_id)
    return found


async def start(
    gateway: Gateway,
    caller: Caller,
    workflow_id: str,
    body: ExecuteRequest,
    key: str | None,
    history: History | None = None,
) -> dict[str, Any]:
    """Publishes `workflow.started`; what it gives is true once the record was acknowledged.

    `history` is asked for what goes under that name into the input: it may be another one when the same request comes again.
    """
    execution_id = request_id(caller, f"workflows/{workflow_id}/execute", key)
    version = await version_to_start(gateway, caller, workflow_id, execution_id)
    message = _message(gateway, caller, workflow_id, version, body, execution_id)
    if key is not None:
        if (earlier := await _earlier(gateway, caller, message.execution_id)) is not None:
            return _again(earlier, message, history is not None or _wants_history(message))
        gateway.recent.check(message.execution_id, key, body.model_dump(mode="json"))
    await gateway.pending.check()
    if history is not None:
        message = message.model_copy(update={"input": {**message.input, "history": await history()}})
    elif _wants_history(message):
        message = message.model_copy(update={"input": await _with_history(gateway, caller, message)})
    await gateway.publisher.publish(WORKFLOW_STARTED, message.execution_id, message)
    return _accepted(message.execution_id, workflow_id, "running", message.occurred_at)


def _message(
    gateway: Gateway, caller: Caller, workflow_id: str, version: int, body: ExecuteRequest, execution_id: str
) -> WorkflowStarted:
    return WorkflowStarted(
        **caller.tenant.model_dump(),
        event_id=derive(execution_id, WORKFLOW_STARTED),
        occurred_at=utc(gateway.now()),
        execution_id=execution_id,
        workflow_id=workflow_id,
        workflow_version=version,
        input=body.initial_input(),
        context=body.context,
        # Who it is done for is the trigger's to say; who asked, and for which tenant, only the token's.
        trigger=body.trigger if body.user_id is None else {**body.trigger, "user_id": body.user_id},
        session_id=body.session_id,
        attributes=body.attributes,
        priority=body.priority,
    )


def _wants_history(message: WorkflowStarted) -> bool:
    """A message of a chat that says nothing of what was said before."""
    given = message.input
    return bool(
        message.session_id and isinstance(given, dict) and "current_message" in given and not given.get("history")
    )


async def _with_history(gateway: Gateway, caller: Caller, message: WorkflowStarted) -> dict[str, Any]:
    """The input, with what was said in the session before: the latest messages and answers, oldest first."""
    whose = (caller.organization_id, caller.project_id, message.workflow_id, message.session_id)
    rows = await gateway.database.fetch("session_messages", *whose, HISTORY_TURNS)
    history = []
    for row in reversed(rows):
        said = parsed(row["input"])
        asked = said.get("current_message") if isinstance(said, dict) else said
        history += [{"role": "user", "content": asked}, {"role": "assistant", "content": parsed(row["result"])}]
    return {**message.input, "history": history}


async def _earlier(gateway: Gateway, caller: Caller, execution_id: str) -> Row | None:
    try:
        return await gateway.database.row("execution", caller.organization_id, caller.project_id, execution_id)
    except Problem as problem:
        if problem.code != "DATABASE_UNAVAILABLE":
            raise
        return None  # the execution id belongs to the key: doing it again still starts one


def _again(earlier: Row, message: WorkflowStarted, with_history: bool) -> dict[str, Any]:
    for name in ("trigger", "input", "context"):
        if earlier[name] is None:
            continue
        stored = parsed(earlier[name])
        if name == "input" and with_history and isinstance(stored, dict):
            stored = (
                {**stored, "history": message.input.get("history")}
                if "history" in message.input
                else {field: value for field, value in stored.items() if field != "history"}
            )
        if stored != getattr(message, name):
            raise key_reused()
    return _accepted(message.execution_id, message.workflow_id, earlier["status"], earlier["started_at"])


def _accepted(execution_id: str, workflow_id: str, status: str, started_at: object) -> dict[str, Any]:
    return {"execution_id": execution_id, "workflow_id": workflow_id, "status": status, "started_at": started_at}
