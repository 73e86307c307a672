"""A gateway over the real broker and database: how tests make it, talk to it, and tell it what other services did."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2
import orjson
from aiokafka import TopicPartition
from handrail_contracts.approval_events import ApprovalOpened, ApprovalRecord
from handrail_contracts.codec import encode
from handrail_contracts.envelope import utc
from handrail_contracts.execution_events import (
    ExecutionCompleted,
    ExecutionRecord,
    ExecutionStarted,
    StepCompleted,
    StepStarted,
)
from handrail_contracts.ids import partition_of
from handrail_contracts.journal import Source
from handrail_contracts.steps import StepProgressed
from handrail_contracts.topics import catalogue
from handrail_gateway import schemas
from handrail_gateway.app import GatewayService
from handrail_gateway.channels.wire import WEBSOCKETS
from handrail_projector.main import main as project
from handrail_runtime import bus
from handrail_runtime.service import Health, serve_http
from handrail_runtime.settings import Settings
from integration.gateway_journals import Journal, read_whole
from pydantic import BaseModel
from support.tcp_proxy import TcpProxy
from unit.gateway.builders import AUDIENCE, ISSUER, Issuer, until

PLANTED_PEPPER = "pepper-planted-4711-nobody-may-see-this"
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


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@dataclass
class World:
    """What a test holds: clients for any caller, the journals, and the projector's brake."""

    url: str
    issuer: Issuer
    settings: Settings
    direct: Settings
    projector: TcpProxy
    executions: Journal
    approvals: Journal
    producer: Any

    @asynccontextmanager
    async def client(self, **claims: Any) -> AsyncIterator[httpx2.AsyncClient]:
        async with httpx2.AsyncClient(base_url=self.url, headers=self.issuer.bearer(**claims), timeout=20) as client:
            yield client

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[httpx2.AsyncClient]:
        """A client of a second gateway over the same broker and database."""
        settings, headers = self.settings.model_copy(update={"port": free_port()}), self.issuer.bearer()
        async with serving(settings) as url, httpx2.AsyncClient(base_url=url, headers=headers, timeout=20) as client:
            yield client

    async def records(self, topic: str, key: str) -> list[dict[str, Any]]:
        """Every record of a topic with this key."""
        place = TopicPartition(topic, partition_of(key, catalogue()[topic].partitions))
        return [orjson.loads(r.value) for r in await read_whole(self.direct, place) if r.key == key.encode()]


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[str]:
    """Runs a gateway as `python -m handrail_gateway` does, in this process."""
    service, health, stop = GatewayService(), Health(), asyncio.Event()
    server = await serve_http(service.app(settings, health), settings, settings.port, WEBSOCKETS)
    http = next(task for task in asyncio.all_tasks() if task.get_name() == "http" and task not in _served)
    _served.add(http)
    running = asyncio.create_task(service.run(settings, health, stop))
    try:
        await until(lambda: health.ready)
        yield f"http://127.0.0.1:{settings.port}"
    finally:
        stop.set()
        await running
        server.should_exit = True
        await http


@asynccontextmanager
async def projecting(settings: Settings) -> AsyncIterator[TcpProxy]:
    """Runs the projector, with a proxy between it and the database that can hold it back."""
    parts = urlsplit(settings.database_url)
    async with TcpProxy(f"{parts.hostname}:{parts.port}") as proxy:
        through = parts._replace(netloc=parts.netloc.replace(f"{parts.hostname}:{parts.port}", proxy.address)).geturl()
        health, stop = Health(), asyncio.Event()
        settings = settings.model_copy(update={"database_url": through})
        running = asyncio.create_task(project(settings, health, stop))
        try:
            await until(lambda: health.ready)
            yield proxy
        finally:
            proxy.resume()
            stop.set()
            await running


_served: set[asyncio.Task[Any]] = set()


@asynccontextmanager
async def world(
    brokers: str, database_url: str, folder: Path, *, gateway_brokers: str = "", gateway_database: str = ""
) -> AsyncIterator[World]:
    """The gateway alone may be given other addresses, of proxies that can fail."""
    issuer = Issuer()
    direct = Settings(
        brokers=brokers,
        database_url=database_url,
        port=free_port(),
        drain_seconds=2,
        auth_jwks_file=issuer.write(folder / "jwks.json"),
        auth_issuer=ISSUER,
        auth_audience=AUDIENCE,
        webhook_key="a webhook key for tests",
        key_pepper=PLANTED_PEPPER,
    )
    settings = direct.model_copy(
        update={"brokers": gateway_brokers or brokers, "database_url": gateway_database or database_url}
    )
    producer = await bus.start_producer(direct, "test")
    try:
        async with projecting(direct) as projector, serving(settings) as url:
            executions, approvals = (Journal(direct, producer, f"{kind}.events") for kind in ("execution", "approval"))
            yield World(url, issuer, settings, direct, projector, executions, approvals, producer)
    finally:
        await bus.stop(producer)


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

    def __init__(self, gateway: World, execution_id: str, workflow_id: str = "w") -> None:
        self.gateway, self.execution_id, self.workflow_id, self.n = gateway, execution_id, workflow_id, 0

    async def tell(self, *events: Any) -> None:
        numbered = []
        for make in events:
            self.n += 1
            numbered.append(make(n=self.n))
        record = ExecutionRecord(
            at=utc(time.time()),
            execution_id=self.execution_id,
            workflow_id=self.workflow_id,
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
    url = f"/api/executions/{execution_id}/stream"
    async with asyncio.timeout(40), client.stream("GET", url, headers=headers) as response:
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


async def until_status(client: httpx2.AsyncClient, execution: str, status: str) -> None:
    for _ in range(500):
        if (await client.get(f"/api/v1/executions/{execution}")).json().get("status") == status:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{execution} did not become {status}")


async def told(gateway: World, client: httpx2.AsyncClient) -> str:
    """A finished execution."""
    execution = await started(client, await created(client))
    story = Story(gateway, execution)
    await story.begins()
    await story.finishes_step()
    await story.ends({"ok": True})
    await until_status(client, execution, "completed")
    return execution


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
