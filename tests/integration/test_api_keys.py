"""API keys over the real broker: known on every gateway, and gone from every gateway."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from handrail_gateway import schemas
from integration.gateway_world import Heard, World, answer, created, listen, problem, register, started, world
from unit.gateway.builders import until

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture(scope="module")
async def gateway(broker: Any, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(str(broker), database_url, tmp_path_factory.mktemp("gateway")) as found:
        async with found.client() as client:
            await register(client, "helper")
        yield found


@pytest_asyncio.fixture
async def admin(gateway: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway.client() as found:
        yield found


async def made(admin: httpx2.AsyncClient, **body: Any) -> dict[str, Any]:
    answered = await admin.post("/api/v1/keys", json={"name": "CI", "roles": ["viewer"], **body})
    return answer(answered, 201, schemas.IssuedKey)


async def until_status(client: httpx2.AsyncClient, key: str, status: int) -> None:
    async with asyncio.timeout(20):
        while (await client.get("/api/v1/workflows", headers={"X-API-Key": key})).status_code != status:
            await asyncio.sleep(0.02)


async def test_a_key_is_known_and_gone_on_another_gateway_too(gateway: World, admin: httpx2.AsyncClient) -> None:
    async with gateway.beside() as other, httpx2.AsyncClient(base_url=other.base_url) as elsewhere:
        key = await made(admin)
        await until_status(elsewhere, key["key"], 200)
        rotated = answer(
            await admin.post(f"/api/v1/keys/{key['id']}/rotate", json={"overlap_seconds": 600}), 200, schemas.IssuedKey
        )
        await until_status(elsewhere, rotated["key"], 200)
        await until_status(elsewhere, key["key"], 200)
        assert (await admin.delete(f"/api/v1/keys/{key['id']}")).status_code == 204
        for each in (key, rotated):
            await until_status(elsewhere, each["key"], 401)
        async with gateway.beside() as fresh, httpx2.AsyncClient(base_url=fresh.base_url) as later:
            refused = await later.get("/api/v1/workflows", headers={"X-API-Key": rotated["key"]})
    problem(refused, 401, "UNAUTHENTICATED")


async def test_a_stream_ends_when_its_key_is_revoked_on_another_gateway(
    gateway: World, admin: httpx2.AsyncClient
) -> None:
    execution = await started(admin, await created(admin))
    async with gateway.beside() as other, httpx2.AsyncClient(base_url=other.base_url, timeout=40) as elsewhere:
        key = await made(admin)
        await until_status(elsewhere, key["key"], 200)
        elsewhere.headers["X-API-Key"] = key["key"]
        heard: Heard = []
        listening = asyncio.create_task(listen(elsewhere, execution, heard))
        await until(lambda: heard)
        assert (await admin.delete(f"/api/v1/keys/{key['id']}")).status_code == 204
        [ended] = await asyncio.wait_for(asyncio.gather(listening, return_exceptions=True), 20)
    assert ended == 200 or isinstance(ended, httpx2.RemoteProtocolError)


async def test_a_list_shows_keys_and_when_they_were_used_but_no_secret(
    gateway: World, admin: httpx2.AsyncClient
) -> None:
    key = await made(admin, permissions=["customer_service", "priority"], expires_at="2099-01-01T00:00:00Z")
    async with httpx2.AsyncClient(base_url=gateway.url) as program:
        await until_status(program, key["key"], 200)
    async with asyncio.timeout(20):
        while (shown := (await admin.get(f"/api/v1/keys/{key['id']}")).json())["last_used"] is None:
            await asyncio.sleep(0.05)
    page = answer(await admin.get("/api/v1/keys?limit=1"), 200, schemas.KeyPage)
    assert page["items"] == [shown]
    assert page["next_cursor"] is not None
    schemas.KeySummary.model_validate(shown)
    assert shown.keys() == schemas.KeySummary.model_fields.keys()
    assert (shown["permissions"], shown["made_by"], shown["revoked"]) == (
        ["customer_service", "priority"],
        "ada",
        False,
    )


async def test_a_program_with_a_key_works_as_its_rights_allow(gateway: World, admin: httpx2.AsyncClient) -> None:
    workflow, key = await created(admin), await made(admin, roles=["operator"])
    headers = {"Authorization": f"Bearer {key['key']}"}
    async with httpx2.AsyncClient(base_url=gateway.url, headers=headers, timeout=20) as program:
        execution = await started(program, workflow)
        assert (await program.get(f"/api/v1/executions/{execution}")).status_code == 200
        refused = await program.post("/api/v1/keys", json={"name": "mine", "roles": ["viewer"]})
    assert problem(refused, 403, "FORBIDDEN")["permission"] == "administer"
    [begun] = await gateway.records("workflow.started", execution)
    assert begun["user_id"] == f"key:{key['id']}"
