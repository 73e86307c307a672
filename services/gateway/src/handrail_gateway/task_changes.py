"""Changing a task moves the step run that it stands for; what counts is what the scheduler has journaled."""

import asyncio
from collections.abc import Sequence
from typing import Any

from handrail_contracts.envelope import utc
from handrail_contracts.ids import derive, partition_of
from handrail_contracts.tasks import TaskCommented
from handrail_contracts.topics import COMMENT_ADDED, EXECUTION_PARTITIONS

from handrail_gateway import controls
from handrail_gateway.database import Row
from handrail_gateway.gateway import Gateway
from handrail_gateway.idempotency import request_id
from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import invalid
from handrail_gateway.schemas import TaskChange, TaskCommentRequest
from handrail_gateway.tasks import find, place_of, refusal
from handrail_gateway.waiting import WAIT_SECONDS

Wish = tuple[str, dict[str, Any]]
"""An action, and what it is given."""
ACTIONS = {"completed": "complete", "failed": "fail"}


async def change(gateway: Gateway, caller: Caller, task_id: str, body: TaskChange, key: str | None) -> tuple[Row, bool]:
    """The task as it is then, and whether that is known to be so. Raises a 409 `Problem` that says why nothing was changed."""
    row = await find(gateway, caller, task_id)
    request = request_id(caller, f"tasks/{task_id}", key)
    wishes = await _wishes(gateway, caller, row, body)
    ids = [derive(request, action) for action, _ in wishes]
    if key is not None:
        gateway.recent.check(request, key, body.model_dump(mode="json"))
        if await journaled(gateway, caller, row, ids):
            return row, True
    for action, _ in wishes:
        if (problem := refusal(action, row)) is not None:
            raise problem
    for identifier, (action, fields) in zip(ids, wishes, strict=True):
        await controls.send(
            gateway, caller, row, identifier, action, reason=body.reason, step_id=row["step_id"], **fields
        )
    done = await settled(gateway, caller, row, dict(zip(ids, [action for action, _ in wishes], strict=True)))
    return await find(gateway, caller, task_id), done


async def _wishes(gateway: Gateway, caller: Caller, row: Row, body: TaskChange) -> list[Wish]:
    """In the order in which they are told: what is said of it, who has it, how it goes on."""
    wishes: list[Wish] = []
    if said := body.said():
        wishes.append(("annotate", {"changes": said}))
    if body.agent_id is not None and (body.agent_id != row["agent_id"] or row["assignee"]):
        if await _kind(gateway, caller, body.agent_id) is None:
            told = f"There is no agent {body.agent_id!r}; register it first (PUT /api/v1/agents/{body.agent_id})."
            raise invalid(told, [{"path": "agent_id", "message": "unknown agent"}])
        wishes.append(("reassign", {"agent": body.agent_id}))
    if body.assignee is not None and body.assignee != row["assignee"]:
        wishes.append(("reassign", {"assignee": body.assignee}))
    if body.status in ACTIONS:
        handed_over = any(action == "reassign" for action, _ in wishes)
        itself = "" if handed_over else await _answers_for_itself(gateway, caller, row)
        given = {"data": body.output} if body.status == "completed" else {}
        wishes.append((ACTIONS[body.status], {**given, "agent": itself}))
    elif body.status == "in_progress" and row["step_status"] != "running":
        wishes.append(("retry", {}))
    return wishes


async def _answers_for_itself(gateway: Gateway, caller: Caller, row: Row) -> str:
    """The task's agent, if nobody calls it: then this is its answer."""
    agent = row["agent_id"]
    if agent is None or row["step_status"] != "running" or row["waits_for"] != "agent":
        return ""
    return agent if await _kind(gateway, caller, agent) == "external" else ""


async def _kind(gateway: Gateway, caller: Caller, agent: str) -> str | None:
    row = await gateway.database.row("agent_kind", caller.organization_id, caller.project_id, agent)
    return None if row is None else row["kind"]


async def journaled(gateway: Gateway, caller: Caller, row: Row, ids: Sequence[str]) -> bool:
    whose = (caller.organization_id, caller.project_id, row["execution_id"])
    found = await gateway.database.row("requests_journaled", *whose, list(ids))
    return found is not None and found["count"] == len(ids)


async def settled(gateway: Gateway, caller: Caller, row: Row, actions: dict[str, str]) -> bool:
    """Whether all of the wishes have counted within the time that callers wait.

    Raises a 409 `Problem` once it is certain that one will not: somebody else was first.
    """
    place, ids = place_of(row["execution_id"]), list(actions)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                seen = await gateway.positions.current(place)
                if await journaled(gateway, caller, row, ids):
                    return True
                now = await find(gateway, caller, row["id"])
                for identifier, action in actions.items():
                    problem = refusal(action, now)
                    if problem is not None and not await journaled(gateway, caller, row, [identifier]):
                        raise problem
                await gateway.positions.wait({place: seen + 1}, WAIT_SECONDS)
    except TimeoutError:
        return False


async def comment(
    gateway: Gateway, caller: Caller, row: Row, body: TaskCommentRequest, key: str | None
) -> dict[str, Any]:
    """Publishes it, and waits until the read models show it, for as long as callers wait."""
    author = await _author(gateway, caller, body)
    identifier = request_id(caller, f"tasks/{row['id']}/comments", key)
    gateway.recent.check(identifier, key, body.model_dump())
    message = TaskCommented(
        **caller.tenant.model_dump(),
        event_id=identifier,
        occurred_at=utc(gateway.now()),
        execution_id=row["execution_id"],
        workflow_id=row["workflow_id"],
        task_id=row["id"],
        step_id=row["step_id"],
        author_id=author,
        author_type=body.author_type,
        author_name=body.author_name,
        text=body.text,
    )
    _, offset = await gateway.publisher.publish(COMMENT_ADDED, row["execution_id"], message)
    place = (COMMENT_ADDED, partition_of(row["execution_id"], EXECUTION_PARTITIONS))
    await gateway.positions.wait({place: offset + 1})
    told = {name: getattr(message, name) for name in ("task_id", "author_id", "author_type", "author_name", "text")}
    return {"id": identifier, **told, "created_at": message.occurred_at}


async def _author(gateway: Gateway, caller: Caller, body: TaskCommentRequest) -> str:
    if body.author_type == "human":
        if body.author_id not in (None, caller.user_id):
            raise invalid("A comment is its author's own.", [{"path": "author_id", "message": "leave it out"}])
        return caller.user_id
    if body.author_id is None or await _kind(gateway, caller, body.author_id) is None:
        raise invalid("Name the agent that says this.", [{"path": "author_id", "message": "unknown agent"}])
    return body.author_id
