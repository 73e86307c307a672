"""Posting tasks: those of one workflow become one execution, whose steps they are. All are checked before anything is begun."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from handrail_contracts.envelope import utc
from handrail_contracts.ids import derive
from handrail_contracts.tasks import POSTED_PREFIX
from handrail_contracts.topics import WORKFLOW_STARTED
from handrail_contracts.workflows import WorkflowStarted
from handrail_graph import compile_workflow

from handrail_gateway import controls, definitions
from handrail_gateway.answers import parsed
from handrail_gateway.database import Row
from handrail_gateway.definitions import Document
from handrail_gateway.gateway import Gateway
from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import Problem, conflict, invalid, unavailable
from handrail_gateway.schemas import NewTask
from handrail_gateway.streaming import TERMINAL
from handrail_gateway.task_changes import settled
from handrail_gateway.tasks import find, place_of
from handrail_gateway.waiting import WAIT_SECONDS

HEAD = (
    "id",
    "name",
    "description",
    "category",
    "tags",
    "trigger",
    "concurrency",
    "budget",
    "timeout_seconds",
    "agent_ids",
)
"""What a workflow keeps when its tasks are others."""
SHOWN_ONLY = {"workflow_id", "status", "progress", "output", "reason"}
Tasks = Mapping[str, NewTask]
"""By id."""


async def post(gateway: Gateway, caller: Caller, tasks: Tasks) -> list[Row]:
    """The tasks as they are then, in the order given. What was posted before with the same words is not begun again."""
    groups: dict[str, dict[str, NewTask]] = {}
    for task_id, task in tasks.items():
        workflow_id = await definitions.resolve(gateway, caller, task.workflow_id)
        groups.setdefault(workflow_id, {})[task_id] = task
    _check_statuses(tasks)
    plans = [await _plan(gateway, caller, workflow_id, group) for workflow_id, group in groups.items()]
    await gateway.pending.check()
    for workflow_id, group, document, execution_id, begun in plans:
        if not begun:
            await _begin(gateway, caller, workflow_id, document, execution_id)
        await _apply(gateway, caller, document, execution_id, group)
    return [await find(gateway, caller, task_id) for task_id in tasks]


def _check_statuses(tasks: Tasks) -> None:
    """Nothing goes on before what it depends on."""
    problems = [
        {"path": f"{task_id}.status", "message": f"{task.status}, but {before} is {tasks[before].status}"}
        for task_id, task in tasks.items()
        for before in task.before()
        if task.status != "pending" and before in tasks and tasks[before].status != "completed"
    ]
    if problems:
        raise invalid("A task goes on once those that it depends on are completed. Nothing was stored.", problems)


async def _plan(
    gateway: Gateway, caller: Caller, workflow_id: str, group: Tasks
) -> tuple[str, Tasks, Document, str, bool]:
    """Raises a `Problem` for what can't be begun, before anything is."""
    workflow = await definitions.newest(gateway, caller, workflow_id)
    document = _document(parsed(workflow["definition"]), group)
    await definitions.check(gateway, caller, document)
    whose = (caller.organization_id, caller.project_id)
    execution_id = POSTED_PREFIX + derive("tasks", *whose, workflow_id, *sorted(group))
    known = await gateway.database.fetch("posted_tasks", *whose, list(group))
    if any(row["execution_id"] != execution_id for row in known):
        taken = ", ".join(row["id"] for row in known)
        raise conflict("TASK_EXISTS", f"There are tasks of these ids already: {taken}. Nothing was stored.")
    if known:
        await _check_same(gateway, caller, workflow_id, execution_id, document)
    return workflow_id, group, document, execution_id, bool(known)


def _document(current: Mapping[str, Any], group: Tasks) -> Document:
    head = {name: current[name] for name in HEAD if name in current}
    return {**head, "tasks": [_task(task_id, task) for task_id, task in group.items()]}


def _task(task_id: str, task: NewTask) -> dict[str, Any]:
    said = task.model_dump(mode="json", exclude=SHOWN_ONLY, exclude_none=True, exclude_unset=True)
    return {"name": task_id, "priority": task.priority, **said, "id": task_id, "depends_on": task.before()}


async def _check_same(
    gateway: Gateway, caller: Caller, workflow_id: str, execution_id: str, document: Document
) -> None:
    row = await gateway.database.row("execution", caller.organization_id, caller.project_id, execution_id)
    version = None if row is None else row["workflow_version"]
    saved = None if version is None else await definitions.find_version(gateway, caller, workflow_id, version)
    if saved is None or parsed(saved["definition"])["tasks"] != document["tasks"]:
        raise conflict("TASK_EXISTS", "There are tasks of these ids already, and they are others. Nothing was stored.")


async def _begin(gateway: Gateway, caller: Caller, workflow_id: str, document: Document, execution_id: str) -> None:
    saved = await definitions.save_next(gateway, caller, workflow_id, document, execution_id)
    if saved is None:
        raise conflict("VERSION_CONFLICT", "The workflow was changed at the same time; try again.")
    message = WorkflowStarted(
        **caller.tenant.model_dump(),
        event_id=derive(execution_id, WORKFLOW_STARTED),
        occurred_at=utc(gateway.now()),
        execution_id=execution_id,
        workflow_id=workflow_id,
        workflow_version=saved["version"],
        trigger={"type": "tasks"},
    )
    await gateway.publisher.publish(WORKFLOW_STARTED, execution_id, message)
    await _until_begun(gateway, caller, execution_id)


async def _until_begun(gateway: Gateway, caller: Caller, execution_id: str) -> None:
    place, whose = place_of(execution_id), (caller.organization_id, caller.project_id)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                seen = await gateway.positions.current(place)
                row = await gateway.database.row("execution", *whose, execution_id)
                if row is not None and row["last_n"]:
                    break
                await gateway.positions.wait({place: seen + 1}, WAIT_SECONDS)
    except TimeoutError as error:
        raise _behind() from error
    if row["status"] == "failed" and row["error"] is not None and not await _any(gateway, caller, execution_id):
        raise conflict("NOT_BEGUN", f"The tasks can't be begun: {parsed(row['error'])['message']}")


async def _any(gateway: Gateway, caller: Caller, execution_id: str) -> bool:
    return bool(
        await gateway.database.fetch("tasks_of_execution", caller.organization_id, caller.project_id, execution_id)
    )


def _behind() -> Problem:
    return unavailable(
        "READ_MODELS_BEHIND", "The tasks were sent, and have not begun yet. It is safe to post them again."
    )


async def _apply(gateway: Gateway, caller: Caller, document: Document, execution_id: str, group: Tasks) -> None:
    """What they were posted with comes about as if somebody had said it now; a second time it changes nothing."""
    order = (await asyncio.to_thread(compile_workflow, document)).order
    whose = (caller.organization_id, caller.project_id)
    rows = {row["step_id"]: row for row in await gateway.database.fetch("tasks_of_execution", *whose, execution_id)}
    if any(row["execution_status"] in TERMINAL for row in rows.values()):
        return
    last: tuple[Row, dict[str, str]] | None = None
    for task_id in order:
        for action, fields in _words(group[task_id]):
            request = derive(execution_id, task_id, "posted", action)
            await controls.send(gateway, caller, rows[task_id], request, action, step_id=task_id, **fields)
            last = rows[task_id], {request: action}
    try:
        if last is not None:
            await settled(gateway, caller, *last)
    except Problem as problem:
        if problem.status != 409:
            raise  # else somebody was first: the tasks are shown as they are


def _words(task: NewTask) -> Sequence[tuple[str, dict[str, Any]]]:
    said: list[tuple[str, dict[str, Any]]] = []
    if task.progress is not None:
        said.append(("annotate", {"changes": {"progress": task.progress}}))
    if task.status == "completed":
        said.append(("complete", {"data": task.output, "reason": "it was posted as completed"}))
    elif task.status == "failed":
        said.append(("fail", {"reason": task.reason or "it was posted as failed"}))
    return said


def numbered(tasks: Iterable[NewTask], request: str) -> dict[str, NewTask]:
    """By id; those without one get theirs. Raises a 422 `Problem` for an id that comes twice."""
    found: dict[str, NewTask] = {}
    for number, task in enumerate(tasks):
        task_id = task.id or f"task-{derive(request, number)[:13]}"
        if task_id in found:
            raise invalid(
                "Each task has an id of its own. Nothing was stored.",
                [{"path": f"[{number}].id", "message": f"{task_id} is there twice"}],
            )
        found[task_id] = task
    return found
