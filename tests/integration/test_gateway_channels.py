"""`/ws` over the real broker, database and server: what changes is told, to whom it may be told, and nothing is lost."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from handrail_contracts.approval_events import ApprovalClosed, ApprovalOpened, Suggested
from handrail_contracts.execution_events import ExecutionStarted, StepStarted
from integration.channel_client import Listener, listening
from integration.gateway_world import (
    TENANT,
    Heard,
    Story,
    World,
    created,
    free_port,
    listen,
    register,
    say,
    serving,
    started,
    told,
    world,
)
from websockets.exceptions import InvalidStatus

pytestmark = pytest.mark.integration

ALL = ("workflows", "tasks", "agents", "suggestions", "approvals")


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


@pytest_asyncio.fixture
async def listener(gateway: World) -> AsyncIterator[Listener]:
    async with listening(gateway.url, gateway.issuer.bearer()) as found:
        yield found


async def begun(gateway: World, client: httpx2.AsyncClient) -> tuple[str, str, Story]:
    workflow = await created(client)
    execution = await started(client, workflow)
    return workflow, execution, Story(gateway, execution, workflow)


def asks_agent(n: int) -> StepStarted:
    run = {"step_id": "agent", "step_type": "agent_execution", "run_id": "r", "attempt": 1, "agent": "helper"}
    return StepStarted(n=n, waits_for="agent", **run)


async def begin(story: Story) -> None:
    await story.tell(lambda n: ExecutionStarted(n=n, workflow_version=1, **TENANT), asks_agent)


async def suggests(gateway: World, execution: str, suggestion: str) -> None:
    made = Suggested(
        agent="helper", action="send_response_email", reasoning="", confidence=0.95,
        suggested_data={"to": "jane"}, revision=1, task_id="r",
    )  # fmt: skip
    await say(gateway, execution, ApprovalOpened(approval_id=suggestion, step_id="agent", suggestion=made, **TENANT))


class TestWhatIsTold:
    async def test_a_run_shows_the_four_shapes(
        self, gateway: World, client: httpx2.AsyncClient, listener: Listener
    ) -> None:
        await listener.subscribe(*ALL)
        workflow, execution, story = await begun(gateway, client)
        await begin(story)
        task = await listener.until(lambda m: m["type"] == "task_update" and m["execution_id"] == execution)
        assert set(task["data"]) == {"id", "status", "progress", "agent_id", "timestamp"}
        assert (task["data"]["id"], task["data"]["status"], task["data"]["agent_id"]) == ("r", "in_progress", "helper")
        suggestion = str(uuid4())
        await suggests(gateway, execution, suggestion)
        made = await listener.until(lambda m: m["type"] == "suggestion_created")
        assert set(made["data"]) == {"id", "task_id", "agent_id", "action", "confidence", "created_at"}
        assert (made["data"]["id"], made["data"]["task_id"], made["data"]["confidence"]) == (suggestion, "r", 0.95)
        await say(gateway, execution, ApprovalClosed(approval_id=suggestion, decision="approved", by="ada"))
        decided = await listener.until(lambda m: m["type"] == "approval_update" and m["data"]["status"] != "pending")
        assert (decided["data"]["id"], decided["data"]["decided_by"]) == (suggestion, "ada")
        await story.finishes_step()
        await story.ends()
        ended = await listener.until(lambda m: m["type"] == "workflow_update" and m["data"]["status"] == "completed")
        assert ended["data"] == {
            "id": workflow, "status": "completed", "progress": 100,
            "agents": [{"id": "helper", "status": "idle", "current_task": None}],
        }  # fmt: skip
        at_work = next(
            m["data"]["agents"] for m in listener.of("workflow_update") if m["data"]["agents"][0]["current_task"]
        )
        assert at_work == [{"id": "helper", "status": "executing_task", "current_task": "r"}]
        shown = listener.of("agent_status")[0]["data"]
        assert set(shown) == {"agent_id", "status", "current_task", "progress", "timestamp"}
        assert shown["agent_id"] == "helper"

    async def test_who_watches_workflows_sees_their_tasks_too(
        self, gateway: World, client: httpx2.AsyncClient, listener: Listener
    ) -> None:
        await listener.subscribe("workflows")
        _, execution, story = await begun(gateway, client)
        await begin(story)
        task = await listener.until(lambda m: m["type"] == "task_update" and m["execution_id"] == execution)
        assert task["channel"] == "workflows"

    async def test_an_execution_is_told_as_its_event_stream_is(
        self, gateway: World, client: httpx2.AsyncClient, listener: Listener
    ) -> None:
        execution = await told(gateway, client)
        heard: Heard = []
        await listen(client, execution, heard)
        await listener.say("subscribe", channel=f"execution:{execution}")
        end = await listener.until(lambda m: m["type"] == "unsubscribed")
        assert end["reason"] == "complete"
        frames = [m for m in listener.heard if "data" in m]
        assert [(m["type"], m.get("position"), m["data"]) for m in frames] == heard
        await listener.say("subscribe", channel=f"execution:{execution}", after="3.0")
        await listener.until(lambda m: m["type"] == "unsubscribed")
        assert [m["position"] for m in listener.heard if "data" in m and "position" in m][-2:] == ["4.0", "4.1"]

    async def test_what_is_asked_wrongly_is_answered(self, listener: Listener) -> None:
        for asked, code in (
            ({"kind": "subscribe", "channel": "weather"}, "UNKNOWN_CHANNEL"),
            ({"kind": "subscribe", "channel": "workflows", "after": "x"}, "INVALID_POSITION"),
            ({"kind": "subscribe", "channel": "execution:nobody-knows"}, "NOT_FOUND"),
            ({"kind": "sing"}, "INVALID_MESSAGE"),
        ):
            await listener.say(**asked)
            error = await listener.until(lambda m: m["type"] == "error")
            assert error["code"] == code and error["message"]
        await listener.say("ping")
        assert await listener.hear() == {"type": "pong", "positions": {}}


class TestNothingIsLost:
    async def test_who_comes_back_with_a_position_hears_what_was_missed(
        self, gateway: World, client: httpx2.AsyncClient
    ) -> None:
        async with listening(gateway.url, gateway.issuer.bearer()) as first:
            await first.subscribe(*ALL)
            _, execution, story = await begun(gateway, client)
            await begin(story)
            await first.until(lambda m: m["type"] == "workflow_update" and m["execution_id"] == execution)
            await first.say("ping")
            positions = (await first.until(lambda m: m["type"] == "pong"))["positions"]
        made = [str(uuid4()) for _ in range(3)]
        for suggestion in made:
            await suggests(gateway, execution, suggestion)
        missed, last = await begun(gateway, client), str(uuid4())
        await begin(missed[2])
        async with listening(gateway.url, gateway.issuer.bearer()) as again:
            await again.say("subscribe", positions=positions)
            await story.finishes_step()
            await story.ends()
            await suggests(gateway, missed[1], last)
            await again.until(lambda m: m["type"] == "suggestion_created" and m["data"]["id"] == last)
            assert [m["data"]["id"] for m in again.of("suggestion_created")] == [*made, last]
            states = {m["execution_id"]: m["data"]["status"] for m in again.of("workflow_update")}
            if states.get(execution) != "completed":
                await again.until(lambda m: m["type"] == "workflow_update" and m["data"]["status"] == "completed")
            assert states[missed[1]] == "running"

    async def test_a_position_that_is_too_old_is_answered_with_a_newer_one(
        self, gateway: World, client: httpx2.AsyncClient, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await listener.subscribe("tasks")
        before = listener.positions["tasks"]
        for _ in range(2):
            await told(gateway, client)
        monkeypatch.setattr("handrail_gateway.channels.backlog.MOST_RECORDS", 3)
        async with listening(gateway.url, gateway.issuer.bearer()) as again:
            await again.say("subscribe", channel="tasks", after=before)
            error = await again.hear()
            assert (error["code"], error["channel"]) == ("POSITION_TOO_OLD", "tasks")
            _, execution, story = await begun(gateway, client)
            await begin(story)
            assert (await again.until(lambda m: m["type"] == "task_update"))["execution_id"] == execution

    async def test_who_reads_the_list_once_subscribed_misses_nothing(
        self, gateway: World, client: httpx2.AsyncClient
    ) -> None:
        """The projector is held back: the answer to `subscribe` waits until lists show what it does not tell."""
        _, execution, story = await begun(gateway, client)
        async with listening(gateway.url, gateway.issuer.bearer()) as other:
            await other.subscribe("tasks")
            gateway.projector.pause()
            try:
                await begin(story)
                async with listening(gateway.url, gateway.issuer.bearer()) as late:
                    joined = asyncio.create_task(late.subscribe("workflows"))
                    await asyncio.sleep(0.1)
                    assert not joined.done()
                    gateway.projector.resume()
                    await joined
                    listed = (await client.get("/api/v1/executions?limit=200")).json()["items"]
                    seen = [each["status"] for each in listed if each["id"] == execution]
                    told = [m["data"]["status"] for m in late.of("workflow_update") if m["execution_id"] == execution]
                    assert "running" in seen + told
            finally:
                gateway.projector.resume()
            await other.until(lambda m: m["type"] == "task_update" and m["execution_id"] == execution)

    async def test_a_gateway_that_stops_sends_clients_elsewhere(
        self, gateway: World, client: httpx2.AsyncClient
    ) -> None:
        settings = gateway.settings.model_copy(update={"port": free_port()})
        async with serving(settings) as url:
            connection = listening(url, gateway.issuer.bearer())
            listener = await connection.__aenter__()
            await listener.subscribe("workflows")
        assert await listener.closed() == 1012
        error = listener.heard[-1]
        assert error["code"] == "STOPPING"
        execution = await told(gateway, client)
        async with listening(gateway.url, gateway.issuer.bearer()) as elsewhere:
            await elsewhere.say("subscribe", positions=error["positions"])
            await elsewhere.until(lambda m: m["type"] == "workflow_update" and m["execution_id"] == execution)

    async def test_a_client_that_does_not_read_is_told_and_cut_off(
        self, gateway: World, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("handrail_gateway.channels.outbox.QUEUE_ITEMS", 4)
        async with (
            listening(gateway.url, gateway.issuer.bearer(), max_queue=1) as slow,
            listening(gateway.url, gateway.issuer.bearer()) as quick,
        ):
            _, execution, story = await begun(gateway, client)
            await slow.subscribe("tasks", f"execution:{execution}")
            await quick.subscribe("tasks")
            slow.connection.transport.pause_reading()
            await begin(story)
            for _ in range(24):
                await story.finishes_step(output="x" * 900_000)
                await story.tell(asks_agent)
            await quick.until(lambda m: m["type"] == "task_update")
            slow.connection.transport.resume_reading()
            assert await slow.closed() == 4408
            assert slow.heard[-1]["code"] == "SLOW_CLIENT"
            assert slow.heard[-1]["positions"] == slow.positions
            await quick.say("ping")
            await quick.until(lambda m: m["type"] == "pong")


class TestWhoMayListen:
    async def test_another_tenant_hears_nothing(self, gateway: World, client: httpx2.AsyncClient) -> None:
        theirs = gateway.issuer.bearer(sub="eve", organization_id="evil", project_id="p")
        async with (
            listening(gateway.url, theirs) as eve,
            listening(gateway.url, gateway.issuer.bearer(project_id="other")) as neighbour,
            listening(gateway.url, gateway.issuer.bearer()) as ada,
        ):
            for each in (eve, neighbour, ada):
                await each.subscribe("workflows", "tasks", "suggestions", "approvals")
            execution = await told(gateway, client)
            await suggests(gateway, execution, str(uuid4()))
            await ada.until(lambda m: m["type"] == "suggestion_created")
            for each in (eve, neighbour):
                await each.say("subscribe", channel=f"execution:{execution}")
                assert (await each.hear())["code"] == "NOT_FOUND"
                await each.say("subscribe", channel="workflows", after=ada.positions["workflows"])
                await each.until(lambda m: m["type"] == "subscribed")
                assert not [m for m in each.heard if "data" in m]

    async def test_a_page_brings_its_token_among_the_subprotocols(self, gateway: World) -> None:
        offered = ["handrail.v1", f"bearer.{gateway.issuer.token(organizations=['acme', 'beta'])}"]
        origin = gateway.url
        async with listening(
            gateway.url, None, "/api/v1/ws?organization_id=beta", subprotocols=offered, origin=origin
        ) as page:
            assert page.connection.subprotocol == "handrail.v1"
            await page.subscribe("workflows")

    async def test_who_may_not_is_refused_before_the_upgrade(self, gateway: World) -> None:
        good = gateway.issuer.bearer()
        for headers, path, options, status in (
            (None, "/ws", {}, 401),
            (gateway.issuer.bearer(exp=int(time.time()) - 3600), "/ws", {}, 401),
            (good, "/ws?organization_id=other", {}, 403),
            (good, "/ws", {"origin": "http://elsewhere.example"}, 403),
            (None, "/ws", {"subprotocols": [f"bearer.{gateway.issuer.token()}"]}, 400),
        ):
            with pytest.raises(InvalidStatus) as refused:
                async with listening(gateway.url, headers, path, **options):
                    pass
            assert refused.value.response.status_code == status
            assert refused.value.response.headers["content-type"] == "application/problem+json"

    async def test_a_connection_ends_with_its_token_unless_it_is_renewed(self, gateway: World) -> None:
        soon = int(time.time()) + 3
        async with (
            listening(gateway.url, gateway.issuer.bearer(exp=soon)) as lapses,
            listening(gateway.url, gateway.issuer.bearer(exp=soon)) as renewed,
        ):
            await lapses.subscribe("workflows")
            await renewed.say("authenticate", token=gateway.issuer.token(sub="somebody-else"))
            assert (await renewed.hear())["code"] == "FORBIDDEN"
            await renewed.say("authenticate", token=gateway.issuer.token())
            assert (await renewed.hear())["type"] == "authenticated"
            assert await lapses.closed() == 4401
            assert lapses.heard[-1]["code"] == "TOKEN_EXPIRED"
            assert lapses.heard[-1]["positions"] == lapses.positions
            await renewed.subscribe("workflows")
