"""Executions as tasks, and what streams say as events of tasks, in their JSON form. Pure."""

from collections.abc import Mapping
from typing import Any

from handrail_contracts.parts import parts_of

from handrail_gateway.answers import parsed
from handrail_gateway.streaming import TERMINAL
from handrail_gateway.understanding import why

Json = Mapping[str, Any]

SUBMITTED, WORKING = "TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"
INPUT_REQUIRED = "TASK_STATE_INPUT_REQUIRED"
STATES = {
    "pending": SUBMITTED,
    "queued": SUBMITTED,
    "running": WORKING,
    "waiting": WORKING,
    "paused": WORKING,
    "compensating": WORKING,
    "completed": "TASK_STATE_COMPLETED",
    "failed": "TASK_STATE_FAILED",
    "timeout": "TASK_STATE_FAILED",
    "cancelled": "TASK_STATE_CANCELED",
}
PEOPLE = ("approval", "signal", "person")
"""Who waits for one of these gets on only by somebody's doing."""


def task_of(row: Json) -> dict[str, Any]:
    """`row` is an execution with its steps."""
    task = {
        **_ids(row, "id"),
        "status": status_of(row),
        "artifacts": artifacts_of(parsed(row["result"])) if row["status"] == "completed" else [],
        "metadata": {"workflow_id": row["workflow_id"], "execution_status": row["status"]},
    }
    asked = (parsed(row["trigger"]) or {}).get("message_id")
    if isinstance(asked, str):
        parts = parts_of(parsed(row["input"]))
        task["history"] = [{"messageId": asked, "role": "ROLE_USER", "parts": parts, **_ids(row)}]
    return task


def begun(ids: Json) -> dict[str, Any]:
    """The task of an execution that was just accepted."""
    return {**_ids(ids, "id"), "status": {"state": SUBMITTED}}


def status_of(row: Json) -> dict[str, Any]:
    """Input is required when people are waited for: of an open execution the message says what it waits for."""
    status = row["status"]
    if status in TERMINAL:
        return _ended(row, status, parsed(row["error"]), row["completed_at"])
    said = why(row, parsed(row["steps"]))
    waits = [{"step": wait["step"], "for": wait["for"], "until": wait["until"]} for wait in said["waits"]]
    asks = status == "waiting" and any(wait["for"] in PEOPLE for wait in waits)
    parts: list[dict[str, Any]] = [{"text": " ".join([said["why"], *_messages(row)])}]
    if waits:
        parts.append({"data": {"waits": waits}})
    return {
        "state": INPUT_REQUIRED if asks else STATES[status],
        "message": _message(row, f"{row['execution_id']}:{row['last_n'] or 0}", parts),
    }


def status_event(row: Json) -> dict[str, Any]:
    return {"statusUpdate": {**_ids(row), "status": status_of(row)}}


def artifacts_of(result: Any) -> list[dict[str, Any]]:
    return [] if result is None else [{"artifactId": "result", "name": "result", "parts": parts_of(result)}]


def events_of(row: Json, name: str, data: Json, message_id: str) -> list[dict[str, Any]]:
    """What a frame of the execution's stream says, as events. Of `row`, only what never changes is looked at."""
    match name:
        case "complete":
            ended = {"statusUpdate": {**_ids(row), "status": _ended(row, data["status"], data.get("error"))}}
            results = artifacts_of(data["result"]) if data["status"] == "completed" else []
            return [*({"artifactUpdate": {**_ids(row), "artifact": a, "lastChunk": True}} for a in results), ended]
        case "status" if data["status"] not in TERMINAL:
            return [_update(row, message_id, STATES[data["status"]], _progress(data), name, data)]
        case "step_start":
            return [_update(row, message_id, WORKING, f"Step {data['step']} begins.", name, data)]
        case "step_complete":
            told = {key: value for key, value in data.items() if key != "result"}
            return [_update(row, message_id, WORKING, f"Step {data['step']}: {data['status']}.", name, told)]
        case "error" if data["step"]:
            text = f"Step {data['step']} failed: {data['code']}: {data['message']}"
            return [_update(row, message_id, WORKING, text, name, data)]
        case "delta":
            return [_update(row, message_id, WORKING, str(data.get("content", "")), name, {"step": data["step"]})]
        case "tool_call" | "tool_result":
            return [_update(row, message_id, WORKING, "", name, data)]
        case _:
            return []  # heartbeats, and what the end says again


def _progress(data: Json) -> str:
    said = data.get("progress") or {}
    return str(said.get("message") or "")


def _update(row: Json, message_id: str, state: str, text: str, event: str, data: Json) -> dict[str, Any]:
    status: dict[str, Any] = {"state": state}
    if text:
        status["message"] = _message(row, message_id, [{"text": text}])
    return {"statusUpdate": {**_ids(row), "status": status, "metadata": {"event": event, **data}}}


def _ended(row: Json, status: str, error: Json | None, at: Any = None) -> dict[str, Any]:
    found: dict[str, Any] = {"state": STATES[status]}
    if error:
        parts = [{"text": f"{error.get('code')}: {error.get('message')}"}]
        found["message"] = _message(row, f"{row['execution_id']}:end", parts)
    if at is not None:
        found["timestamp"] = at.isoformat()
    return found


def _messages(row: Json) -> list[str]:
    """What the open gates ask of people."""
    gates = [step for step in parsed(row["steps"]) if step["waits_for"] == "approval" and step["status"] == "waiting"]
    return [text for gate in gates if (text := (gate["input"] or {}).get("message"))]


def _message(row: Json, message_id: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {"messageId": message_id, "role": "ROLE_AGENT", "parts": parts, **_ids(row)}


def _ids(row: Json, name: str = "taskId") -> dict[str, str]:
    return {name: row["execution_id"], "contextId": row["session_id"] or row["execution_id"]}
