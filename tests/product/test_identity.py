"""API keys on the whole product: what a program may, by all roads, and that no secret is anywhere."""

import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx2
from chaos.conftest import PLANTED_PEPPER
from handrail_contracts.topics import catalogue
from http_message_signatures import HTTPMessageSigner, MappingKeyResolver, algorithms
from http_message_signatures.httpx2 import adapt_message
from support.logs import read_log
from support.mcp_client import strict_client

from product.conftest import Api, agent
from product.test_scale import handrail

Json = dict[str, Any]


@asynccontextmanager
async def with_key(api: Api, key: str) -> AsyncIterator[Api]:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(base_url=api.client.base_url, headers=headers, timeout=20) as client:
        yield Api(client, api.platform, api.folder)


def signed(api: Api, key: Json, path: str, body: bytes) -> httpx2.Request:
    request = api.client.build_request("POST", path, content=body, headers={"Content-Type": "application/json"})
    del request.headers["Authorization"]
    secrets = {key["signing_key_id"]: key["signing_secret"].encode()}
    signer = HTTPMessageSigner(
        signature_algorithm=algorithms.HMAC_SHA256,
        key_resolver=MappingKeyResolver(public_keys={}, private_keys=secrets),
    )
    signer.sign(
        adapt_message(request), key_id=key["signing_key_id"], body=body, nonce=str(uuid4()),
        created=datetime.datetime.now(datetime.UTC), covered_component_ids=("@method", "@path", "@query", "content-digest"),
    )  # fmt: skip
    return request


async def test_a_program_runs_a_workflow_with_its_key_and_no_secret_is_ever_written_down(api: Api) -> None:
    workflow, root = await api.workflow(agent("a")), str(api.client.base_url).partition("/api/")[0]
    key = await api.post("/keys", {"name": "CI", "roles": ["operator"], "signs": True}, 201)
    async with with_key(api, key["key"]) as program:
        assert (await program.ended(await program.start(workflow, "by its key")))["status"] == "completed"
        answered = await program.client.send(signed(api, key, f"/workflows/{workflow}/execute", b'{"input": "signed"}'))
        assert (await program.ended(answered.json()["execution_id"]))["status"] == "completed"
        await program.post("/workflows", {"name": "w", "tasks": [{"agent": "echo"}]}, 403)
        code, text = await handrail(program, "templates", "list", "--url", root)
        assert code == 0, text

    async with strict_client(f"{root}/mcp", {"X-API-Key": key["key"]}) as tools:
        started = await tools.call("start_workflow", {"workflow_id": workflow, "wait_seconds": 20})
        refused = await tools.call("decide_approval", {"approval_id": "x", "decision": "approved"})
    assert started["structuredContent"]["status"] == "completed"
    assert "`decide`" in str(refused)

    guessed = key["key"][:-4] + "AAAA"
    async with with_key(api, guessed) as thief:
        await thief.get("/workflows", 401)
    later = await api.post(f"/keys/{key['id']}/rotate", {"overlap_seconds": 60}, 200)
    await api.delete(f"/keys/{key['id']}", 204)
    async with with_key(api, later["key"]) as program:
        await program.get("/workflows", 401)

    secrets = [each[name] for each in (key, later) for name in ("key", "signing_secret")]
    secrets += [each["key"].split("_", 2)[2] for each in (key, later)] + [PLANTED_PEPPER, guessed]
    for name in catalogue():
        for record in await read_log(api.platform.broker.bootstrap, name):
            assert not any(secret.encode() in (record.value or b"") for secret in secrets), name
    logs = sorted((api.folder / "services").glob("*.log"))
    assert len(logs) >= 5
    assert not [log.name for log in logs for secret in secrets if secret in log.read_text()]
    shown = str([await api.get(path) for path in ("/keys", f"/keys/{key['id']}")])
    assert not any(secret in shown for secret in secrets)
