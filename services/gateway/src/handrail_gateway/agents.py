"""Registering agents, and how they are: what they were registered as, what they have done, and who would ask them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from handrail_contracts.envelope import utc
from handrail_contracts.runners import AgentHeartbeat
from handrail_contracts.steps import AgentRegistered
from handrail_contracts.topics import AGENT_REGISTERED, RUNNER_STATUS

from handrail_gateway.answers import parsed
from handrail_gateway.database import Row
from handrail_gateway.gateway import Gateway
from handrail_gateway.idempotency import request_id
from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import conflict, forbidden, not_found
from handrail_gateway.schemas import AgentRequest, HeartbeatRequest, Registration

CLOSED = {"state": "closed", "since": None, "failures": 0, "retry_at": None}
NEW: Row = {
    "shared": False, "status": "online", "current_task_id": None, "problem": None, "breaker": None, "total_tasks": 0,
    "failed_tasks": 0, "last_seen": None, "microseconds": 0, "model_calls": 0, "input_tokens": 0, "output_tokens": 0,
    "cost_nanos": 0, "beat_at": None,
}  # fmt: skip
"""What is said of an agent that the read models do not show yet."""


async def look(
    gateway: Gateway,
    caller: Caller,
    *,
    name: str | None = None,
    after: str | None = None,
    status: str | None = None,
    kind: str | None = None,
    capability: str | None = None,
    limit: int = 1,
) -> Sequence[Row]:
    """The agents that the caller can see, by name, with what they have done for the caller's tenant."""
    whose = (caller.organization_id, caller.project_id, utc(gateway.now()))
    names = None if name is None else [name]
    return await gateway.database.fetch("agents", *whose, names, after, status, kind, capability, limit)


async def find(gateway: Gateway, caller: Caller, name: str) -> Row:
    """Raises a 404 `Problem` if there is none."""

    async def look_once() -> Row | None:
        return next(iter(await look(gateway, caller, name=name)), None)

    found = await gateway.reads.find(look_once, AGENT_REGISTERED, [0])
    if found is None:
        raise not_found("agent", name)
    return found


async def register(
    gateway: Gateway, caller: Caller, requests: dict[str, AgentRequest], key: str | None = None
) -> list[dict[str, Any]]:
    """Publishes them, all or none of them if a name is somebody else's, and waits until the read models show them, for as long
    as callers wait. Gives them as they are shown.
    """
    for name in requests:
        await check_owner(gateway, caller, name)
    messages = [message_of(gateway, caller, name, body, key) for name, body in requests.items()]
    for message, body in zip(messages, requests.values(), strict=True):
        gateway.recent.check(message.event_id, key, body.model_dump())
    await publish(gateway, messages)
    return [shown(await _registered(gateway, caller, message), whole=True) for message in messages]


async def beat(gateway: Gateway, caller: Caller, beats: Mapping[str, HeartbeatRequest], key: str | None = None) -> None:
    """What agents say of themselves that work by themselves; waits until the read models show it, for as long as callers wait."""
    ends: dict[tuple[str, int], int] = {}
    for name, body in beats.items():
        message = AgentHeartbeat(
            **caller.tenant.model_dump(),
            event_id=request_id(caller, f"agents/{name}/heartbeat", key),
            occurred_at=utc(gateway.now()),
            agent=name,
            **body.model_dump(),
        )
        whose = f"{caller.organization_id}/{caller.project_id}/{name}"
        partition, offset = await gateway.publisher.publish(RUNNER_STATUS, f"agent/{whose}", message)
        ends[RUNNER_STATUS, partition] = offset + 1
    if ends:
        await gateway.positions.wait(ends)


async def external(gateway: Gateway, caller: Caller, name: str) -> None:
    """Raises a `Problem` unless it is an agent of the caller's tenant that works by itself."""
    await check_owner(gateway, caller, name)
    if (await find(gateway, caller, name))["kind"] != "external":
        raise conflict("NOT_EXTERNAL", f"{name} is asked by runners, which say how it is.")


async def remove(gateway: Gateway, caller: Caller, name: str, key: str | None) -> None:
    await check_owner(gateway, caller, name)
    kind = (await find(gateway, caller, name))["kind"]
    await publish(gateway, [message_of(gateway, caller, name, Registration(kind=kind), key, True)])


async def check_owner(gateway: Gateway, caller: Caller, name: str) -> None:
    """Raises a 403 or 409 `Problem` if the name is not the caller's to use."""
    owner = await gateway.database.row("agent_owner", name)
    if owner is None:
        return
    if not owner["organization_id"]:
        raise forbidden(f"{name} belongs to the platform; only its operator changes it.")
    if (owner["organization_id"], owner["project_id"]) != (caller.organization_id, caller.project_id):
        raise conflict("NAME_TAKEN", f"The name {name} is taken; choose another.")


async def _registered(gateway: Gateway, caller: Caller, message: AgentRegistered) -> Row:
    """The agent as registered just now, whether or not the read models have it yet."""
    known = next(iter(await look(gateway, caller, name=message.agent)), NEW)
    said = message.model_dump(include={"agent", "kind", "name", "description", "capabilities", "config", "history"})
    return {**known, **said, "registered_at": message.occurred_at}


def message_of(
    gateway: Gateway, caller: Caller, name: str, body: Registration, key: str | None, removed: bool = False
) -> AgentRegistered:
    return AgentRegistered(
        **caller.tenant.model_dump(),
        event_id=request_id(caller, f"agents/{name}/{'delete' if removed else 'put'}", key),
        occurred_at=utc(gateway.now()),
        agent=name,
        kind=body.kind,
        name=body.name,
        description=body.description,
        capabilities=tuple(body.capabilities),
        config=body.config,
        history={} if body.history is None else body.history.model_dump(mode="json", exclude_none=True),
        removed=removed,
    )


async def publish(gateway: Gateway, messages: list[AgentRegistered]) -> None:
    """Waits for the projector, so that a workflow may name the agents in the next request; but not for ever."""
    ends: dict[tuple[str, int], int] = {}
    for message in messages:
        partition, offset = await gateway.publisher.publish(AGENT_REGISTERED, message.agent, message)
        ends[AGENT_REGISTERED, partition] = offset + 1
    await gateway.positions.wait(ends)


def shown(row: Row, *, whole: bool = False) -> dict[str, Any]:
    """The values of `config.headers` are never shown; in lists, nothing of `config` is. Figures add to the agent's history."""
    config, history = _object(row["config"]), _object(row["history"])
    total = row["total_tasks"] + history.get("total_tasks", 0)
    failed = row["failed_tasks"] + history.get("failed_tasks", 0)
    seen = [row["last_seen"], row["beat_at"], _moment(history.get("last_seen"))]
    as_is = ("agent", "kind", "name", "description", "capabilities", "shared", "registered_at", "status")
    return {
        "id": row["agent"],
        **{name: row[name] for name in as_is},
        "success_rate": round((total - failed) / total, 4) if total else history.get("success_rate"),
        "total_tasks": total,
        "failed_tasks": failed,
        "last_seen": max((at for at in seen if at is not None), default=None),
        "current_task_id": row["current_task_id"],
        "metrics": _metrics(row, history),
        "breaker": row["breaker"] or CLOSED,
        "problem": row["problem"] or "",
        **({"config": _masked(config)} if whole else {}),
    }


def _object(column: Any) -> dict[str, Any]:
    found: dict[str, Any] = column if isinstance(column, dict) else parsed(column)
    return found


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _metrics(row: Row, history: dict[str, Any]) -> dict[str, Any]:
    """Of seconds the average of both times, as many tasks as each counts."""
    names, brought = ("model_calls", "input_tokens", "output_tokens"), history.get("metrics", {})
    before, average = history.get("total_tasks", 0), brought.get("avg_task_duration_seconds")
    known = isinstance(average, int | float) and not isinstance(average, bool)
    tasks = row["total_tasks"] + (before if known else 0)
    spent = row["microseconds"] / 1e6 + (before * average if known else 0)
    seconds = round(spent / tasks, 6) if tasks else None
    computed = {n: row[n] for n in names} | {"cost_usd": row["cost_nanos"] / 1e9}
    return {**brought, "avg_task_duration_seconds": seconds, **computed}


def _masked(config: dict[str, Any]) -> dict[str, Any]:
    headers = config.get("headers")
    return {**config, "headers": dict.fromkeys(headers, "***")} if isinstance(headers, dict) else config
