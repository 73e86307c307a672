"""From history to what a stream says: pure, so a replayed stream and a live one are the same bytes.

An event of the history with number `n` gives frames with the ids `<n>.0`, `<n>.1`, ...: `Last-Event-ID` names the last
frame that a client has, and the frames after it are what it has missed. Once a client has heard of progress, its ids say
`<n>.<k>~<p>`, with the place in the log of progress that it has come to.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

Json = Mapping[str, Any]
Said = tuple[str, Json]

START = (0, -1)
TERMINAL = frozenset({"completed", "failed", "cancelled", "timeout"})
_PROGRESS = {"delta": "delta", "tool_call": "tool_call", "tool_result": "tool_result", "progress": "status"}
_POSITION = re.compile(r"(\d{1,9})\.(\d{1,9})(?:~(\d{1,18}))?")


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event. `position` is None for what cannot be resumed: heartbeats, `connected`.

    `progress` is the place in the log of progress behind it.
    """

    event: str
    data: bytes
    position: tuple[int, int] | None = None
    progress: int | None = None

    @property
    def id(self) -> str:
        """What resumes behind it; empty if nothing does."""
        if self.position is None:
            return ""
        n, k = self.position
        return f"{n}.{k}" if self.progress is None else f"{n}.{k}~{self.progress}"

    def encode(self) -> bytes:
        head = f"id: {self.id}\n".encode() if self.id else b""
        return b"%sevent: %s\ndata: %s\n\n" % (head, self.event.encode(), self.data)


def frame(event: str, data: Json) -> Frame:
    return Frame(event, orjson.dumps(data))


def parse_position(text: str) -> tuple[tuple[int, int], int | None] | None:
    """The place that a `Last-Event-ID` names, in the history and in progress; None if it is none of ours."""
    match = _POSITION.fullmatch(text.strip())
    if match is None:
        return None
    return (int(match[1]), int(match[2])), None if match[3] is None else int(match[3])


def frames_of(execution_id: str, events: Iterable[Json]) -> Iterator[Frame]:
    """The frames of events of the history, in order."""
    for event in events:
        for k, (name, data) in enumerate(_say(event)):
            yield Frame(name, orjson.dumps({"execution_id": execution_id, **data}), (event["n"], k))


def progress_frame(message: Json, place: int) -> Frame | None:
    """What a running step tells before it ends; None for a kind that streams do not know."""
    name, data = _PROGRESS.get(message.get("kind", "")), message.get("data")
    if name is None or not isinstance(data, dict):
        return None
    step = {"step": message.get("step_id")}
    if name == "status":
        data = {"execution_id": message.get("execution_id"), "status": "running", "progress": data}
    return Frame(name, orjson.dumps({**data, **step}), progress=place)


def _say(event: Json) -> list[Said]:
    match event["type"]:
        case "execution.started":
            return [_status("queued" if event.get("admissions") else "running")]
        case "execution.admitted":
            return [_status("running" if event.get("begins", True) else "queued")]
        case "execution.status_changed":
            return [_status(event["status"])]
        case "execution.paused":
            return [_status("paused")]
        case "execution.resumed":
            return [_status("running")]
        case "compensation.started":
            return [_status("compensating")]
        case "step.steered":
            return [("status", {"status": "running", **_pick(event, step="step_id", steered="action", by="by")})]
        case "step.annotated":
            return [("status", _pick(event, step="step_id", task="changes", by="by"))]
        case "step.overdue":
            return [("status", {**_pick(event, step="step_id", due_date="due_date"), "overdue": True})]
        case "execution.version_changed":
            return [
                ("status", {"status": "running", "step": None, **_pick(event, workflow_version="workflow_version")})
            ]
        case "steps.restored":
            restored = [(step, "completed", output) for step, output in (event.get("outputs") or {}).items()]
            left = [(step, "skipped", None) for step in event.get("skipped") or ()]
            return [
                ("step_complete", {"step": step, "status": status, "result": output, "restored": True})
                for step, status, output in (*restored, *left)
            ]
        case "step.started":
            return [
                ("step_start", _pick(event, step="step_id", step_type="step_type", attempt="attempt", agent="agent"))
            ]
        case "step.completed":
            done = _pick(event, step="step_id", attempt="attempt", result="output") | _chosen(event)
            return [("step_complete", {**done, "status": "completed"})]
        case "step.retry_scheduled":
            return [("error", {**_error(event), **_pick(event, attempt="attempt", retry_at="retry_at")})]
        case "step.failed" if event.get("then") == "wait":
            return [("error", _error(event)), ("status", {"status": "waiting", "step": event["step_id"]})]
        case "step.failed":
            failed = _pick(event, step="step_id", attempt="attempt", error="error") | _chosen(event)
            return [("error", _error(event)), ("step_complete", {**failed, "status": "failed"})]
        case "budget.awaited":
            told = _pick(event, step="step_id", budget_id="budget_id", reason="reason")
            return [("status", {"status": "waiting", **told})]
        case "suggestion.made":
            names = ("suggestion_id", "revision", "action", "reasoning", "confidence", "suggested_data", "comment")
            told = {name: event.get(name) for name in names}
            return [
                ("status", {"status": "waiting", **_pick(event, step="step_id", agent="agent"), "suggestion": told})
            ]
        case "suggestion.sent_back":
            told = _pick(event, step="step_id", suggestion_id="suggestion_id", sent_back_by="by", comment="comment")
            return [("status", {"status": "running", **told})]
        case "suggestion.approved":
            told = _pick(event, step="step_id", suggestion_id="suggestion_id", approved_by="by", action="action")
            return [("status", {"status": "running", **told, "comment": event.get("comment")})]
        case "suggestion.refused":
            told = _pick(event, step="step_id", suggestion_id="suggestion_id", refused_by="by", comment="comment")
            return [("status", {"status": "running", **told})]
        case "action.executed":
            told = _pick(event, step="step_id", suggestion_id="suggestion_id", type="result_type", details="details")
            return [("status", {"status": "running", **told})]
        case "steps.skipped":
            return [("step_complete", _left(step, "skipped", event.get("reason"))) for step in event["step_ids"]]
        case "steps.cancelled":
            return [("step_complete", _left(step, "cancelled", None)) for step in event["step_ids"]]
        case "execution.completed":
            return _end("completed", result=event.get("result"))
        case "execution.failed" | "execution.rejected":
            return [("error", _error(event)), *_end("failed", error=event.get("error"))]
        case "execution.cancelled":
            return _end("cancelled", by=event.get("by"), reason=event.get("reason"))
        case "execution.timed_out":
            return [("error", _error(event)), *_end("timeout", error=event.get("error"))]
        case _:
            return []  # an event of a later release: not shown, and not an error


def _status(status: str) -> Said:
    return "status", {"status": status, "step": None}


def _pick(event: Json, **names: str) -> dict[str, Any]:
    return {name: event.get(source) for name, source in names.items()}


def _chosen(event: Json) -> dict[str, Any]:
    """Who did it, where that was not said when the step began."""
    return {"agent": event["agent"]} if event.get("agent") else {}


def _left(step: str, status: str, reason: str | None) -> Json:
    return {"step": step, "status": status, "reason": reason}


def _error(event: Json) -> dict[str, Any]:
    error = event.get("error") or {}
    return {
        "step": event.get("step_id"),
        "code": error.get("code"),
        "message": error.get("message"),
        "retryable": error.get("retryable", False),
    }


def _end(status: str, **data: Any) -> list[Said]:
    return [_status(status), ("complete", {"status": status, "result": None, **data})]
