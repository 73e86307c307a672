"""From what the read models say to what clients are sent. Pure.

`data` has the members that the first platform's clients know; whatever else there is to say stands beside it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from handrail_gateway.answers import as_it_is, parsed
from handrail_gateway.database import Row
from handrail_gateway.desk.flow import DESK_PREFIX, INQUIRY
from handrail_gateway.gates import shown
from handrail_gateway.given import plain
from handrail_gateway.tasks import STATUSES

WORKFLOWS, TASKS, AGENTS = "workflows", "tasks", "agents"
SUGGESTIONS, APPROVALS, DESK = "suggestions", "approvals", "desk"
CHANNELS = (WORKFLOWS, TASKS, AGENTS, SUGGESTIONS, APPROVALS, DESK)
CARRIED_BY = {
    "workflow_update": (WORKFLOWS,),
    "task_update": (TASKS, WORKFLOWS),
    "agent_status": (AGENTS,),
    "suggestion_created": (SUGGESTIONS,),
    "approval_update": (APPROVALS,),
    "desk_update": (DESK,),
}
"""Which channels a message goes to. Who watches workflows sees their tasks, as the first platform's clients do."""
OVER = ("completed", "failed", "skipped", "cancelled", "rewound")
_AGENT = {"busy": "executing_task", "online": "idle", "offline": "offline"}


@dataclass(frozen=True, slots=True)
class Message:
    """`body` lacks what depends on the channel, and its closing brace."""

    type: str
    body: bytes

    def on(self, channel: str, position: str) -> bytes:
        return b'%s,"channel":"%s","position":"%s"}' % (self.body, channel.encode(), position.encode())


def message(kind: str, data: Mapping[str, Any], **beside: Any) -> Message:
    body = orjson.dumps({"type": kind, "data": data, **beside}, as_it_is, orjson.OPT_UTC_Z)
    return Message(kind, body[:-1])


@dataclass(frozen=True, slots=True)
class Plan:
    """What a version of a workflow consists of: its steps but the trigger, and the agents that it names."""

    steps: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()


def workflow_update(row: Row, plan: Plan, steps: Sequence[Row], work: Sequence[Row], at: str) -> Message:
    """`steps` are those of the plan as far as they have begun, `work` the runs that agents are asked for now."""
    data = {
        "id": plain(row["workflow_id"]),
        "status": row["status"],
        "progress": _progress(row["status"], plan, steps),
        "agents": _agents(plan, steps, work),
    }
    return message("workflow_update", data, execution_id=row["execution_id"], at=at)


def _progress(status: str, plan: Plan, steps: Iterable[Row]) -> int:
    """Percent of its steps that are over; 100 only when the execution has completed."""
    if status == "completed":
        return 100
    over = len([step for step in steps if step["status"] in OVER and step["status"] != "rewound"])
    return min(99, 100 * over // max(1, len(plan.steps)))


def _agents(plan: Plan, steps: Iterable[Row], work: Iterable[Row]) -> list[dict[str, Any]]:
    at_work = {run["agent"]: run["run_id"] for run in work if run["agent"]}
    waiting = {step["agent"] for step in steps if step["status"] not in (*OVER, "running")}
    named = dict.fromkeys((*plan.agents, *(step["agent"] for step in steps if step["agent"]), *at_work))
    return [
        {
            "id": name,
            "status": "executing_task" if name in at_work else "waiting" if name in waiting else "idle",
            "current_task": at_work.get(name),
        }
        for name in named
    ]


def desk_update(row: Row, at: str) -> Message | None:
    """None of an execution that is no inquiry."""
    name = plain(row["workflow_id"])
    if not name.startswith(DESK_PREFIX) or row["customer_id"] is None:
        return None
    said = {"desk": name.removeprefix(DESK_PREFIX), "customer_id": row["customer_id"], "status": INQUIRY[row["status"]]}
    return message("desk_update", {"id": row["execution_id"], **said, "timestamp": at})


def task_update(row: Row, at: str) -> Message:
    status = STATUSES.get(row["status"], row["status"])
    data = {
        "id": row["task_id"],
        "status": status,
        "progress": 100 if status == "completed" else row["progress"] or 0,
        "agent_id": row["agent"],
        "timestamp": at,
    }
    return message("task_update", data, execution_id=row["execution_id"], step_id=row["step_id"])


def agent_status(row: Row, at: str) -> Message:
    data = {
        "agent_id": row["agent"],
        "status": _AGENT[row["status"]],
        "current_task": row["current_task_id"],
        "progress": 0,
        "timestamp": at,
    }
    return message("agent_status", data)


def suggestion_created(row: Row) -> Message:
    suggested = parsed(row["suggestion"])
    data = {
        "id": plain(row["approval_id"]),
        "task_id": suggested["task_id"],
        "agent_id": suggested["agent"],
        "action": suggested["action"],
        "confidence": suggested["confidence"],
        "created_at": row["created_at"],
    }
    beside = {"revision": suggested["revision"], "status": row["status"], "execution_id": row["execution_id"]}
    return message("suggestion_created", data, **beside)


def approval_update(row: Row) -> Message:
    return message("approval_update", shown({name: row[name] for name in row if name != "suggestion"}))
