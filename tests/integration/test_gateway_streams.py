"""Streams: history and what happens, joined without a gap and without a repetition."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from handrail_contracts.codec import encode
from handrail_contracts.envelope import ErrorInfo, utc
from handrail_contracts.execution_events import ExecutionCompleted, ExecutionRecord, StepFailed
from integration.gateway_world import (
    FULL,
    Heard,
    Story,
    World,
    created,
    ids,
    listen,
    names,
    problem,
    register,
    started,
    told,
    world,
)
from unit.gateway.builders import until

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
        event, place, told = heard[3]
        assert (event, told) == ("delta", {"content": "I can help. ", "step": "agent"})
        assert str(place).startswith("2.0~")
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
        gateway.projector.pause()
        try:
            await story.finishes_step()
            await until(lambda: "step_complete" in names(first))
            late = asyncio.create_task(listen(client, execution, second))
            await until(lambda: len(second) >= 1)
            await story.ends({"ok": True})
            await ahead
        finally:
            gateway.projector.resume()
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
