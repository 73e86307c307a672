"""Asking the scheduler to steer executions, and beginning new ones from recorded ones."""

import asyncio
from typing import Any

import orjson
from handrail_contracts.codec import MAX_RECORD_BYTES, encode
from handrail_contracts.control import ExecutionControlled
from handrail_contracts.envelope import utc
from handrail_contracts.ids import derive
from handrail_contracts.topics import EXECUTION_CONTROLLED, WORKFLOW_STARTED
from handrail_contracts.workflows import Origin, WorkflowStarted
from handrail_graph import DefinitionError, Graph, compile_workflow, downstream

from handrail_gateway.answers import Answer, parsed
from handrail_gateway.database import Row
from handrail_gateway.definitions import find_version
from handrail_gateway.gateway import Gateway
from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import Problem, conflict, invalid, not_found
from handrail_gateway.schemas import BulkRequest, ControlRequest, Filter, ForkRequest
from handrail_gateway.steering import check, retried
from handrail_gateway.streaming import TERMINAL

AT_ONCE = 50
STUBBED = ("agent_execution", "tool_call", "api_call", "sub_workflow", "human_approval", "signal", "delay")


async def send(gateway: Gateway, caller: Caller, row: Row, request: str, action: str, **fields: Any) -> None:
    """Publishes the wish; it counts once the scheduler has journaled it."""
    message = ExecutionControlled.model_validate(
        {
            **caller.tenant.model_dump(),
            "event_id": request,
            "occurred_at": utc(gateway.now()),
            "execution_id": row["execution_id"],
            "workflow_id": row["workflow_id"],
            "action": action,
            **fields,
        }
    )
    await gateway.publisher.publish(EXECUTION_CONTROLLED, row["execution_id"], message)


async def steer(
    gateway: Gateway, caller: Caller, row: Row, action: str, body: ControlRequest, request: str, key: str | None,
    **fields: Any,
) -> None:  # fmt: skip
    """Sends what a route was asked for, unless its key was used before for something else."""
    gateway.recent.check(request, key, body.model_dump(mode="json"))
    await send(gateway, caller, row, request, action, reason=body.reason, **fields)


def accepted(row: Row, request: str) -> Answer:
    """What every control answers: it was asked for, and this is how the execution was seen last."""
    told = {name: row[name] for name in ("execution_id", "workflow_id", "status")}
    return Answer({**told, "request_id": request}, 202)


async def graph_of(gateway: Gateway, caller: Caller, workflow_id: str, version: int) -> Graph:
    """Raises a 404 `Problem` for a version that is not there, and a 409 for one that compiles no more."""
    row = await find_version(gateway, caller, workflow_id, version)
    try:
        return await asyncio.to_thread(compile_workflow, parsed(row["definition"]))
    except DefinitionError as error:
        raise conflict("INVALID_WORKFLOW", f"Version {version} of the workflow does not compile: {error}") from error


async def fork(
    gateway: Gateway, caller: Caller, row: Row, body: ForkRequest, new_id: str, *, retry: bool = False
) -> dict[str, Any]:
    """Begins an execution that takes over what the recorded one did before the step, or, to retry, all that it completed."""
    if row["workflow_version"] is None:
        raise conflict("NOT_BEGUN", "The execution never began, so there is nothing to go on from.")
    steps = parsed(row["steps"])
    version = body.version or row["workflow_version"]
    graph = await graph_of(gateway, caller, row["workflow_id"], version)
    _check_nothing_was_undone(graph, steps)
    gone = _done_again(graph, steps, body.step_id, retry=retry)
    completed = [step for step in steps if step["status"] == "completed"]
    kept = {s["step_id"]: s["result"] for s in completed if s["step_id"] in graph.order and s["step_id"] not in gone}
    origin = Origin(
        execution_id=row["execution_id"],
        outputs=kept,
        stubs={s["step_id"]: s["result"] for s in completed if body.stub and s["step_type"] in STUBBED},
    )
    message = WorkflowStarted(
        **caller.tenant.model_dump(),
        event_id=derive(new_id, WORKFLOW_STARTED),
        occurred_at=utc(gateway.now()),
        execution_id=new_id,
        workflow_id=row["workflow_id"],
        workflow_version=version,
        input=body.input if "input" in body.model_fields_set else parsed(row["input"]),
        context=parsed(row["context"]) or {},
        trigger={"type": "fork", "execution_id": row["execution_id"], "step_id": body.step_id, "reason": body.reason},
        session_id=row["session_id"],
        attributes=parsed(row["attributes"]),
        origin=origin,
    )
    await gateway.pending.check()
    if len(encode(message)) > MAX_RECORD_BYTES:
        detail = "The recorded outputs do not fit into one record (1 MB); begin with an earlier step."
        raise conflict("TOO_LARGE", detail)
    await gateway.publisher.publish(WORKFLOW_STARTED, new_id, message)
    return {
        "execution_id": new_id, "workflow_id": row["workflow_id"], "workflow_version": version,
        "origin_id": row["execution_id"], "status": "running", "kept": list(kept),
    }  # fmt: skip


def _check_nothing_was_undone(graph: Graph, steps: list[dict[str, Any]]) -> None:
    undoing = {node.compensation for node in graph.nodes.values()} - {None}
    undone = [step["step_id"] for step in steps if step["step_id"].rpartition(".")[2] in undoing]
    if undone:
        detail = f"What the execution did was undone ({', '.join(undone[:5])}); start a new one instead."
        raise conflict("COMPENSATED", detail)


def _done_again(graph: Graph, steps: list[dict[str, Any]], step_id: str | None, *, retry: bool) -> set[str]:
    if retry:
        open_ = [
            s["step_id"] for s in steps if s["status"] not in ("completed", "skipped") and s["step_id"] in graph.order
        ]
        return set[str]().union(*(downstream(graph, step) for step in open_))
    if step_id is None:
        return set(graph.order)
    if step_id not in graph.order:
        raise conflict("NO_SUCH_STEP", f"There is no step {step_id!r} in that version of the workflow.")
    return downstream(graph, step_id)


def filter_arguments(found: Filter) -> tuple[object, ...]:
    """As the queries take them, from the workflow on."""
    attributes = None if found.attributes is None else orjson.dumps(found.attributes).decode()
    return (
        found.workflow_id, found.version, found.started_after, found.started_before, found.text, attributes,
        found.session_id, found.parent_id, found.origin_id, found.execution_ids,
    )  # fmt: skip


async def bulk(gateway: Gateway, caller: Caller, body: BulkRequest, request: str) -> dict[str, Any]:
    """Sends the action to each execution that matches and can take it; of a dry run, only says which would."""
    if not body.filter.model_fields_set:
        raise invalid(
            "The filter is empty: it would match every execution.", [{"path": "filter", "message": "name something"}]
        )
    whose = (caller.organization_id, caller.project_id)
    arguments = filter_arguments(body.filter)
    counted = await gateway.database.row("count_executions", *whose, body.filter.status, *arguments)
    rows = await gateway.database.fetch(
        "search_executions", *whose, body.filter.status, None, None, body.limit, *arguments
    )
    permits = asyncio.Semaphore(AT_ONCE)
    refused: list[dict[str, str]] = []
    new: dict[str, str] = {}

    async def one(execution_id: str) -> bool:
        async with permits:
            try:
                made = await _apply(gateway, caller, execution_id, body, derive(request, execution_id))
            except Problem as problem:
                if problem.status >= 500:
                    raise
                refused.append({"execution_id": execution_id, "code": problem.code, "detail": problem.detail})
                return False
            if made is not None:
                new[execution_id] = made
            return True

    done = await asyncio.gather(*(one(row["execution_id"]) for row in rows))
    matched = 0 if counted is None else counted["count"]
    return {
        "dry_run": body.dry_run, "matched": matched, "accepted": sum(done), "refused": refused[:100],
        "new_executions": new, "more": matched > len(rows),
    }  # fmt: skip


async def _apply(gateway: Gateway, caller: Caller, execution_id: str, body: BulkRequest, request: str) -> str | None:
    """The id of the new execution, if the action begins one. Raises a `Problem` if it can't be taken."""
    whose = (caller.organization_id, caller.project_id)
    row = await gateway.database.row("execution_with_steps", *whose, execution_id)
    if row is None:
        raise not_found("execution", execution_id)
    action, ended = body.action, row["status"] in TERMINAL
    if action == "fork" or (ended and action in ("retry", "rewind")):
        step_id = body.step_id or None
        forked = ForkRequest(step_id=step_id, version=body.version, stub=body.stub, reason=body.reason)
        if "data" in body.model_fields_set:
            forked = forked.model_copy(update={"input": body.data})
            forked.__pydantic_fields_set__.add("input")
        if not body.dry_run:
            await fork(gateway, caller, row, forked, request, retry=action == "retry" and step_id is None)
        return None if body.dry_run else request
    steps = parsed(row["steps"])
    step_id = body.step_id or (retried(steps) if action == "retry" else "")
    check(action, row, steps, step_id)
    if not body.dry_run:
        fields = {"step_id": step_id, "signal": body.signal, "version": body.version, "data": body.data}
        await send(gateway, caller, row, request, action, reason=body.reason, **fields)
    return None
