"""What an execution waits for, and where its time went, from what the read models and the history say. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]
OPEN = ("running", "waiting", "retrying", "blocked")


def why(execution: Json, steps: Iterable[Json]) -> dict[str, Any]:
    """One sentence, and the waits that it is made of, the oldest first. A loop waits for what its turns wait for."""
    waits = [_wait(step) for step in steps if step["status"] in OPEN]
    waits = [wait for wait in waits if wait["for"] != "loop"] or waits
    status = execution["status"]
    if status == "paused":
        said = "it is paused: nothing new begins until somebody resumes it"
        sentence = f"{said}; meanwhile {_join(waits)}" if waits else said
    elif status == "compensating":
        sentence = f"what it did is being undone before it ends; {_join(waits)}" if waits else "it is about to end"
    elif status in ("running", "waiting"):
        sentence = _join(waits) if waits else "the scheduler has not said yet what comes next"
    elif status == "queued":
        sentence = "it waits for a place: as many executions run as its workflow allows"
    elif status == "pending":
        sentence = "it was accepted, and the scheduler has not begun it yet"
    else:
        sentence = f"it waits for nothing: it has ended ({status})"
    return {"status": status, "why": sentence[0].upper() + sentence[1:] + ".", "waits": waits}


def _join(waits: list[dict[str, Any]]) -> str:
    shown = "; ".join(wait["sentence"] for wait in waits[:3])
    return shown if len(waits) <= 3 else f"{shown}; and {len(waits) - 3} more"


def _wait(step: Json) -> dict[str, Any]:
    kind, until = step["waits_for"] or "scheduler", step["deadline"]
    if step["status"] == "retrying":
        kind, until = "retry", step["wake_at"]
        error = step["error"] or {}
        what = f"is tried again after attempt {step['attempt']} failed: {error.get('message', 'no reason given')}"
    elif step["status"] == "blocked":
        kind, until = "person", None
        error = step["error"] or {}
        what = f"failed ({error.get('message', 'no reason given')}) and waits for somebody who retries or skips it"
    elif kind == "budget" and step["error"]:
        what = f"waits: {step['error'].get('message', 'a budget is spent')}; raise it (PUT /api/v1/budgets), and it goes on"
    elif kind == "workflow":
        what = "waits for its sub-workflow to end"
    elif kind == "approval":
        approvers = (step["input"] or {}).get("approvers") or []
        what = f"waits for a decision of {' or '.join(approvers) or 'anyone'}"
    elif kind == "signal":
        what = f"waits for the signal {step['input']!r}"
    elif kind == "loop":
        what = "goes through its turns"
    elif kind == "person":
        what = "waits for the person who has it"
    elif kind == "timer":
        until = step["wake_at"]
        what = "waits for its time"
    else:
        again = f" (attempt {step['attempt']})" if step["attempt"] > 1 else ""
        what = f"waits for {step['agent'] or 'its agent'} to answer{again}"
    preposition = "at" if kind == "retry" else "until"
    when = f" {preposition} {_clock(until)}" if until else ""
    return {
        "step": step["step_id"],
        "for": kind,
        "since": step["started_at"],
        "until": until,
        "sentence": f"step {step['step_id']} {what}{when}",
    }


def _clock(moment: str) -> str:
    return datetime.fromisoformat(moment).strftime("%Y-%m-%d %H:%M:%S UTC")


def timeline(events: Iterable[Json]) -> list[dict[str, Any]]:
    """Every attempt of every step, as it began: how long it took, and how long the next one waited.

    `events` are those of the history, each with `at` (a datetime). An attempt that goes on has no end.
    """
    attempts: list[dict[str, Any]] = []
    latest: dict[str, dict[str, Any]] = {}
    for event in events:
        match event["type"]:
            case "step.started":
                attempt = {
                    "step": event["step_id"], "step_type": event["step_type"], "attempt": event["attempt"],
                    "waits_for": event.get("waits_for"), "agent": event.get("agent"), "started_at": event["at"],
                    "ended_at": None, "seconds": None, "outcome": None,
                }  # fmt: skip
                attempts.append(attempt)
                latest[event["step_id"]] = attempt
            case "step.completed" | "step.failed" | "step.retry_scheduled":
                _close(latest.get(event["step_id"]), event["at"], _OUTCOMES[event["type"]], event.get("agent"))
            case "steps.cancelled":
                for step_id in event["step_ids"]:
                    _close(latest.get(step_id), event["at"], "cancelled")
            case "step.steered" if event["action"] in _BY_HAND:
                attempts.append(_mark(event, f"{_BY_HAND[event['action']]} {_whose(event)}"))
            case "step.overdue":
                attempts.append(_mark(event, "overdue"))
            case "steps.skipped":
                attempts += [
                    {"step": step_id, "step_type": None, "attempt": 0, "waits_for": None, "agent": None,
                     "started_at": None, "ended_at": event["at"], "seconds": None, "outcome": "skipped"}
                    for step_id in event["step_ids"]
                ]  # fmt: skip
    return attempts


_BY_HAND = {"complete": "completed by", "fail": "failed by", "reassign": "handed over to"}


def _whose(event: Json) -> str:
    if event["action"] == "reassign":
        return str(event.get("assignee") or event.get("agent"))
    return str(event.get("agent") or event["by"] or "somebody")


def _mark(event: Json, outcome: str) -> dict[str, Any]:
    """Something that happened to the step, and is no attempt."""
    nothing = dict.fromkeys(("step_type", "waits_for", "agent", "started_at", "seconds"))
    return {"step": event["step_id"], **nothing, "attempt": 0, "ended_at": event["at"], "outcome": outcome}


_OUTCOMES = {"step.completed": "completed", "step.failed": "failed", "step.retry_scheduled": "failed, tried again"}


def _close(attempt: dict[str, Any] | None, at: datetime, outcome: str, chosen: str | None = None) -> None:
    if attempt is not None and attempt["ended_at"] is None:
        attempt["agent"] = chosen or attempt["agent"]
        attempt["ended_at"], attempt["outcome"] = at, outcome
        attempt["seconds"] = round((at - attempt["started_at"]).total_seconds(), 6)
