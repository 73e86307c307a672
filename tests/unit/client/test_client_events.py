"""Streams: nothing missed, nothing twice, whatever happens to the connection."""

import asyncio
from typing import Any

import httpx2
import orjson
import pytest
from handrail_client import Delta, Ended, Forbidden, Status, StepEnded, StepStarted, StreamEvent, Trouble, Unreachable
from handrail_client import transport as transport_module
from handrail_client.events import event_of
from handrail_gateway.streaming import frames_of
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.client.doors import Door, answer, encoded, frames, refused
from unit.client.test_client_calls import EXECUTION


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "FIRST_PAUSE", 0.0)


HELLO = ("connected", None, {"execution_id": "e", "status": "running"})
BEAT = ("heartbeat", None, {"execution_id": "e"})
STORY: list[tuple[str, str | None, dict[str, Any]]] = [
    ("status", "1.0", {"execution_id": "e", "status": "running", "step": None}),
    (
        "step_start",
        "2.0",
        {"execution_id": "e", "step": "s", "step_type": "agent_execution", "attempt": 1, "agent": "a"},
    ),
    ("step_complete", "3.0", {"execution_id": "e", "step": "s", "attempt": 1, "status": "completed", "result": 1}),
    ("status", "4.0", {"execution_id": "e", "status": "completed", "step": None}),
    ("complete", "4.1", {"execution_id": "e", "status": "completed", "result": 1}),
]


def gateway(cuts: list[int]) -> Door:
    """Resumes as the real one does, and cuts each connection after so many bytes; the last one lives."""
    left = list(cuts)

    def stream(request: httpx2.Request) -> httpx2.Response:
        last = request.headers.get("Last-Event-ID")
        told = STORY[1 + [i for _, i, _ in STORY].index(last) :] if last else STORY
        body = b"".join(encoded(*frame) for frame in (HELLO, BEAT, *told))
        return frames(cut=body[: left.pop(0)] or b"\n") if left else frames(HELLO, BEAT, *told)

    return Door(stream)


@given(st.lists(st.integers(0, 900), max_size=6))
@settings(max_examples=60, deadline=None)
def test_wherever_the_connection_is_cut_every_event_comes_once_and_in_order(cuts: list[int]) -> None:
    async def follow() -> list[str | None]:
        async with gateway(cuts).client() as handrail:
            return [event.id async for event in handrail.execution("e").events()]

    assert asyncio.run(follow()) == ["1.0", "2.0", "3.0", "4.0", "4.1"]


async def test_events_have_the_types_of_what_they_tell() -> None:
    async with gateway([]).client() as handrail:
        found = [event async for event in handrail.execution("e").events()]
    assert [type(event) for event in found] == [Status, StepStarted, StepEnded, Status, Ended]
    last = found[-1]
    assert isinstance(last, Ended) and (last.status, last.result) == ("completed", 1)


async def test_a_stream_goes_on_after_the_id_that_is_given() -> None:
    async with gateway([]).client() as handrail:
        assert [event.id async for event in handrail.execution("e").events(after="3.0")] == ["4.0", "4.1"]


async def test_nothing_more_to_tell_is_an_end() -> None:
    async with Door(httpx2.Response(204)).client() as handrail:
        assert [event async for event in handrail.execution("e").events(after="4.1")] == []


async def test_a_gateway_that_stops_or_is_away_for_a_moment_is_asked_again() -> None:
    door = Door(
        frames(HELLO, STORY[0]),
        refused(503, "DATABASE_UNAVAILABLE"),
        httpx2.ConnectError("away"),
        frames(HELLO, *STORY[1:]),
    )
    async with door.client() as handrail:
        assert len([event async for event in handrail.execution("e").events()]) == len(STORY)
    assert door.headers("Last-Event-ID") == [None, "1.0", "1.0", "1.0"]


async def test_one_that_stays_away_is_unreachable() -> None:
    async with Door(httpx2.ReadTimeout("silent")).client(retry_seconds=0.02) as handrail:
        with pytest.raises(Unreachable, match="silent"):
            await anext(handrail.execution("e").events())


async def test_a_refusal_is_not_repeated() -> None:
    door = Door(refused(403, "FORBIDDEN"))
    async with door.client() as handrail:
        with pytest.raises(Forbidden):
            await anext(handrail.execution("e").events())
    assert len(door.requests) == 1


async def test_silence_is_bounded() -> None:
    door = gateway([])
    async with door.client(timeout=5) as handrail:
        await anext(handrail.execution("e").events())
    assert door.requests[0].extensions["timeout"]["read"] == 45


async def test_the_result_comes_with_the_last_event() -> None:
    door = Door(answer(EXECUTION | {"status": "running"}), frames(HELLO, *STORY))
    async with door.client() as handrail:
        assert await handrail.execution("e").result(timeout=20) == 1


FACTS: list[dict[str, Any]] = [
    {"type": "execution.started"},
    {"type": "step.started", "step_id": "s", "step_type": "agent_execution", "attempt": 1, "agent": "a"},
    {"type": "step.retry_scheduled", "step_id": "s", "attempt": 1, "retry_at": "2026-02-18T11:15:02Z", "error": None},
    {"type": "step.failed", "step_id": "s", "attempt": 2, "error": {"code": "X", "message": "m", "retryable": True}},
    {"type": "steps.skipped", "step_ids": ["t"], "reason": "not taken"},
    {"type": "execution.timed_out", "error": {"code": "TIMEOUT", "message": "late", "retryable": False}},
]


def test_what_the_gateway_says_fits_the_types() -> None:
    told = [
        event_of(sse(found.event, "", found.data))
        for found in frames_of("e", ({"n": n, **fact} for n, fact in enumerate(FACTS, 1)))
    ]
    kinds = [type(event) for event in told]
    assert kinds == [Status, StepStarted, Trouble, Trouble, StepEnded, StepEnded, Trouble, Status, Ended]
    failed, ended = told[4], told[-1]
    assert isinstance(failed, StepEnded) and failed.error is not None and failed.error.code == "X"
    assert isinstance(ended, Ended) and (ended.status, ended.error and ended.error.code) == ("timeout", "TIMEOUT")


def test_a_kind_of_a_newer_gateway_is_an_event_without_a_type_of_its_own() -> None:
    event = event_of(sse("mood", "5.0", b'{"execution_id": "e", "mood": "calm"}'))
    assert type(event) is StreamEvent
    assert (event.type, event.id, event.model_extra) == ("mood", "5.0", {"execution_id": "e", "mood": "calm"})


def test_what_an_agent_says_has_its_words() -> None:
    event = event_of(sse("delta", "", orjson.dumps({"content": "Hel", "step": "s"})))
    assert isinstance(event, Delta) and (event.content, event.step, event.id) == ("Hel", "s", None)


def sse(event: str, identifier: str, data: bytes) -> httpx2.ServerSentEvent:
    return httpx2.ServerSentEvent(event=event, id=identifier, data=data.decode())
