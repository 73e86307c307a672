"""Tasks: step runs as people see them; changing one moves the step run."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from handrail_contracts.gates import Priority
from pydantic import AwareDatetime

from handrail_gateway import posting, task_changes, tasks
from handrail_gateway.answers import Answer
from handrail_gateway.gateway import CallerDep, GatewayDep
from handrail_gateway.given import scoped
from handrail_gateway.idempotency import Key, request_id
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.schemas import (
    NewTask,
    NewTasks,
    Task,
    TaskChange,
    TaskComment,
    TaskCommentPage,
    TaskCommentRequest,
    TaskPage,
    TaskStatus,
)

router = APIRouter(prefix="/tasks", tags=["tasks"])

TaskId = Annotated[str, Path(min_length=1, max_length=200)]
Filter = Annotated[str | None, Query(max_length=200)]
SENT: dict[int | str, dict[str, Any]] = {202: {"description": "sent; whether it counts is not known yet"}}


@router.get("", response_model=TaskPage)
async def list_tasks(
    gateway: GatewayDep,
    caller: CallerDep,
    status: TaskStatus | None = None,
    workflow_id: Filter = None,
    execution_id: Filter = None,
    agent_id: Filter = None,
    priority: Priority | None = None,
    overdue: bool | None = None,
    due_before: AwareDatetime | None = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Answer:
    """Of the latest executions first. An agent that nobody calls asks for its own: `agent_id=NAME&status=in_progress`."""
    after = decode_cursor(cursor, datetime, str, int, str)
    workflows = None if workflow_id is None else [workflow_id, scoped(caller, workflow_id)]
    filters = (tasks.step_statuses(status), workflows, execution_id, agent_id, priority, overdue, due_before)
    query = "list_tasks_at_work" if agent_id is not None and status == "in_progress" else "list_tasks"
    rows = await gateway.database.fetch(query, caller.organization_id, caller.project_id, *filters, *after, limit + 1)
    keys = ("execution_started_at", "execution_id", "first_n", "step_id")
    kept, next_cursor = page(rows, limit, lambda row: [row[name] for name in keys])
    return Answer({"items": [tasks.shown(row) for row in kept], "next_cursor": next_cursor})


@router.post("", status_code=201, response_model=Task | list[Task])
async def create_tasks(body: NewTasks, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Answer:
    """One task, or a list: those of one workflow become one execution, in the order that `depends_on` says. All or none."""
    several = body if isinstance(body, list) else [body]
    request = request_id(caller, "tasks", key)
    gateway.recent.check(request, key, [task.model_dump(mode="json") for task in several])
    rows = await posting.post(gateway, caller, posting.numbered(several, request))
    made = [tasks.shown(row, whole=True) for row in rows]
    if isinstance(body, NewTask):
        return Answer(made[0], 201, {"Location": f"/api/v1/tasks/{made[0]['id']}"})
    return Answer(made, 201)


@router.get("/{task_id}", response_model=Task)
async def get_task(task_id: TaskId, gateway: GatewayDep, caller: CallerDep) -> Answer:
    return Answer(tasks.shown(await tasks.find(gateway, caller, task_id), whole=True))


@router.put("/{task_id}", response_model=Task, responses=SENT)
async def change_task(
    task_id: TaskId, body: TaskChange, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """A person completes or fails it in its agent's place, hands it over, or says how it is; an agent that nobody calls answers
    it so. 409 if that is impossible by now: nothing was changed.
    """
    row, done = await task_changes.change(gateway, caller, task_id, body, key)
    return Answer(tasks.shown(row, whole=True), 200 if done else 202)


@router.get("/{task_id}/comments", response_model=TaskCommentPage)
async def list_comments(
    task_id: TaskId, gateway: GatewayDep, caller: CallerDep, limit: Limit = 50, cursor: CursorText = None
) -> Answer:
    """Oldest first, with those on its suggestions."""
    after = decode_cursor(cursor, datetime, str)
    row = await tasks.find(gateway, caller, task_id)
    place = (caller.organization_id, caller.project_id, row["execution_id"], row["step_id"])
    rows = await gateway.database.fetch("list_task_comments", *place, *after, limit + 1)
    kept, next_cursor = page(rows, limit, lambda row: (row["created_at"], row["id"]))
    items = [{**comment, "task_id": row["id"]} for comment in kept]
    return Answer({"items": items, "next_cursor": next_cursor})


@router.post("/{task_id}/comments", status_code=201, response_model=TaskComment)
async def comment_on_task(
    task_id: TaskId, body: TaskCommentRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """A remark: nothing follows from it. What sends a suggestion back is a comment on the suggestion."""
    row = await tasks.find(gateway, caller, task_id)
    return Answer(await task_changes.comment(gateway, caller, row, body, key), 201)
