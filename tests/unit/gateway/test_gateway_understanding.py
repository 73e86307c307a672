"""What a person is told when asking why, and where the time went."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from handrail_gateway.understanding import timeline, why

SOON = "2026-11-21T14:05:00Z"
BEGAN = datetime(2026, 11, 21, 14, tzinfo=UTC)


def step(step_id: str, status: str, **said: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("agent", "waits_for", "started_at", "wake_at", "deadline", "input", "error"))
    return {"step_id": step_id, "status": status, "attempt": 1, **nothing, **said}


@pytest.mark.parametrize(
    ("status", "steps", "sentence"),
    [
        ("waiting", [step("review", "waiting", waits_for="approval", input={"approvers": ["ann", "bob"]}, deadline=SOON)],
         "Step review waits for a decision of ann or bob until 2026-11-21 14:05:00 UTC."),
        ("waiting", [step("review", "waiting", waits_for="approval", input={"approvers": []})],
         "Step review waits for a decision of anyone."),
        ("waiting", [step("paid", "waiting", waits_for="signal", input="invoice paid")],
         "Step paid waits for the signal 'invoice paid'."),
        ("waiting", [step("d", "waiting", waits_for="timer", wake_at=SOON)],
         "Step d waits for its time until 2026-11-21 14:05:00 UTC."),
        ("running", [step("a", "running", waits_for="agent", agent="writer", attempt=2)],
         "Step a waits for writer to answer (attempt 2)."),
        ("running", [step("a", "retrying", wake_at=SOON, error={"message": "busy"})],
         "Step a is tried again after attempt 1 failed: busy at 2026-11-21 14:05:00 UTC."),
        ("running", [step("each", "running", waits_for="loop", input=[1]),
                     step("each[0].a", "running", waits_for="agent", agent="writer")],
         "Step each[0].a waits for writer to answer."),
        ("paused", [step("b", "completed")], "It is paused: nothing new begins until somebody resumes it."),
        ("completed", [step("b", "completed")], "It waits for nothing: it has ended (completed)."),
        ("pending", [], "It was accepted, and the scheduler has not begun it yet."),
        ("running", [step(f"s{n}", "running", waits_for="agent", agent="x") for n in range(5)],
         "Step s0 waits for x to answer; step s1 waits for x to answer; step s2 waits for x to answer; and 2 more."),
    ],
)  # fmt: skip
def test_why_is_one_sentence_that_names_what_is_waited_for(status: str, steps: list[Any], sentence: str) -> None:
    assert why({"status": status}, steps)["why"] == sentence


def test_a_timeline_has_every_attempt_with_its_time_and_outcome() -> None:
    def event(kind: str, seconds: float, **said: Any) -> dict[str, Any]:
        return {"type": kind, "at": BEGAN + timedelta(seconds=seconds), **said}

    found = timeline(
        [
            event("execution.started", 0),
            event("step.started", 0, step_id="a", step_type="agent_execution", attempt=1, agent="writer"),
            event("step.retry_scheduled", 2, step_id="a", attempt=1),
            event("step.started", 5, step_id="a", step_type="agent_execution", attempt=2, agent="writer"),
            event("step.completed", 6.5, step_id="a", attempt=2),
            event("step.started", 6.5, step_id="b", step_type="delay", attempt=1),
            event("steps.cancelled", 7, step_ids=["b"]),
            event("steps.skipped", 7, step_ids=["c"]),
        ]
    )
    assert [(t["step"], t["attempt"], t["seconds"], t["outcome"]) for t in found] == [
        ("a", 1, 2.0, "failed, tried again"),
        ("a", 2, 1.5, "completed"),
        ("b", 1, 0.5, "cancelled"),
        ("c", 0, None, "skipped"),
    ]


def test_who_did_a_step_that_asked_for_capabilities_is_told_with_its_end() -> None:
    def event(kind: str, **said: Any) -> dict[str, Any]:
        return {"type": kind, "at": BEGAN, "step_id": "a", "attempt": 1, **said}

    begun = event("step.started", step_type="agent_execution")
    found = timeline(
        [begun, event("step.retry_scheduled", agent="ann"), begun, event("step.failed", agent="bob"), begun]
    )
    assert [attempt["agent"] for attempt in found] == ["ann", "bob", None]
