"""Saving and finding workflow definitions. A version is saved once its record is the first of that version."""

import asyncio
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from handrail_contracts.envelope import utc
from handrail_contracts.ids import derive
from handrail_contracts.topics import WORKFLOW_DEFINED
from handrail_contracts.workflows import RolloutSet, WorkflowDefined, rolled_out
from handrail_graph import DefinitionError, compile_workflow, trigger_of

from handrail_gateway.answers import parsed
from handrail_gateway.database import Row
from handrail_gateway.gateway import Gateway
from handrail_gateway.given import may_be_given, plain, scoped
from handrail_gateway.idempotency import fingerprint, key_reused, request_id
from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import Problem, conflict, invalid, not_found, unavailable
from handrail_gateway.scheduling import follow_trigger

Document = dict[str, Any]


async def problems_of(
    gateway: Gateway, caller: Caller, document: Document, also: Iterable[str] = ()
) -> list[Mapping[str, str]]:
    """Why the document is no workflow; empty if it is one. `also`: agents that will be there when it is saved."""
    rows = await gateway.database.fetch("known_agents", caller.organization_id, caller.project_id)
    known = {row["agent"]: row["capabilities"] for row in rows}
    return await mistakes(document, dict.fromkeys(also, ()) | known)


async def mistakes(document: Document, known: Container[str]) -> list[Mapping[str, str]]:
    """What the compiler finds wrong with it where these agents (with what they are able to) and tools are known."""
    try:
        # In a thread: a definition of a megabyte must not stop the streams of others.
        await asyncio.to_thread(compile_workflow, document, known_agents=known)
    except DefinitionError as error:
        return [{"path": found.path, "message": found.message, "code": found.code} for found in error.problems]
    return []


async def check(gateway: Gateway, caller: Caller, document: Document, also: Iterable[str] = ()) -> None:
    """Raises a 422 `Problem` that names every part of the definition that cannot be used."""
    errors: Sequence[Mapping[str, str]] = await problems_of(gateway, caller, document, also)
    if errors:
        raise invalid(f"The workflow has {len(errors)} problem(s); `errors` says where. Nothing was stored.", errors)


async def resolve(gateway: Gateway, caller: Caller, workflow_id: str) -> str:
    """The workflow's own id, of one that a client may have named (`given.py`); as it is if there is none."""
    if not may_be_given(workflow_id):
        return workflow_id
    own = scoped(caller, workflow_id)

    async def look() -> Row | None:
        for identifier in (own, workflow_id):
            whose = (caller.organization_id, caller.project_id, identifier)
            if (found := await gateway.database.row("newest_workflow", *whose)) is not None:
                return found
        return None

    try:
        row = await gateway.reads.find(look, WORKFLOW_DEFINED, [0])
    except Problem as problem:
        if problem.code != "DATABASE_UNAVAILABLE":
            raise
        return workflow_id if gateway.known.get(caller, own) is None else own
    return workflow_id if row is None else str(row["workflow_id"])


async def newest(gateway: Gateway, caller: Caller, workflow_id: str) -> Row:
    """The newest version; a 404 `Problem` if there is none, or if it is a deletion."""

    async def look() -> Row | None:
        return await gateway.database.row("newest_workflow", caller.organization_id, caller.project_id, workflow_id)

    found = await gateway.reads.find(look, WORKFLOW_DEFINED, [0])
    if found is not None:
        gateway.known.remember(caller, workflow_id, found["version"] if found["active"] else None)
    if found is None or not found["active"]:
        raise not_found("workflow", workflow_id)
    return found


async def version_to_start(gateway: Gateway, caller: Caller, workflow_id: str, execution_id: str) -> int:
    """The newest, or what a rollout gives this execution. While the database is away, the one that was seen last."""
    try:
        version: int = (await newest(gateway, caller, workflow_id))["version"]
        shared = await rollout(gateway, caller, workflow_id)
        if shared is not None:
            terms = (shared["stable"], shared["canary"], shared["percent"])
            version = rolled_out(execution_id, *terms) or version
    except Problem as problem:
        seen = gateway.known.get(caller, workflow_id)
        if problem.code != "DATABASE_UNAVAILABLE" or seen is None:
            raise
        return seen
    return version


async def find_version(gateway: Gateway, caller: Caller, workflow_id: str, version: int) -> Row:
    """A version; a 404 `Problem` if there is none of that number."""
    whose = (caller.organization_id, caller.project_id, workflow_id)
    row = await gateway.database.row("workflow_version", *whose, version)
    if row is None:
        raise not_found("version of the workflow", f"{workflow_id}@{version}")
    return row


async def rollout(gateway: Gateway, caller: Caller, workflow_id: str) -> Row | None:
    """How starts are shared between two versions, if they are."""
    return await gateway.database.row("rollout", caller.organization_id, caller.project_id, workflow_id)


async def roll_out(gateway: Gateway, caller: Caller, workflow_id: str, key: str | None, **fields: Any) -> datetime:
    """Publishes it, and waits until the read models show it, for as long as callers wait."""
    message = RolloutSet(
        **caller.tenant.model_dump(),
        event_id=request_id(caller, f"workflows/{workflow_id}/rollout", key),
        occurred_at=utc(gateway.now()),
        workflow_id=workflow_id,
        **fields,
    )
    partition, offset = await gateway.publisher.publish(WORKFLOW_DEFINED, f"{workflow_id}@rollout", message)
    await gateway.positions.wait({(WORKFLOW_DEFINED, partition): offset + 1})
    return message.occurred_at


async def create_given(gateway: Gateway, caller: Caller, document: Document) -> Row:
    """Saves version 1 under the id that the document gives; the same document again changes nothing.

    Without steps or tasks it is a workflow whose tasks come later.
    """
    workflow_id = scoped(caller, document["id"])
    whose = (caller.organization_id, caller.project_id, workflow_id)
    earlier = await gateway.database.row("workflow_version", *whose, 1)
    if earlier is None:
        message = _message(
            gateway, caller, workflow_id, 1, document, derive(workflow_id, fingerprint(document).hex(), 1)
        )
        shown = await _publish(gateway, message)
        await follow_trigger(gateway, caller, workflow_id, message.event_id, trigger_of(document), had=False)
        earlier = await gateway.database.row("workflow_version", *whose, 1) if shown else _row_of(message)
    if earlier is None or parsed_document(earlier) != document:
        told = f"There is a workflow {plain(workflow_id)} already, and it is another; change it with PUT."
        raise conflict("ALREADY_EXISTS", told)
    return earlier


def parsed_document(row: Row) -> Document:
    found = row["definition"]
    return found if isinstance(found, dict) else parsed(found)


async def created(gateway: Gateway, caller: Caller, document: Document, key: str | None) -> Row | None:
    """Version 1 as this key has saved it, if it has. Raises a 422 `Problem` if that was another document.

    A schedule of its trigger that was cut off then is defined now.
    """
    if key is None:
        return None
    whose = (caller.organization_id, caller.project_id, request_id(caller, "workflows", key))
    earlier = await gateway.database.row("workflow_version", *whose, 1)
    if earlier is None:
        return None
    saved, trigger = _same(earlier, document), trigger_of(document)
    if trigger is not None and trigger.timetable is not None:
        newest_row = await gateway.database.row("newest_workflow", *whose)
        untouched = newest_row is not None and newest_row["version"] == 1
        if untouched and await gateway.database.row("schedule_ever", *whose) is None:
            await follow_trigger(gateway, caller, saved["workflow_id"], saved["event_id"], trigger, had=False)
    return saved


async def create(
    gateway: Gateway, caller: Caller, document: Document, key: str | None, also: Iterable[str] = ()
) -> Row:
    """Saves version 1 of a new workflow and gives its row. `also`: agents that were registered just now."""
    await check(gateway, caller, document, also)
    if (earlier := await created(gateway, caller, document, key)) is not None:
        return earlier
    workflow_id = request_id(caller, "workflows", key)
    whose = (caller.organization_id, caller.project_id, workflow_id)
    gateway.recent.check(workflow_id, key, document)
    message = _message(gateway, caller, workflow_id, 1, document, derive(workflow_id, WORKFLOW_DEFINED, 1))
    shown = await _publish(gateway, message)
    await follow_trigger(gateway, caller, workflow_id, message.event_id, trigger_of(document), had=False)
    if not shown:
        # Nobody else can have this id, so the acknowledgement is enough; reads will wait for the projector.
        return _row_of(message)
    if key is not None and (saved := await gateway.database.row("workflow_version", *whose, 1)) is not None:
        return _same(saved, document)
    return _row_of(message)


async def save(gateway: Gateway, caller: Caller, workflow_id: str, document: Document, key: str | None) -> Row:
    """Checks the document, saves it as the next version, and gives its row."""
    await check(gateway, caller, document)
    row = await save_next(gateway, caller, workflow_id, document, key)
    if row is None:
        raise not_found("workflow", workflow_id)
    return row


async def save_next(
    gateway: Gateway, caller: Caller, workflow_id: str, document: Document | None, key: str | None
) -> Row | None:
    """Saves the next version (a deletion if `document` is None). Raises a 409 `Problem` if somebody else was first."""
    event_id = request_id(caller, f"workflows/{workflow_id}/{'delete' if document is None else 'put'}", key)
    whose = (caller.organization_id, caller.project_id, workflow_id)
    if (
        key is not None
        and (done := await gateway.database.row("workflow_version_by_event", *whose, event_id)) is not None
    ):
        return await _saved(gateway, caller, workflow_id, done, document)
    current = await newest(gateway, caller, workflow_id)
    gateway.recent.check(event_id, key, document)
    definition = parsed(current["definition"]) if document is None else document
    message = _message(
        gateway, caller, workflow_id, current["version"] + 1, definition, event_id, active=document is not None
    )
    if not await _publish(gateway, message):
        raise unavailable(
            "READ_MODELS_BEHIND",
            "The new version was sent, and whether it was the first of its number cannot be told yet. "
            "It is safe to retry with the same Idempotency-Key.",
        )
    done = await gateway.database.row("workflow_version_by_event", *whose, event_id)
    if done is None:
        raise conflict(
            "VERSION_CONFLICT", f"Somebody else saved version {message.version} first; look at it and try again."
        )
    gateway.known.remember(caller, workflow_id, message.version if message.active else None)
    had = trigger_of(parsed(current["definition"]))
    trigger = None if document is None else trigger_of(document)
    timed = had is not None and had.timetable is not None
    await follow_trigger(gateway, caller, workflow_id, event_id, trigger, had=timed)
    return await _saved(gateway, caller, workflow_id, done, document)


async def _saved(
    gateway: Gateway, caller: Caller, workflow_id: str, done: Row, document: Document | None
) -> Row | None:
    if document is None:
        return None
    whose = (caller.organization_id, caller.project_id, workflow_id)
    row = await gateway.database.row("workflow_version", *whose, done["version"])
    return None if row is None else _same(row, document)


def _same(row: Row, document: Document) -> Row:
    if parsed(row["definition"]) != document:
        raise key_reused()
    return row


async def _publish(gateway: Gateway, message: WorkflowDefined) -> bool:
    """Whether the projector has passed the record within the time that a caller waits."""
    key = f"{message.workflow_id}@{message.version}"
    partition, offset = await gateway.publisher.publish(WORKFLOW_DEFINED, key, message)
    return await gateway.positions.wait({(WORKFLOW_DEFINED, partition): offset + 1})


def _message(
    gateway: Gateway,
    caller: Caller,
    workflow_id: str,
    version: int,
    document: Document,
    event_id: str,
    *,
    active: bool = True,
) -> WorkflowDefined:
    return WorkflowDefined(
        **caller.tenant.model_dump(),
        event_id=event_id,
        occurred_at=utc(gateway.now()),
        workflow_id=workflow_id,
        version=version,
        name=str(document.get("name", "")),
        definition=document,
        active=active,
    )


def _row_of(message: WorkflowDefined) -> Row:
    return {
        "workflow_id": message.workflow_id,
        "version": message.version,
        "name": message.name,
        "definition": message.definition,
        "active": True,
        "created_at": message.occurred_at,
        "updated_at": message.occurred_at,
    }
