"""Approvals, and what one tenant can see of another: nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from handrail_contracts.approval_events import ApprovalClosed, ApprovalCommented, ApprovalRefused
from handrail_gateway import schemas
from integration.gateway_world import (
    SUPPORT,
    World,
    answer,
    created,
    opened,
    problem,
    register,
    say,
    started,
    submitted,
    world,
)

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture(scope="module")
async def gateway(broker: Any, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(str(broker), database_url, tmp_path_factory.mktemp("gateway")) as found:
        async with found.client() as client:
            await register(client, "helper")
        yield found


@pytest_asyncio.fixture
async def client(gateway: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway.client() as found:
        yield found


class TestApprovals:
    async def test_a_decision_counts_once_it_is_journaled(self, gateway: World, client: httpx2.AsyncClient) -> None:
        execution = str(uuid4())
        gate = await opened(gateway, execution, "ada")
        listed = await client.get(f"/api/approvals?status=pending&execution_id={execution}")
        deciding = asyncio.create_task(
            client.post(f"/api/approvals/{gate}", json={"decision": "approved", "comment": "Looks good, proceed"})
        )
        wish = await submitted(gateway, execution)
        assert (wish["decision"], wish["user_id"], deciding.done()) == ("approved", "ada", False)
        closed = ApprovalClosed(
            approval_id=gate, decision="approved", submission_id=wish["event_id"], by="ada", comment=wish["comment"]
        )
        await say(gateway, execution, closed)
        body = answer(await deciding, 200, schemas.ApprovalSummary)
        assert (body["status"], body["decided_by"], body["comment"]) == ("approved", "ada", "Looks good, proceed")
        answer(listed, 200, schemas.ApprovalPage)
        problem(await client.post(f"/api/approvals/{gate}", json={"decision": "rejected"}), 409, "ALREADY_DECIDED")
        shown = answer(await client.get(f"/api/v1/approvals/{gate}"), 200, schemas.Approval)
        assert [entry["event"]["type"] for entry in shown["history"]] == ["approval.opened", "approval.closed"]

    async def test_one_who_was_second_hears_it(self, gateway: World, client: httpx2.AsyncClient) -> None:
        execution = str(uuid4())
        gate = await opened(gateway, execution)
        deciding = asyncio.create_task(client.post(f"/api/v1/approvals/{gate}", json={"decision": "approved"}))
        wish = await submitted(gateway, execution)
        assert wish["decision"] == "approved"
        await say(gateway, execution, ApprovalClosed(approval_id=gate, decision="rejected", by="bob"))
        problem(await deciding, 409, "ALREADY_DECIDED")

    async def test_one_who_is_no_approver_is_refused_at_once(self, gateway: World, client: httpx2.AsyncClient) -> None:
        execution = str(uuid4())
        gate = await opened(gateway, execution, "bob")
        problem(await client.post(f"/api/v1/approvals/{gate}", json={"decision": "approved"}), 403, "FORBIDDEN")
        assert await gateway.records("approval.submitted", execution) == []

    async def test_a_decision_that_is_refused_later_is_told(self, gateway: World, client: httpx2.AsyncClient) -> None:
        execution = str(uuid4())
        gate = await opened(gateway, execution)
        deciding = asyncio.create_task(client.post(f"/api/v1/approvals/{gate}", json={"decision": "approved"}))
        wish = await submitted(gateway, execution)
        await say(
            gateway,
            execution,
            ApprovalRefused(approval_id=gate, submission_id=wish["event_id"], by="ada", reason="not an approver"),
        )
        assert "not an approver" in problem(await deciding, 403, "FORBIDDEN")["detail"]

    async def test_without_an_answer_in_time_it_is_submitted(self, gateway: World, client: httpx2.AsyncClient) -> None:
        gate = await opened(gateway, str(uuid4()))
        response = await client.post(f"/api/v1/approvals/{gate}", json={"decision": "approved"})
        assert answer(response, 202, schemas.ApprovalSummary)["status"] == "submitted"

    async def test_the_same_key_decides_once(self, gateway: World, client: httpx2.AsyncClient) -> None:
        execution = str(uuid4())
        gate = await opened(gateway, execution)
        url, headers = f"/api/v1/approvals/{gate}", {"Idempotency-Key": str(uuid4())}
        deciding = asyncio.create_task(client.post(url, json={"decision": "approved"}, headers=headers))
        wish = await submitted(gateway, execution)
        await say(
            gateway,
            execution,
            ApprovalClosed(approval_id=gate, decision="approved", submission_id=wish["event_id"], by="ada"),
        )
        assert (await deciding).status_code == 200
        again = await client.post(url, json={"decision": "approved"}, headers=headers)
        assert answer(again, 200, schemas.ApprovalSummary)["status"] == "approved"
        other = await client.post(url, json={"decision": "rejected"}, headers=headers)
        problem(other, 422, "IDEMPOTENCY_KEY_REUSED")
        assert len(await gateway.records("approval.submitted", execution)) == 1

    async def test_a_comment_is_on_the_gate(self, gateway: World, client: httpx2.AsyncClient) -> None:
        execution = str(uuid4())
        gate = await opened(gateway, execution)
        writing = asyncio.create_task(client.post(f"/api/v1/approvals/{gate}/comments", json={"text": "why?"}))
        for _ in range(200):
            if found := await gateway.records("comment.added", execution):
                break
            await asyncio.sleep(0.02)
        event = ApprovalCommented(approval_id=gate, comment_id=found[0]["event_id"], author="ada", text="why?")
        await say(gateway, execution, event)
        assert answer(await writing, 201, schemas.Comment)["author"] == "ada"

    async def test_at_a_gate_that_is_closed_nobody_would_hear_a_comment(
        self, gateway: World, client: httpx2.AsyncClient
    ) -> None:
        execution = str(uuid4())
        gate = await opened(gateway, execution)
        told = ApprovalCommented(approval_id=gate, comment_id=str(uuid4()), author="ada", text="why?")
        await say(gateway, execution, told, ApprovalClosed(approval_id=gate, decision="approved", by="ada"))
        async with asyncio.timeout(20):
            while (await client.get(f"/api/v1/approvals/{gate}")).json()["status"] == "pending":
                await asyncio.sleep(0.02)
        problem(await client.post(f"/api/v1/approvals/{gate}/comments", json={"text": "late"}), 409, "ALREADY_DECIDED")
        assert await gateway.records("comment.added", execution) == []


class TestTenants:
    async def test_nothing_of_another_tenant_can_be_seen_or_touched(
        self, gateway: World, client: httpx2.AsyncClient
    ) -> None:
        workflow = await created(client)
        execution = await started(client, workflow)
        await client.get(f"/api/v1/executions/{execution}")
        gate = await opened(gateway, execution)
        foreign = [
            ("GET", f"/api/v1/workflows/{workflow}"),
            ("PUT", f"/api/v1/workflows/{workflow}"),
            ("DELETE", f"/api/v1/workflows/{workflow}"),
            ("POST", f"/api/v1/workflows/{workflow}/execute"),
            ("POST", f"/api/v1/workflows/{workflow}/validate"),
            ("GET", f"/workflows/{workflow}"),
            ("POST", f"/workflows/{workflow}/execute"),
            ("GET", f"/api/v1/executions/{execution}"),
            ("GET", f"/api/v1/executions/{execution}/events"),
            ("GET", f"/api/v1/executions/{execution}/stream"),
            ("POST", f"/api/v1/executions/{execution}/cancel"),
            ("GET", f"/api/v1/approvals/{gate}"),
            ("POST", f"/api/v1/approvals/{gate}"),
            ("POST", f"/api/v1/approvals/{gate}/comments"),
        ]
        bodies = {
            ("PUT", "workflows"): {"name": "x", "steps": [{**SUPPORT["steps"][0], "next_steps": []}]},  # type: ignore[dict-item]
            ("POST", "approvals"): {"decision": "approved"},
            ("POST", "comments"): {"text": "hello"},
        }
        for claims in ({"project_id": "other"}, {"organization_id": "other"}):
            async with gateway.client(**claims) as stranger:
                for method, path in foreign:
                    what = "comments" if path.endswith("comments") else path.split("/")[3] if "/api/" in path else ""
                    response = await stranger.request(method, path, json=bodies.get((method, what)))
                    problem(response, 404, "NOT_FOUND")
                for path in ("workflows", "executions", "approvals"):
                    body = (await stranger.get(f"/api/v1/{path}")).json()
                    assert not [item for item in body["items"] if item["id"] in (workflow, execution, gate)]
                assert (await stranger.get(f"/api/v1/workflows/{workflow}/executions")).json()["items"] == []
        assert await gateway.records("execution.controlled", execution) == []
        assert await gateway.records("approval.submitted", execution) == []

    async def test_an_agent_belongs_to_who_registered_it(self, gateway: World, client: httpx2.AsyncClient) -> None:
        shown = answer(await client.get("/api/v1/agents/helper"), 200, schemas.Agent)
        assert shown["config"]["headers"] == {"X-Key": "***"}
        async with gateway.client(organization_id="umbrella") as stranger:
            body = {"kind": "scripted"}
            problem(await stranger.get("/api/v1/agents/helper"), 404, "NOT_FOUND")
            problem(await stranger.put("/api/v1/agents/helper", json=body), 409, "NAME_TAKEN")
            problem(await stranger.delete("/api/v1/agents/helper"), 409, "NAME_TAKEN")
            problem(await stranger.post("/api/v1/workflows", json=SUPPORT), 422, "VALIDATION_ERROR")
