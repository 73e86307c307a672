"""What the client does with answers: again, another page, an error, and everything once."""

from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from handrail_client import (
    AlreadyDecided,
    ApiError,
    Conflict,
    ExecutionFailed,
    Handrail,
    Invalid,
    NotFound,
    OutcomeUnknown,
    Unavailable,
    Unreachable,
)
from handrail_client.transport import Backoff
from unit.client.doors import ACCEPTED, Door, answer, paths, refused


@pytest.fixture(autouse=True)
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the client would have waited, without waiting."""
    pauses: list[float] = []
    clock = [0.0]

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("handrail_client.transport.asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr("handrail_client.transport.time", SimpleNamespace(monotonic=lambda: clock[0]))
    return pauses


LATER = [
    refused(503, "BROKER_UNAVAILABLE"),
    refused(429, "TOO_MANY_PENDING"),
    httpx2.Response(502, text="a proxy's page"),
    httpx2.ConnectError("refused"),
    httpx2.ReadError("cut off"),
]


@pytest.mark.parametrize("first", LATER, ids=str)
async def test_a_start_that_must_be_repeated_carries_one_key(first: httpx2.Response | Exception) -> None:
    door = Door(first, answer(ACCEPTED, 202))
    async with door.client() as handrail:
        assert (await handrail.start("w", {"n": 1})).id == "e"
        await handrail.start("w", {"n": 1})
    once, again, other = door.headers("Idempotency-Key")
    assert once == again != other
    assert door.requests[0].content == door.requests[1].content == b'{"input":{"n":1},"priority":0}'


async def test_a_key_of_ones_own_is_the_one_that_is_sent() -> None:
    door = Door(answer(ACCEPTED, 202))
    async with door.client() as handrail:
        await handrail.start("w", key="order-4711")
    assert door.headers("Idempotency-Key") == ["order-4711"]


async def test_retry_after_is_waited_out(waited: list[float]) -> None:
    door = Door(refused(503, "READ_MODELS_BEHIND", **{"Retry-After": "7"}), answer(ACCEPTED))
    async with door.client() as handrail:
        await handrail.execution("e").pause()
    assert waited == [7.0]


async def test_what_would_be_too_late_is_not_waited_for(waited: list[float]) -> None:
    door = Door(refused(503, "OUTCOME_UNKNOWN", **{"Retry-After": "61"}))
    async with door.client() as handrail:
        with pytest.raises(OutcomeUnknown) as caught:
            await handrail.execution("e").pause()
    assert (waited, caught.value.retry_after) == ([], 61)


async def test_pauses_grow_and_end(waited: list[float]) -> None:
    door = Door(httpx2.ConnectError("refused"))
    async with door.client(retry_seconds=30) as handrail:
        with pytest.raises(Unreachable, match="GET http://gateway/api/v1/executions/e/why"):
            await handrail.execution("e").why()
    assert 25 - 5 < sum(waited) <= 30
    assert all(pause <= 5 for pause in waited)
    assert waited[:2] == sorted(waited[:2])


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NOT_FOUND", NotFound),
        (409, "ALREADY_DECIDED", AlreadyDecided),
        (409, "SOMETHING_NEW", Conflict),
        (422, "VALIDATION_ERROR", Invalid),
        (500, "INTERNAL_ERROR", ApiError),
    ],
)
async def test_a_refusal_is_final_and_an_error_of_its_kind(status: int, code: str, kind: type[ApiError]) -> None:
    door = Door(refused(status, code))
    async with door.client() as handrail:
        with pytest.raises(kind) as caught:
            await handrail.approvals.get("a")
    assert type(caught.value) is kind
    error = caught.value
    assert (error.status, error.code, error.detail, error.instance) == (status, code, "because", "/api/v1/x")
    assert len(door.requests) == 1


async def test_an_error_that_is_no_problem_document_is_told_as_it_is() -> None:
    door = Door(httpx2.Response(503, text="<h1>away</h1>"))
    async with door.client(retry_seconds=0) as handrail:
        with pytest.raises(Unavailable, match="<h1>away</h1>"):
            await handrail.workflows.get("w")


async def test_a_422_says_where() -> None:
    errors = [{"path": "steps[1].step_type", "message": "unknown"}]
    door = Door(httpx2.Response(422, json={"code": "VALIDATION_ERROR", "detail": "no", "errors": errors}))
    async with door.client() as handrail:
        with pytest.raises(Invalid, match=r"steps\[1\]\.step_type: unknown"):
            await handrail.workflows.define({"name": "w"})


async def test_lists_go_on_to_their_last_page_and_no_further_than_wanted() -> None:
    def items(*names: str) -> list[dict[str, object]]:
        return [{"n": n, "at": "2026-02-18T11:15:02Z", "type": name} for n, name in enumerate(names, 1)]

    door = Door(
        answer({"items": items("a", "b"), "next_cursor": "c+/="}), answer({"items": items("c"), "next_cursor": None})
    )
    async with door.client() as handrail:
        history = handrail.execution("e").history()
        assert [(await anext(history)).type for _ in range(2)] == ["a", "b"]
        assert len(door.requests) == 1
        assert [event.type async for event in history] == ["c"]
    assert [request.url.params.get("cursor") for request in door.requests] == [None, "c+/="]


async def test_ids_cannot_lead_elsewhere() -> None:
    door = Door(answer(ACCEPTED))
    async with door.client() as handrail:
        await handrail.execution("../workflows/x?y").cancel()
    assert paths(door.requests) == ["POST /api/v1/executions/..%2Fworkflows%2Fx%3Fy/cancel"]


async def test_a_token_that_is_asked_for_is_asked_for_each_request() -> None:
    tokens = iter(["one", "two"])

    async def renewed() -> str:
        return next(tokens)

    door = Door(answer(ACCEPTED))
    async with door.client(token=renewed) as handrail:
        await handrail.execution("e").pause()
        await handrail.execution("e").resume()
    assert door.headers("Authorization") == ["Bearer one", "Bearer two"]


async def test_an_api_key_takes_the_place_of_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDRAIL_TOKEN", "not this one")
    door = Door(answer(ACCEPTED))
    async with door.client(token=None, api_key="k", organization="acme") as handrail:
        await handrail.execution("e").pause()
    sent = door.requests[0].headers
    assert (sent["X-API-Key"], "Authorization" in sent, sent["X-elevAIte-OrganizationId"]) == ("k", False, "acme")


def test_an_address_without_a_scheme_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="'localhost:8000' does not"):
        Handrail("localhost:8000")


APPROVAL: dict[str, Any] = {
    "id": "a", "execution_id": "e", "workflow_id": "w", "step_id": "s", "approvers": [], "message": "", "show": None,
    "deadline": None, "decided_by": "", "comment": "", "created_at": "2026-02-18T11:15:02Z", "decided_at": None,
}  # fmt: skip


async def test_a_decision_is_asked_for_again_until_it_is_known_whether_it_counts() -> None:
    door = Door(answer(APPROVAL | {"status": "submitted"}, 202), answer(APPROVAL | {"status": "approved"}))
    async with door.client() as handrail:
        decided = await handrail.approvals.decide("a", "approved", comment="go")
    assert decided.status == "approved"
    first, second = door.headers("Idempotency-Key")
    assert first == second


EXECUTION: dict[str, Any] = {
    "id": "e", "workflow_id": "w", "workflow_version": 1, "user_id": "u", "session_id": None, "attributes": {},
    "parent_id": None, "origin_id": None, "started_at": "2026-02-18T11:15:02Z", "completed_at": None, "trigger": None,
    "input": None, "context": None, "steps": [], "result": None, "error": None,
}  # fmt: skip


async def test_the_result_of_one_that_has_ended_needs_no_stream() -> None:
    door = Door(answer(EXECUTION | {"status": "completed", "result": {"total": 3}}))
    async with door.client() as handrail:
        assert await handrail.execution("e").result() == {"total": 3}
    assert len(door.requests) == 1


async def test_one_that_failed_has_no_result() -> None:
    error = {"code": "AGENT_ERROR", "message": "no", "retryable": False}
    door = Door(answer(EXECUTION | {"status": "failed", "error": error}))
    async with door.client() as handrail:
        with pytest.raises(ExecutionFailed, match="execution e: failed, AGENT_ERROR: no") as caught:
            await handrail.execution("e").result()
    assert (caught.value.status, caught.value.error) == ("failed", error)


async def test_a_field_of_a_newer_gateway_is_kept() -> None:
    door = Door(answer(EXECUTION | {"status": "meditating", "mood": "calm"}))
    async with door.client() as handrail:
        found = await handrail.execution("e").get()
    assert (found.status, found.model_extra) == ("meditating", {"mood": "calm"})


async def test_backing_off_begins_anew_after_a_reset(waited: list[float]) -> None:
    backoff = Backoff(10)
    while await backoff.wait():
        pass
    backoff.reset()
    assert await backoff.wait()
    assert waited[-1] <= waited[1]
