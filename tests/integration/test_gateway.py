"""The gateway against the real broker and database: what it accepts is on the topics, what it shows is in the read models."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2
import orjson
import pytest
import pytest_asyncio
from handrail_contracts.codec import decode
from handrail_contracts.ids import derive
from handrail_gateway import schemas
from handrail_graph import compile_workflow
from integration.gateway_world import (
    MARKETING,
    SUPPORT,
    Story,
    World,
    answer,
    created,
    problem,
    register,
    started,
    until_status,
    world,
)

pytestmark = pytest.mark.integration

TRIGGER = {"step_id": "trigger", "step_type": "trigger", "parameters": {"kind": "api"}, "next_steps": []}


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
            made = [await created(client, {"name": f"w{i}", "steps": [TRIGGER]}) for i in range(5)]
            seen: list[str] = []
            cursor = ""
            while True:
                body = answer(await client.get(f"/api/v1/workflows?limit=2{cursor}"), 200, schemas.WorkflowPage)
                seen += [item["id"] for item in body["items"]]
                if body["next_cursor"] is None:
                    break
                cursor = f"&cursor={body['next_cursor']}"
        assert seen == made[::-1]

    async def test_versions_are_listed_compared_and_restored(self, client: httpx2.AsyncClient) -> None:
        def document(seconds: int, *more: dict[str, Any]) -> dict[str, Any]:
            delay = {"step_id": "d", "step_type": "delay", "parameters": {"seconds": seconds}, "next_steps": []}
            return {"name": "v", "steps": [*more, delay]}

        workflow = await created(client, document(1))
        url = f"/api/v1/workflows/{workflow}"
        other = {"step_id": "e", "step_type": "delay", "parameters": {"seconds": 5}, "next_steps": ["d"]}
        answer(await client.put(url, json=document(2, other)), 200, schemas.Workflow)
        told = answer(await client.get(f"{url}/diff?from=1&to=2"), 200, schemas.Differences)
        assert [(change["path"], change["kind"], change["before"], change["after"]) for change in told["changes"]] == [
            ("steps[d].parameters.seconds", "changed", 1, 2),
            ("steps[e]", "added", None, other),
        ]
        restored = answer(await client.post(f"{url}/versions/1/restore"), 200, schemas.Workflow)
        assert (restored["version"], restored["definition"]) == (3, document(1))
        first = answer(await client.get(f"{url}/versions?limit=2"), 200, schemas.VersionPage)
        rest = answer(
            await client.get(f"{url}/versions?limit=2&cursor={first['next_cursor']}"), 200, schemas.VersionPage
        )
        assert [item["version"] for item in first["items"] + rest["items"]] == [3, 2, 1]
        assert {item["saved_by"] for item in first["items"]} == {"ada"}
        problem(await client.get(f"{url}/diff?from=1&to=9"), 404, "NOT_FOUND")

    async def test_stats_tell_how_executions_went(self, gateway: World, client: httpx2.AsyncClient) -> None:
        workflow = await created(client)
        url = f"/api/v1/workflows/{workflow}/stats"
        nothing = answer(await client.get(url), 200, schemas.WorkflowStats)
        assert (nothing["executions"], nothing["success_rate"], nothing["p50_seconds"]) == ({}, None, None)
        execution = await started(client, workflow)
        story = Story(gateway, execution, workflow)
        await story.begins()
        await story.finishes_step()
        await story.ends()
        await until_status(client, execution, "completed")
        stats = answer(await client.get(url), 200, schemas.WorkflowStats)
        assert (stats["executions"], stats["success_rate"]) == ({"completed": 1}, 1.0)
        assert [(step["completed"], step["failed"]) for step in stats["steps"]] == [(1, 0)]

    async def test_every_dialect_is_accepted(self, client: httpx2.AsyncClient) -> None:
        depends = [
            {"id": "a", "agent_id": "helper"},
            {"id": "b", "agent_id": "helper", "depends_on": ["a"]},
        ]
        entry = {"name": "e", "entry_step": "a", "steps": [{"id": "a", "type": "agent", "agent_id": "helper"}]}
        for body in ({"name": "d", "tasks": depends}, entry):
            saved = await client.post("/api/v1/workflows", json=body)
            assert saved.status_code == 201, saved.text
            read = answer(await client.get(f"/api/v1/workflows/{saved.json()['id']}"), 200, schemas.Workflow)
            assert read["definition"] == body

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
        gateway.projector.pause()
        execution = await started(client, workflow)
        asking = asyncio.create_task(client.get(f"/api/v1/executions/{execution}"))
        await asyncio.sleep(0.3)
        assert not asking.done()
        gateway.projector.resume()
        assert answer(await asking, 200, schemas.Execution)["status"] == "pending"

    async def test_a_projector_that_stays_behind_is_a_503_and_no_404(
        self, gateway: World, client: httpx2.AsyncClient
    ) -> None:
        workflow = await created(client)
        gateway.projector.pause()
        try:
            response = await client.get(f"/api/v1/executions/{await started(client, workflow)}")
        finally:
            gateway.projector.resume()
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
        async with gateway.beside() as second:
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

    async def test_why_and_timeline_follow_the_execution(self, gateway: World, client: httpx2.AsyncClient) -> None:
        execution = await started(client, await created(client))
        url, story = f"/api/v1/executions/{execution}", Story(gateway, execution)
        await story.begins()
        await until_status(client, execution, "running")
        reason = answer(await client.get(f"{url}/why"), 200, schemas.Why)
        assert reason["why"].startswith("Step ")
        assert reason["waits"][0]["step"] in reason["why"]
        await story.finishes_step()
        await story.ends()
        await until_status(client, execution, "completed")
        reason = answer(await client.get(f"{url}/why"), 200, schemas.Why)
        assert (reason["why"], reason["waits"]) == ("It waits for nothing: it has ended (completed).", [])
        told = answer(await client.get(f"{url}/timeline"), 200, schemas.Timeline)
        assert [(attempt["attempt"], attempt["outcome"]) for attempt in told["attempts"]] == [(1, "completed")]
        assert told["attempts"][0]["seconds"] <= told["seconds"]

    @pytest.mark.parametrize(
        ("path", "body", "wish"),
        [
            ("pause", {"reason": "look first"}, {"action": "pause", "reason": "look first"}),
            ("resume", {}, {"action": "resume"}),
            ("signals/paid", {"data": {"n": 1}}, {"action": "signal", "signal": "paid", "data": {"n": 1}}),
        ],
    )
    async def test_steering_is_a_wish_on_the_topic(
        self, gateway: World, client: httpx2.AsyncClient, path: str, body: Any, wish: dict[str, Any]
    ) -> None:
        execution = await started(client, await created(client))
        url, key = f"/api/v1/executions/{execution}/{path}", {"Idempotency-Key": str(uuid4())}
        answers = [
            answer(await client.post(url, json=body, headers=key), 202, schemas.ControlAccepted) for _ in range(2)
        ]
        assert answers[0]["request_id"] == answers[1]["request_id"]
        said = await gateway.records("execution.controlled", execution)
        assert {record["event_id"] for record in said} == {answers[0]["request_id"]}
        assert wish.items() <= said[0].items()

    async def test_a_cancellation_is_a_wish_on_the_topic(self, gateway: World, client: httpx2.AsyncClient) -> None:
        execution = await started(client, await created(client))
        response = await client.post(f"/api/v1/executions/{execution}/cancel", json={"reason": "changed my mind"})
        answer(response, 202, schemas.ControlAccepted)
        (wish,) = await gateway.records("execution.controlled", execution)
        assert (wish["action"], wish["reason"], wish["user_id"]) == ("cancel", "changed my mind", "ada")

    async def test_what_has_ended_cannot_be_cancelled(self, gateway: World, client: httpx2.AsyncClient) -> None:
        execution = await started(client, await created(client))
        story = Story(gateway, execution)
        await story.begins()
        await story.ends()
        await until_status(client, execution, "completed")
        problem(await client.post(f"/api/v1/executions/{execution}/cancel"), 409, "ALREADY_FINISHED")


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
        story = Story(gateway, execution, workflow)
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


class TestOperations:
    async def test_dead_letters_are_shown_to_the_tenant_of_their_execution(self, client: httpx2.AsyncClient) -> None:
        assert answer(await client.get("/api/v1/dead-letters"), 200, schemas.DeadLetterPage)["next_cursor"] is None

    async def test_health_is_open_and_says_ready(self, gateway: World) -> None:
        async with httpx2.AsyncClient(base_url=gateway.url) as anyone:
            assert (await anyone.get("/readyz")).json()["ready"] is True
            assert "handrail_http_requests_total" in (await anyone.get("/metrics")).text


def step_ids(document: dict[str, Any]) -> list[str]:
    return list(compile_workflow(document).order)
