"""Broker or database away: reads and writes do not share their fate, and nothing is half-accepted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from handrail_gateway import schemas
from integration.channel_client import listening
from integration.gateway_world import (
    FULL,
    Heard,
    Story,
    World,
    answer,
    created,
    ids,
    listen,
    names,
    problem,
    register,
    started,
    until_status,
    world,
)
from support.broker_proxy import BrokerProxy, CutConnection
from support.kafka_wire import Api
from support.tcp_proxy import TcpProxy
from unit.gateway.builders import until

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def brokers(broker: Any) -> AsyncIterator[BrokerProxy]:
    async with BrokerProxy(str(broker)) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def postgres(database_url: str) -> AsyncIterator[TcpProxy]:
    parts = urlsplit(database_url)
    async with TcpProxy(f"{parts.hostname}:{parts.port}") as proxy:
        yield proxy


@pytest_asyncio.fixture
async def gateway(
    broker: Any, database_url: str, brokers: BrokerProxy, postgres: TcpProxy, tmp_path: Any
) -> AsyncIterator[World]:
    parts = urlsplit(database_url)
    through = parts._replace(netloc=parts.netloc.replace(f"{parts.hostname}:{parts.port}", postgres.address)).geturl()
    addresses = {"gateway_brokers": brokers.address, "gateway_database": through}
    async with world(str(broker), database_url, tmp_path, **addresses) as found:
        async with found.client() as client:
            await register(client, "helper")
        yield found


@pytest_asyncio.fixture
async def client(gateway: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway.client() as found:
        yield found


async def accepted_again(client: httpx2.AsyncClient, url: str, headers: dict[str, str]) -> str:
    """Retries as a client should, until the gateway accepts; gives the execution's id."""
    async with asyncio.timeout(40):
        while (response := await client.post(url, json={}, headers=headers)).status_code != 202:
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) > 0
            await asyncio.sleep(0.1)
    return str(response.json()["execution_id"])


@pytest.mark.parametrize("how", ["silent", "refusing"])
async def test_without_the_broker_reads_go_on_and_new_work_is_refused(
    gateway: World, client: httpx2.AsyncClient, brokers: BrokerProxy, how: str
) -> None:
    workflow = await created(client)
    url, headers = f"/api/v1/workflows/{workflow}/execute", {"Idempotency-Key": str(uuid4())}
    known = await started(client, workflow)
    await client.get(f"/api/v1/executions/{known}")
    if how == "silent":
        brokers.pause()
    else:
        await brokers.refuse()
    async with asyncio.timeout(15):
        problem(await client.post(url, json={}, headers=headers), 503, "OUTCOME_UNKNOWN")
        problem(await client.post(url, json={}, headers={"Idempotency-Key": "b"}), 503, "BROKER_UNAVAILABLE")
        problem(await client.get(f"/api/v1/executions/{uuid4()}"), 503, "BROKER_UNAVAILABLE")
        for path in (f"executions/{known}", f"workflows/{workflow}", "executions", "workflows", "approvals", "agents"):
            assert (await client.get(f"/api/v1/{path}")).status_code == 200
    if how == "silent":
        brokers.resume()
    else:
        await brokers.accept()
    execution = await accepted_again(client, url, headers)
    assert len({record["event_id"] for record in await gateway.records("workflow.started", execution)}) == 1
    answer(await client.get(f"/api/v1/executions/{execution}"), 200, schemas.Execution)


async def test_what_was_refused_while_the_broker_was_away_is_not_delivered_later(
    gateway: World, client: httpx2.AsyncClient, brokers: BrokerProxy
) -> None:
    workflow = await created(client)
    url = f"/api/v1/workflows/{workflow}/execute"
    await brokers.refuse()
    answers = await asyncio.gather(*(client.post(url, json={}) for _ in range(5)))
    assert {response.status_code for response in answers} == {503}
    await brokers.accept()
    accepted = await accepted_again(client, url, {})
    await client.get(f"/api/v1/executions/{accepted}")
    listed = await client.get(f"/api/v1/workflows/{workflow}/executions")
    assert [item["id"] for item in listed.json()["items"]] == [accepted]


async def test_a_lost_acknowledgement_is_made_good_without_a_second_execution(
    gateway: World, client: httpx2.AsyncClient, brokers: BrokerProxy
) -> None:
    workflow = await created(client)
    url, headers = f"/api/v1/workflows/{workflow}/execute", {"Idempotency-Key": str(uuid4())}
    lost = brokers.rule(Api.PRODUCE, "response", CutConnection())
    execution = await accepted_again(client, url, headers)
    assert len(lost.hits) == 1
    await client.get(f"/api/v1/executions/{execution}")
    listed = await client.get(f"/api/v1/workflows/{workflow}/executions")
    assert [item["id"] for item in listed.json()["items"]] == [execution]


async def test_without_the_database_known_workflows_can_be_started(
    gateway: World, client: httpx2.AsyncClient, postgres: TcpProxy
) -> None:
    workflow = await created(client)
    await started(client, workflow)
    await postgres.refuse()
    execution = await started(client, workflow)
    problem(await client.get(f"/api/v1/executions/{execution}"), 503, "DATABASE_UNAVAILABLE")
    problem(await client.post(f"/api/v1/workflows/{uuid4()}/execute", json={}), 503, "DATABASE_UNAVAILABLE")
    await postgres.accept()
    answer(await client.get(f"/api/v1/executions/{execution}"), 200, schemas.Execution)


async def test_a_stream_outlives_an_outage_of_the_broker_and_misses_nothing(
    gateway: World, client: httpx2.AsyncClient, brokers: BrokerProxy
) -> None:
    execution = await started(client, await created(client))
    heard: Heard = []
    listening = asyncio.create_task(listen(client, execution, heard))
    story = Story(gateway, execution)
    await story.begins()
    await until(lambda: "step_start" in names(heard))
    await brokers.refuse()
    await story.finishes_step()
    await story.ends()
    await until_status(client, execution, "completed")
    await brokers.accept()
    await listening
    assert names(heard) == FULL
    assert ids(heard) == ["1.0", "2.0", "3.0", "4.0", "4.1"]


async def test_channels_outlive_outages_and_lose_nothing(
    gateway: World, client: httpx2.AsyncClient, brokers: BrokerProxy, postgres: TcpProxy
) -> None:
    """The broker first, then the database, then the projector: what happens meanwhile is told once they are back."""
    async with listening(gateway.url, gateway.issuer.bearer()) as listener:
        await listener.subscribe("workflows")
        executions = [await started(client, await created(client)) for _ in range(3)]
        stories = [Story(gateway, execution) for execution in executions]
        for story in stories:
            await story.begins()
        away = ((brokers.refuse, brokers.accept), (postgres.refuse, postgres.accept), _held(gateway))
        for (refuse, accept), story in zip(away, stories, strict=True):
            await refuse()
            await story.finishes_step()
            await story.ends()
            await asyncio.sleep(0.3)
            await accept()
            await listener.until(partial(_completed, story.execution_id))
        assert not listener.of("error")


def _completed(execution: str, said: dict[str, Any]) -> bool:
    return bool(said.get("execution_id") == execution and said["data"].get("status") == "completed")


def _held(gateway: World) -> tuple[Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]:
    async def pause() -> None:
        gateway.projector.pause()

    async def resume() -> None:
        gateway.projector.resume()

    return pause, resume


async def test_a_stream_goes_on_while_the_database_is_away(
    gateway: World, client: httpx2.AsyncClient, postgres: TcpProxy
) -> None:
    execution = await started(client, await created(client))
    heard: Heard = []
    listening = asyncio.create_task(listen(client, execution, heard))
    story = Story(gateway, execution)
    await story.begins()
    await until(lambda: "step_start" in names(heard))
    await story.says("delta", content="live")  # what is live is heard: history owes nothing any more
    await until(lambda: "delta" in names(heard))
    await postgres.refuse()
    await story.finishes_step()
    await story.ends()
    await listening
    assert names(heard) == [*FULL[:3], "delta", *FULL[3:]]
