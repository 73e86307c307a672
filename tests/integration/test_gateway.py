"""The gateway against the real broker and database: what it accepts is on the topics, what it shows is in the read models."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import orjson
import pytest
import pytest_asyncio
from handrail_contracts.approval_events import (
    ApprovalClosed,
    ApprovalCommented,
    ApprovalOpened,
    ApprovalRecord,
    ApprovalRefused,
)
from handrail_contracts.codec import decode, encode
from handrail_contracts.envelope import ErrorInfo, utc
from handrail_contracts.execution_events import (
    ExecutionCompleted,
    ExecutionRecord,
    ExecutionStarted,
    StepCompleted,
    StepFailed,
    StepStarted,
)
from handrail_contracts.ids import derive, partition_of
from handrail_contracts.journal import Source
from handrail_contracts.steps import StepProgressed
from handrail_gateway import schemas
from integration.gateway_world import World, until, world
from pydantic import BaseModel

pytestmark = pytest.mark.integration

TENANT = {"user_id": "ada", "organization_id": "acme", "project_id": "apollo"}
SUPPORT = {
    "name": "Customer Support Agent",
    "description": "Handle customer inquiries",
    "steps": [
        {"step_id": "trigger", "step_type": "trigger", "parameters": {"kind": "chat"}, "next_steps": ["agent"]},
        {"step_id": "agent", "step_type": "agent_execution", "parameters": {"agent_id": "helper"}, "next_steps": []},
    ],
}
MARKETING = {
    "name": "Content Marketing Pipeline",
    "tasks": [
        {"agent": "helper", "input": {"topic": "AI in healthcare"}},
        {"agent": "helper", "input": {"content": "{{previous_output}}"}},
    ],
}


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


async def register(client: httpx2.AsyncClient, name: str) -> None:
    body = {"kind": "http", "config": {"url": "http://127.0.0.1:1/", "headers": {"X-Key": "secret"}}}
    assert (await client.put(f"/api/v1/agents/{name}", json=body)).status_code == 200


def answer(response: httpx2.Response, status: int, model: type[BaseModel]) -> dict[str, Any]:
    """The body, held to the model that the API document promises, with not a field more."""
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    assert set(model.model_validate(body).model_dump(exclude_unset=True)) == set(body)
    missing = {name for name, field in model.model_fields.items() if field.is_required()} - set(body)
    assert not missing
    return body


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"]) == (status, code)
    return body


async def created(client: httpx2.AsyncClient, document: dict[str, Any] | None = None) -> str:
    body = answer(await client.post("/api/v1/workflows", json=document or SUPPORT), 201, schemas.WorkflowSummary)
    return str(body["id"])


async def started(client: httpx2.AsyncClient, workflow_id: str) -> str:
    response = await client.post(f"/api/v1/workflows/{workflow_id}/execute", json={"trigger": {"kind": "api"}})
    return str(answer(response, 202, schemas.ExecutionAccepted)["execution_id"])


class Story:
    """What the scheduler would journal about one execution, event by event."""

    def __init__(self, gateway: World, execution_id: str) -> None:
        self.gateway, self.execution_id, self.n = gateway, execution_id, 0

    async def tell(self, *events: Any) -> None:
        numbered = []
        for make in events:
            self.n += 1
            numbered.append(make(n=self.n))
        record = ExecutionRecord(
            at=utc(time.time()),
            execution_id=self.execution_id,
            workflow_id="w",
            source=Source(topic="workflow.started", offset=0),
            events=tuple(numbered),
        )
        await self.gateway.executions.append(self.execution_id, record)

    async def begins(self, step: str = "agent") -> None:
        await self.tell(
            lambda n: ExecutionStarted(n=n, workflow_version=1, **TENANT),
            lambda n: StepStarted(
                n=n, step_id=step, step_type="agent_execution", run_id="r", attempt=1, agent="helper"
            ),
        )

    async def finishes_step(self, step: str = "agent", output: Any = None) -> None:
        await self.tell(lambda n: StepCompleted(n=n, step_id=step, attempt=1, output=output))

    async def ends(self, result: Any = None) -> None:
        await self.tell(lambda n: ExecutionCompleted(n=n, result=result))

    async def says(self, kind: Any, **data: Any) -> None:
        message = StepProgressed(
            event_id=str(uuid4()),
            occurred_at=utc(time.time()),
            execution_id=self.execution_id,
            workflow_id="w",
            step_id="agent",
            run_id="r",
            attempt=1,
            kind=kind,
            index=0,
            data=data,
            **TENANT,
        )
        partition = partition_of(self.execution_id, 12)
        key = self.execution_id.encode()
        await self.gateway.producer.send_and_wait("step.progressed", encode(message), key, partition)


Heard = list[tuple[str, str | None, dict[str, Any]]]


async def listen(
    client: httpx2.AsyncClient,
    execution_id: str,
    heard: Heard,
    *,
    last: str | None = None,
    stop_after: int | None = None,
) -> int:
    """Reads a stream into `heard` as (event, id, data) until it ends, or until so many were heard; gives the status."""
    headers = {} if last is None else {"Last-Event-ID": last}
    async with client.stream("GET", f"/api/executions/{execution_id}/stream", headers=headers) as response:
        event, identifier = "", None
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "id":
                identifier = value
            elif name == "data":
                heard.append((event, identifier, orjson.loads(value)))
                event, identifier = "", None
                if stop_after is not None and len(heard) >= stop_after:
                    break
        return response.status_code


def names(heard: Heard) -> list[str]:
    return [event for event, _, _ in heard]


def ids(heard: Heard) -> list[str]:
    return [identifier for _, identifier, _ in heard if identifier is not None]


FULL = ["connected", "status", "step_start", "step_complete", "status", "complete"]


class TestWorkflows:
    async def test_a_saved_workflow_is_on_the_topic_and_can_be_read_at_once(
        self, gateway: World, client: httpx2.AsyncClient
    ) -> None:
        body = answer(await client.post("/api/workflows", json=SUPPORT), 201, schemas.WorkflowSummary)
        assert (body["name"], body["status"], body["version"]) == (SUPPORT["name"], "active", 1)
        (record,) = await gateway.records("workflow.defined", f"{body['id']}@1")
        assert record["definition"] == SUPPORT
        assert record["organization_id"] == "acme"
        shown = answer(await client.get(f"/api/v1/workflows/{body['id']}"), 200, schemas.Workflow)
        assert shown["definition"] == SUPPORT

    async def test_what_does_not_compile_is_refused_with_places_and_not_stored(
        self, gateway: World, client: httpx2.AsyncClient
    ) -> None:
        steps = [
            {"step_id": "a", "step_type": "agent_execution", "parameters": {"agent_id": "nobody"}, "next_steps": ["b"]},
            {"step_id": "c", "step_type": "delay", "parameters": {"seconds": 1}, "next_steps": []},
        ]
        key = str(uuid4())
        response = await client.post(
            "/api/v1/workflows", json={"name": "x", "steps": steps}, headers={"Idempotency-Key": key}
        )
        errors = problem(response, 422, "VALIDATION_ERROR")["errors"]
        assert {error["path"] for error in errors} == {"steps[0].parameters.agent_id", "steps[0].next_steps[0]"}
        assert all(error["message"] and error["code"] for error in errors)
        would_be = derive("gateway", "acme", "apollo", "ada", "workflows", key)
        assert await gateway.records("workflow.defined", f"{would_be}@1") == []

    async def test_versions_follow_each_other_and_the_last_may_be_a_deletion(self, client: httpx2.AsyncClient) -> None:
        workflow = await created(client)
        changed = {**SUPPORT, "name": "Renamed"}
        updated = answer(await client.put(f"/api/v1/workflows/{workflow}", json=changed), 200, schemas.Workflow)
        assert (updated["version"], updated["name"]) == (2, "Renamed")
        first = await client.get(f"/api/v1/workflows/{workflow}?version=1")
        assert answer(first, 200, schemas.Workflow)["name"] == SUPPORT["name"]
        assert (await client.delete(f"/api/v1/workflows/{workflow}")).status_code == 204
        problem(await client.get(f"/api/v1/workflows/{workflow}"), 404, "NOT_FOUND")
        problem(await client.post(f"/api/v1/workflows/{workflow}/execute", json={}), 404, "NOT_FOUND")

    async def test_of_two_who_save_the_same_version_one_hears_of_it(self, client: httpx2.AsyncClient) -> None:
        workflow = await created(client)
        answers = await asyncio.gather(
            *(client.put(f"/api/v1/workflows/{workflow}", json={**SUPPORT, "name": f"by {i}"}) for i in range(4))
        )
        saved = [response.json()["version"] for response in answers if response.status_code == 200]
        refused = [response.json()["code"] for response in answers if response.status_code != 200]
        assert len(saved) == len(set(saved)) >= 1
        assert set(refused) <= {"VERSION_CONFLICT"}

    async def test_the_same_key_makes_one_workflow_and_another_body_is_refused(
        self, client: httpx2.AsyncClient
    ) -> None:
        headers = {"Idempotency-Key": str(uuid4())}
        first = await client.post("/api/v1/workflows", json=SUPPORT, headers=headers)
        again = await client.post("/api/v1/workflows", json=SUPPORT, headers=headers)
        other = await client.post("/api/v1/workflows", json={**SUPPORT, "name": "Other"}, headers=headers)
        assert first.json()["id"] == again.json()["id"]
        problem(other, 422, "IDEMPOTENCY_KEY_REUSED")

    async def test_lists_are_paged_to_the_end_without_gap_or_repetition(self, gateway: World) -> None:
        async with gateway.client(project_id="paging") as client:
            await register(client, f"helper-{uuid4()}")
            made = [
                await created(client, {"name": f"w{i}", "steps": [SUPPORT["steps"][0] | {"next_steps": []}]})
                for i in range(5)
            ]
            seen: list[str] = []
            cursor = ""
            while True:
                body = answer(await client.get(f"/api/v1/workflows?limit=2{cursor}"), 200, schemas.WorkflowPage)
                seen += [item["id"] for item in body["items"]]
                if body["next_cursor"] is None:
                    break
                cursor = f"&cursor={body['next_cursor']}"
        assert seen == made[::-1]

    async def test_validation_stores_nothing(self, client: httpx2.AsyncClient) -> None:
        workflow = await created(client)
        good = answer(await client.post(f"/api/v1/workflows/{workflow}/validate"), 200, schemas.Validation)
        bad = await client.post(f"/api/v1/workflows/{workflow}/validate", json={"name": "x", "steps": []})
        assert good == {"valid": True, "errors": []}
        assert answer(bad, 200, schemas.Validation)["valid"] is False


class TestExecutions:
    async def test_an_execution_is_asked_for_as_any_client_would(
        self, gateway: World, client: httpx2.AsyncClient
    ) -> None:
        workflow = await created(client)
        trigger = {"kind": "chat", "current_message": "help", "history": [{"role": "user", "content": "hello"}]}
        response = await client.post(
            f"/api/workflows/{workflow}/execute",
            json={
                "trigger": trigger,
                "user_id": "user-123",
                "session_id": "s",
                "context": {"customer_id": "c", "x": None},
            },
        )
        body = answer(response, 202, schemas.ExecutionAccepted)
        assert (body["workflow_id"], body["status"]) == (workflow, "running")
        (raw,) = await gateway.records("workflow.started", body["execution_id"])
        message = decode("workflow.started", orjson.dumps(raw))
        assert message.input == {"current_message": "help", "history": trigger["history"]}
        assert message.context == {"customer_id": "c", "x": None}
        assert (message.user_id, message.organization_id, message.session_id) == ("ada", "acme", "s")
        assert message.workflow_version == 1

    async def test_an_id_that_was_handed_out_is_never_missing(self, gateway: World, client: httpx2.AsyncClient) -> None:
        workflow = await created(client)
        gateway.projector.paused = True
        execution = await started(client, workflow)
        asking = asyncio.create_task(client.get(f"/api/v1/executions/{execution}"))
        await asyncio.sleep(0.3)
        assert not asking.done()
        gateway.projector.paused = False
        assert answer(await asking, 200, schemas.Execution)["status"] == "pending"

    async def test_a_projector_that_stays_behind_is_a_503_and_no_404(
        self, gateway: World, client: httpx2.AsyncClient
    ) -> None:
        workflow = await created(client)
        gateway.projector.paused = True
        try:
            response = await client.get(f"/api/v1/executions/{await started(client, workflow)}")
        finally:
            gateway.projector.paused = False
        problem(response, 503, "READ_MODELS_BEHIND")
        assert response.headers["retry-after"]

    async def test_what_nobody_asked_for_is_a_404(self, client: httpx2.AsyncClient) -> None:
        for path in ("executions", "workflows", "approvals"):
            problem(await client.get(f"/api/v1/{path}/{uuid4()}"), 404, "NOT_FOUND")
        problem(await client.get(f"/api/v1/executions/{uuid4()}/stream"), 404, "NOT_FOUND")

    async def test_the_same_key_starts_one_execution(self, gateway: World, client: httpx2.AsyncClient) -> None:
        workflow = await created(client)
        url, headers = f"/api/v1/workflows/{workflow}/execute", {"Idempotency-Key": str(uuid4())}
        first = await client.post(url, json={"input": {"a": 1}}, headers=headers)
        again = await client.post(url, json={"input": {"a": 1}}, headers=headers)
        other = await client.post(url, json={"input": {"a": 2}}, headers=headers)
        assert first.json()["execution_id"] == again.json()["execution_id"]
        problem(other, 422, "IDEMPOTENCY_KEY_REUSED")
        elsewhere = await client.post(f"/api/v1/workflows/{await created(client)}/execute", json={}, headers=headers)
        assert elsewhere.json()["execution_id"] != first.json()["execution_id"]

    async def test_a_key_is_remembered_by_the_read_models_too(self, gateway: World, client: httpx2.AsyncClient) -> None:
        workflow = await created(client)
        url, headers = f"/api/v1/workflows/{workflow}/execute", {"Idempotency-Key": str(uuid4())}
        async with world_beside(gateway) as second:
            first = answer(await client.post(url, json={"input": 1}, headers=headers), 202, schemas.ExecutionAccepted)
            await client.get(f"/api/v1/executions/{first['execution_id']}")
            problem(await second.post(url, json={"input": 2}, headers=headers), 422, "IDEMPOTENCY_KEY_REUSED")
            assert (await second.post(url, json={"input": 1}, headers=headers)).json()["execution_id"] == first[
                "execution_id"
            ]

    async def test_the_details_have_the_steps_and_the_result(self, gateway: World, client: httpx2.AsyncClient) -> None:
        execution = await started(client, await created(client))
        story = Story(gateway, execution)
        await story.begins()
        await story.finishes_step(output={"text": "shipped", "nothing": None})
        await story.ends({"response": "shipped"})
        await until_status(client, execution, "completed")
        body = answer(await client.get(f"/api/executions/{execution}"), 200, schemas.Execution)
        assert body["result"] == {"response": "shipped"}
        (step,) = body["steps"]
        assert (step["step_id"], step["status"], step["result"]) == (
            "agent",
            "completed",
            {"text": "shipped", "nothing": None},
        )
        listed = await client.get(f"/api/v1/executions?workflow_id={body['workflow_id']}&status=completed")
        assert [item["id"] for item in answer(listed, 200, schemas.ExecutionPage)["items"]] == [execution]

    async def test_the_history_is_whole_and_paged(self, gateway: World, client: httpx2.AsyncClient) -> None:
        execution = await started(client, await created(client))
        story = Story(gateway, execution)
        await story.begins()
        await story.finishes_step()
        await story.ends()
        await until_status(client, execution, "completed")
        first = answer(await client.get(f"/api/v1/executions/{execution}/events?limit=3"), 200, schemas.HistoryPage)
        rest = await client.get(f"/api/v1/executions/{execution}/events?limit=3&cursor={first['next_cursor']}")
        events = first["items"] + answer(rest, 200, schemas.HistoryPage)["items"]
        assert [event["n"] for event in events] == [1, 2, 3, 4]
        assert [event["type"] for event in events][-1] == "execution.completed"

    async def test_a_cancellation_is_a_wish_on_the_topic(self, gateway: World, client: httpx2.AsyncClient) -> None:
        execution = await started(client, await created(client))
        response = await client.post(f"/api/v1/executions/{execution}/cancel", json={"reason": "changed my mind"})
        answer(response, 202, schemas.CancelAccepted)
        (wish,) = await gateway.records("execution.controlled", execution)
        assert (wish["action"], wish["reason"], wish["user_id"]) == ("cancel", "changed my mind", "ada")

    async def test_what_has_ended_cannot_be_cancelled(self, gateway: World, client: httpx2.AsyncClient) -> None:
        execution = await started(client, await created(client))
        story = Story(gateway, execution)
        await story.begins()
        await story.ends()
        await until_status(client, execution, "completed")
        problem(await client.post(f"/api/v1/executions/{execution}/cancel"), 409, "ALREADY_FINISHED")


async def until_status(client: httpx2.AsyncClient, execution: str, status: str) -> None:
    for _ in range(500):
        if (await client.get(f"/api/v1/executions/{execution}")).json().get("status") == status:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{execution} did not become {status}")


def world_beside(gateway: World) -> Any:
    """A second gateway over the same broker and database."""
    from contextlib import asynccontextmanager

    from handrail_gateway.app import GatewayService
    from handrail_runtime.service import Health, serve_http
    from integration.gateway_world import free_port

    @asynccontextmanager
    async def beside() -> AsyncIterator[httpx2.AsyncClient]:
        settings = gateway.settings.model_copy(update={"port": free_port()})
        service, health, stop = GatewayService(), Health(), asyncio.Event()
        server = await serve_http(service.app(settings, health), settings, settings.port)
        running = asyncio.create_task(service.run(settings, health, stop))
        try:
            await until(lambda: health.ready)
            url = f"http://127.0.0.1:{settings.port}"
            async with httpx2.AsyncClient(base_url=url, headers=gateway.issuer.bearer(), timeout=20) as client:
                yield client
        finally:
            stop.set()
            await running
            server.should_exit = True

    return beside()


class TestStream:
    async def test_a_finished_execution_is_replayed_to_its_end(
        self, gateway: World, client: httpx2.AsyncClient
    ) -> None:
        execution = await told(gateway, client)
        heard: Heard = []
        assert await listen(client, execution, heard) == 200
        assert names(heard) == FULL
        assert ids(heard) == ["1.0", "2.0", "3.0", "4.0", "4.1"]
        assert heard[-1][2] == {"execution_id": execution, "status": "completed", "result": {"ok": True}}

    @pytest.mark.parametrize("last", ["1.0", "2.0", "3.0", "4.0"])
    async def test_a_stream_resumes_after_the_last_event_that_was_seen(
        self, gateway: World, client: httpx2.AsyncClient, last: str
    ) -> None:
        execution = await told(gateway, client)
        heard: Heard = []
        await listen(client, execution, heard, last=last)
        every = ["1.0", "2.0", "3.0", "4.0", "4.1"]
        assert ids(heard) == every[every.index(last) + 1 :]

    async def test_one_who_has_seen_the_end_need_not_come_back(
        self, gateway: World, client: httpx2.AsyncClient
    ) -> None:
        execution = await told(gateway, client)
        heard: Heard = []
        assert await listen(client, execution, heard, last="4.1") == 204
        problem(await client.get(f"/api/v1/executions/{execution}/stream?last_event_id=x"), 422, "VALIDATION_ERROR")

    async def test_what_happens_is_told_as_it_happens(self, gateway: World, client: httpx2.AsyncClient) -> None:
        execution = await started(client, await created(client))
        heard: Heard = []
        listening = asyncio.create_task(listen(client, execution, heard))
        await until(lambda: len(heard) >= 1)
        story = Story(gateway, execution)
        await story.begins()
        await until(lambda: "step_start" in names(heard))
        await story.says("delta", content="I can help. ")
        await story.says("tool_call", tool="get_order", arguments={"order_id": "1"})
        await story.says("tool_result", tool="get_order", result={"status": "shipped"})
        await until(lambda: "tool_result" in names(heard))
        await story.finishes_step(output="done")
        await story.ends({"ok": True})
        await listening
        assert names(heard) == [*FULL[:3], "delta", "tool_call", "tool_result", *FULL[3:]]
        assert heard[3] == ("delta", None, {"content": "I can help. ", "step": "agent"})
        assert heard[4][2] == {"tool": "get_order", "arguments": {"order_id": "1"}, "step": "agent"}

    async def test_history_and_live_join_without_gap_while_the_projector_is_held_back(
        self, gateway: World, client: httpx2.AsyncClient
    ) -> None:
        """A first stream drives the tail past what is projected; a second one joins in between."""
        execution = await started(client, await created(client))
        await client.get(f"/api/v1/executions/{execution}")
        first: Heard = []
        second: Heard = []
        ahead = asyncio.create_task(listen(client, execution, first))
        await until(lambda: len(first) >= 1)
        story = Story(gateway, execution)
        await story.begins()
        await until(lambda: "step_start" in names(first))
        gateway.projector.paused = True
        try:
            await story.finishes_step()
            await until(lambda: "step_complete" in names(first))
            late = asyncio.create_task(listen(client, execution, second))
            await until(lambda: len(second) >= 1)
            await story.ends({"ok": True})
            await ahead
        finally:
            gateway.projector.paused = False
        await late
        assert names(first) == names(second) == FULL
        assert ids(first) == ids(second)

    async def test_what_history_did_not_accept_is_not_told(self, gateway: World, client: httpx2.AsyncClient) -> None:
        execution = await started(client, await created(client))
        heard: Heard = []
        listening = asyncio.create_task(listen(client, execution, heard))
        await until(lambda: len(heard) >= 1)
        story = Story(gateway, execution)
        await story.begins()
        lie = ExecutionRecord(at=utc(0), execution_id=execution, events=(ExecutionCompleted(n=3, result="a lie"),))
        await gateway.executions.foreign(execution, encode(lie))
        await story.tell(
            lambda n: StepFailed(n=n, step_id="agent", attempt=1, error=ErrorInfo(code="TIMEOUT", message="slow"))
        )
        await story.ends()
        await listening
        assert names(heard) == ["connected", "status", "step_start", "error", "step_complete", "status", "complete"]
        assert "a lie" not in str(heard)

    async def test_many_streams_share_one_tail_and_hear_the_same(
        self, gateway: World, client: httpx2.AsyncClient
    ) -> None:
        execution = await started(client, await created(client))
        everybody: list[Heard] = [[] for _ in range(30)]
        listening = [asyncio.create_task(listen(client, execution, heard)) for heard in everybody]
        story = Story(gateway, execution)
        await story.begins()
        await until(lambda: any("step_start" in names(heard) for heard in everybody))
        await story.finishes_step()
        await story.ends()
        await asyncio.gather(*listening)
        assert [names(heard) for heard in everybody] == [FULL] * 30


async def told(gateway: World, client: httpx2.AsyncClient) -> str:
    """A finished execution."""
    execution = await started(client, await created(client))
    story = Story(gateway, execution)
    await story.begins()
    await story.finishes_step()
    await story.ends({"ok": True})
    await until_status(client, execution, "completed")
    return execution


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


async def opened(gateway: World, execution: str, *approvers: str) -> str:
    gate = str(uuid4())
    event = ApprovalOpened(approval_id=gate, step_id="approve", approvers=approvers, message="Please approve", **TENANT)
    await say(gateway, execution, event)
    return gate


async def say(gateway: World, execution: str, *events: Any) -> None:
    record = ApprovalRecord(at=utc(time.time()), execution_id=execution, workflow_id="w", events=events)
    await gateway.approvals.append(execution, record)


async def submitted(gateway: World, execution: str) -> dict[str, Any]:
    for _ in range(200):
        if found := await gateway.records("approval.submitted", execution):
            return found[-1]
        await asyncio.sleep(0.02)
    raise AssertionError("nothing was submitted")


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
        refused = ApprovalRefused(approval_id=gate, submission_id=wish["event_id"], by="ada", reason="already decided")
        await say(gateway, execution, ApprovalClosed(approval_id=gate, decision="rejected", by="bob"), refused)
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


class TestCompatibility:
    async def test_the_first_platforms_calls_work_with_their_bodies(
        self, gateway: World, client: httpx2.AsyncClient
    ) -> None:
        made = (await client.post("/workflows/create", json=MARKETING)).json()
        workflow = made["workflow_id"]
        assert made == {"workflow_id": workflow, "name": MARKETING["name"], "status": "pending", "task_count": 2}
        fresh = answer(await client.get(f"/workflows/{workflow}"), 200, schemas.CompatWorkflow)
        assert (fresh["status"], [task["status"] for task in fresh["tasks"]]) == ("pending", ["pending", "pending"])
        response = await client.post(f"/workflows/{workflow}/execute")
        assert (response.status_code, response.json()) == (
            202,
            {"workflow_id": workflow, "status": "running", "message": "Workflow execution started"},
        )
        execution = response.headers["location"].rsplit("/", 1)[1]
        await client.get(f"/api/v1/executions/{execution}")
        story = Story(gateway, execution)
        await story.begins(step_ids(MARKETING)[0])
        await story.finishes_step(step_ids(MARKETING)[0], "a draft")
        await story.ends()
        await until_status(client, execution, "completed")
        body = answer(await client.get(f"/workflows/{workflow}"), 200, schemas.CompatWorkflow)
        assert body["status"] == "completed"
        assert body["tasks"][0] == {"agent": "helper", "status": "completed"}
        assert body["results"] == [{"step": 1, "output": "a draft"}]
        listed = answer(await client.get("/workflows/list?limit=200"), 200, schemas.CompatList)["workflows"]
        item = {"workflow_id": workflow, "name": MARKETING["name"], "status": "completed", "task_count": 2}
        assert item in listed


def step_ids(document: dict[str, Any]) -> list[str]:
    from handrail_graph import compile_workflow

    return list(compile_workflow(document).order)


class TestOperations:
    async def test_dead_letters_are_shown_to_the_tenant_of_their_execution(self, client: httpx2.AsyncClient) -> None:
        assert answer(await client.get("/api/v1/dead-letters"), 200, schemas.DeadLetterPage)["next_cursor"] is None

    async def test_health_is_open_and_says_ready(self, gateway: World) -> None:
        async with httpx2.AsyncClient(base_url=gateway.url) as anyone:
            assert (await anyone.get("/readyz")).json()["ready"] is True
            assert "handrail_http_requests_total" in (await anyone.get("/metrics")).text
