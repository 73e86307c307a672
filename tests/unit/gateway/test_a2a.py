"""Executions as tasks: pure mappings, and what they cost those who don't use them."""

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any, get_args

import orjson
import pytest
from a2a.types import AgentCard, StreamResponse, Task
from google.protobuf.json_format import ParseDict
from handrail_gateway.a2a.cards import card_of
from handrail_gateway.a2a.tasks import STATES, begun, events_of, status_of, task_of
from handrail_gateway.database import Json
from handrail_gateway.schemas import ExecutionStatus
from handrail_gateway.streaming import frames_of, progress_frame
from unit.gateway.builders import World

IDS = {"execution_id": "e1", "session_id": "s1"}
GATE = {"approvers": ["ada"], "message": "Pay 100 EUR?", "show": None}


def row(status: str = "running", *steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    columns = {"trigger": {"kind": "a2a", "message_id": "m1"}, "input": "hello", "result": None, "error": None}
    columns = {name: changes.pop(name, value) for name, value in columns.items()}
    return {
        **IDS, "workflow_id": "w1", "status": status, "completed_at": None, "last_n": 7, **changes,
        "steps": Json(orjson.dumps(steps).decode()),
        **{name: Json(orjson.dumps(value).decode()) for name, value in columns.items()},
    }  # fmt: skip


def step(status: str = "waiting", waits_for: str = "approval", **changes: Any) -> dict[str, Any]:
    standard = {
        "step_id": "a", "step_type": "x", "status": status, "agent": "writer", "attempt": 1, "waits_for": waits_for,
        "started_at": "2026-01-01T00:00:00.0Z", "wake_at": None, "deadline": None, "input": None, "error": None,
    }  # fmt: skip
    return {**standard, **changes}


def test_every_status_has_a_state() -> None:
    assert set(STATES) == set(get_args(ExecutionStatus))


@pytest.mark.parametrize(
    ("waits", "state"),
    [
        (step(input=GATE), "INPUT_REQUIRED"),
        (step(waits_for="signal", input="paid"), "INPUT_REQUIRED"),
        (step("blocked", "agent"), "INPUT_REQUIRED"),
        (step(waits_for="timer"), "WORKING"),
        (step(waits_for="workflow"), "WORKING"),
    ],
)
def test_input_is_required_when_people_are_waited_for(waits: dict[str, Any], state: str) -> None:
    status = status_of(row("waiting", waits))
    assert status["state"] == f"TASK_STATE_{state}"
    assert status_of(row("running", waits))["state"] == "TASK_STATE_WORKING", "others still work"


def test_the_message_says_what_is_awaited() -> None:
    text, data = status_of(row("waiting", step(input=GATE)))["message"]["parts"]
    assert text["text"] == "Step a waits for a decision of ada. Pay 100 EUR?"
    assert data["data"]["waits"] == [{"step": "a", "for": "approval", "until": None}]


def test_a_task_is_the_protocols() -> None:
    ended = datetime(2026, 1, 1, tzinfo=UTC)
    done = ParseDict(task_of(row("completed", result={"n": 1}, completed_at=ended)), Task())
    assert (done.id, done.context_id, done.history[0].message_id) == ("e1", "s1", "m1")
    assert done.artifacts[0].parts[0].data.struct_value["n"] == 1
    assert done.status.timestamp.ToDatetime(UTC) == ended
    failed = task_of(row("timeout", error={"code": "TIMEOUT", "message": "too late"}))
    assert failed["status"]["message"]["parts"] == [{"text": "TIMEOUT: too late"}]
    assert "history" not in task_of(row(trigger={"kind": "api"}))
    assert task_of(row(session_id=None))["contextId"] == "e1"
    ParseDict(begun(IDS), Task())


EVENTS: list[dict[str, Any]] = [
    {"type": "execution.started"},
    {"type": "execution.admitted", "begins": False},
    {"type": "step.started", "step_id": "a", "step_type": "agent_execution", "attempt": 1, "agent": "writer"},
    {"type": "step.retry_scheduled", "step_id": "a", "error": {"code": "AGENT_ERROR", "message": "no"}, "attempt": 1},
    {"type": "step.completed", "step_id": "a", "attempt": 2, "output": {"n": 1}},
    {"type": "steps.skipped", "step_ids": ["b", "c"], "reason": "not taken"},
    {"type": "execution.paused"},
    {"type": "execution.resumed"},
    {"type": "compensation.started"},
]


@pytest.mark.parametrize(
    ("end", "state", "artifacts"),
    [
        ({"type": "execution.completed", "result": "done"}, "COMPLETED", 1),
        ({"type": "execution.completed", "result": None}, "COMPLETED", 0),
        ({"type": "execution.failed", "error": {"code": "X", "message": "y"}}, "FAILED", 0),
        ({"type": "execution.timed_out", "error": {"code": "TIMEOUT", "message": "y"}}, "FAILED", 0),
        ({"type": "execution.cancelled", "by": "ada", "reason": ""}, "CANCELED", 0),
    ],
)
def test_a_stream_is_events_of_the_protocol_and_one_end(end: dict[str, Any], state: str, artifacts: int) -> None:
    history = [{"n": n, **event} for n, event in enumerate([*EVENTS, end], 1)]
    told = [event for f in frames_of("e1", history) for event in events_of(IDS, f.event, orjson.loads(f.data), "m")]
    for event in told:
        ParseDict(event, StreamResponse())
    states = [event["statusUpdate"]["status"]["state"] for event in told if "statusUpdate" in event]
    assert set(states[:-1]) == {"TASK_STATE_WORKING", "TASK_STATE_SUBMITTED"}
    assert states[-1] == f"TASK_STATE_{state}"
    assert "statusUpdate" in told[-1]
    assert sum("artifactUpdate" in event for event in told) == artifacts


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        ("delta", {"content": "ro"}, "ro"),
        ("progress", {"state": "working", "message": "half"}, "half"),
        ("progress", {"percent": 50}, None),
        ("tool_call", {"tool": "t", "arguments": "{}"}, None),
    ],
)
def test_what_agents_tell_is_told(kind: str, data: dict[str, Any], text: str | None) -> None:
    frame = progress_frame({"kind": kind, "data": data, "step_id": "a", "execution_id": "e1"}, 1)
    assert frame is not None
    [event] = events_of(IDS, frame.event, orjson.loads(frame.data), "m")
    ParseDict(event, StreamResponse())
    message = event["statusUpdate"]["status"].get("message")
    assert (message["parts"][0]["text"] if message else None) == text
    assert event["statusUpdate"]["metadata"]["step"] == "a"


def test_a_card_leads_back_to_where_it_was_asked_for() -> None:
    card = ParseDict(card_of({"workflow_id": "a/b c", "name": "N", "version": 3}, "", "http://h/"), AgentCard())
    assert [interface.url for interface in card.supported_interfaces] == ["http://h/a2a/workflows/a%2Fb%20c"] * 2
    assert (card.version, card.description) == ("3", "Runs the workflow N.")


@pytest.mark.parametrize("path", ["", "/tasks/x"])
async def test_a_failure_of_ours_tells_no_secrets(path: str) -> None:
    def broken(*_: object) -> list[dict[str, Any]]:
        raise RuntimeError("password=hunter2")

    world = World()
    world.database.scripts["newest_workflow"] = lambda *_: [{"workflow_id": "w", "version": 1, "active": True}]
    world.database.scripts["execution_with_steps"] = broken
    call = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "x"}}
    async with world.client() as client:
        method, body = ("GET", None) if path else ("POST", call)
        failed = await client.request(method, f"/a2a/workflows/w{path}", json=body, headers={"A2A-Version": "1.0"})
    assert "its log says why" in failed.text
    assert "hunter2" not in failed.text


@pytest.mark.parametrize("module", ["handrail_gateway.app", "handrail_agent_runner.main"])
def test_the_sdk_is_not_imported_before_somebody_speaks_it(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('a2a', 'httpx', 'sse_starlette', 'google.protobuf') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
