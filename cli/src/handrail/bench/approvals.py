"""Approvals that wait in great number: how fast they are listed, and how soon a decision moves its execution."""

import asyncio
import time
from typing import Any

import httpx2

from handrail.bench.client import Client
from handrail.bench.workloads import percentile

PENDING = 10_000
OTHERS = {"low": 3000, "medium": 3000, "urgent": 3000}
"""Gates of somebody else, opened first: who asks for their own has to get past them."""
OWN = PENDING - sum(OTHERS.values())
LISTED, DECIDED, WARM_UP = 200, 200, 20
PAGE = {"status": "pending", "limit": 50}
PATIENCE = 300.0


def gate(priority: str, approver: str) -> dict[str, Any]:
    rules = {"message": "go on?", "show": {"amount": 129.9}, "approvers": [approver], "priority": priority}
    return {
        "steps": [
            {"step_id": "gate", "step_type": "human_approval", "parameters": rules, "next_steps": ["end"]},
            {"step_id": "end", "step_type": "data_transform", "parameters": {"output": "released"}},
        ]
    }


async def approvals(client: Client, api: httpx2.AsyncClient, user: str) -> dict[str, float]:
    """`user` is whose token `api` has; the own gates are theirs."""
    for priority, count in OTHERS.items():
        await client.start(await client.define(f"approvals-{priority}", gate(priority, "somebody else")), count)
    workflow = await client.define("approvals-own", gate("high", user))
    await client.start(workflow, OWN)
    found: dict[str, float] = {"pending": await _all_pending(api)}
    pages = {
        "list": {},
        "by_priority": {"order": "priority"},
        "in_the_middle": {"cursor": await _middle(api)},
        "mine": {"mine": "true"},
    }
    for name, more in pages.items():
        times = await _times(api, {**PAGE, **more})
        found[f"{name}_p50_ms"] = round(percentile(times, 0.5) * 1000, 1)
        found[f"{name}_p95_ms"] = round(percentile(times, 0.95) * 1000, 1)
    return found | await _decided(client, api)


async def _all_pending(api: httpx2.AsyncClient) -> int:
    """How many wait, once all do."""
    deadline = time.monotonic() + PATIENCE
    while (count := await _count(api)) < PENDING:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count} of {PENDING} approvals wait after {PATIENCE:g} s")
        await asyncio.sleep(1)
    return count


async def _count(api: httpx2.AsyncClient) -> int:
    return sum([len(page["items"]) async for page in _pages(api)])


async def _pages(api: httpx2.AsyncClient) -> Any:
    cursor: dict[str, str] = {}
    while True:
        page = await _get(api, {"status": "pending", "limit": 200, **cursor})
        yield page
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


async def _get(api: httpx2.AsyncClient, wanted: dict[str, Any]) -> Any:
    answer = await api.get("/api/v1/approvals", params=wanted)
    answer.raise_for_status()
    return answer.json()


async def _middle(api: httpx2.AsyncClient) -> str:
    seen = 0
    async for page in _pages(api):
        seen += len(page["items"])
        if seen >= PENDING // 2:
            return str(page["next_cursor"])
    raise RuntimeError(f"only {seen} approvals wait")


async def _times(api: httpx2.AsyncClient, wanted: dict[str, Any]) -> list[float]:
    """Seconds of each request, in order of length. Raises if a page is not full."""
    times = []
    for number in range(WARM_UP + LISTED):
        began = time.perf_counter()
        page = await _get(api, wanted)
        if number >= WARM_UP:
            times.append(time.perf_counter() - began)
        if len(page["items"]) != PAGE["limit"]:
            raise RuntimeError(f"a page of {wanted} has {len(page['items'])} approvals")
    return sorted(times)


async def _decided(client: Client, api: httpx2.AsyncClient) -> dict[str, float]:
    """One decision after the other: until the end of its execution is read on the bus, and until the answer."""
    own: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while len(own) < WARM_UP + DECIDED:
        page = await _get(api, {**PAGE, "mine": "true", **cursor})
        own, cursor = own + page["items"], {"cursor": page["next_cursor"]}
    ends, answers = [], []
    for number, found in enumerate(own[: WARM_UP + DECIDED]):
        began = time.perf_counter()
        answering = asyncio.create_task(_decide(api, found["id"], began))
        await client.wait([found["execution_id"]])
        ended = time.perf_counter() - began
        answered = await answering
        if number >= WARM_UP:
            ends.append(ended)
            answers.append(answered)
    ends, answers = sorted(ends), sorted(answers)
    return {
        "decision_to_end_p50_ms": round(percentile(ends, 0.5) * 1000, 1),
        "decision_to_end_p95_ms": round(percentile(ends, 0.95) * 1000, 1),
        "answer_p50_ms": round(percentile(answers, 0.5) * 1000, 1),
        "answer_p95_ms": round(percentile(answers, 0.95) * 1000, 1),
    }


async def _decide(api: httpx2.AsyncClient, approval_id: str, began: float) -> float:
    answer = await api.post(f"/api/v1/approvals/{approval_id}", json={"decision": "approved"})
    answered = time.perf_counter() - began
    if answer.status_code != 200:
        raise RuntimeError(f"{approval_id}: {answer.status_code} {answer.text[:200]}")
    return answered
