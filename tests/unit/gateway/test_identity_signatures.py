"""Signed requests (RFC 9421): what has to be signed, and what is refused."""

import datetime
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from http_message_signatures import HTTPMessageSigner, MappingKeyResolver, algorithms
from http_message_signatures.httpx2 import adapt_message
from unit.gateway.builders import World

COVERED = ("@method", "@path", "@query", "content-digest")
BODY = b'{"name": "w", "tasks": [{"agent": "a"}]}'


@pytest.fixture
async def world() -> World:
    found = World()
    await found.connect()
    found.projected()
    return found


@pytest.fixture
async def made(world: World) -> dict[str, Any]:
    async with world.client() as admin:
        answer = await admin.post("/api/v1/keys", json={"name": "CI", "roles": ["builder"], "signs": True})
    return dict(answer.json())


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with world.anonymous() as found:
        yield found


def signed(
    client: httpx2.AsyncClient, made: dict[str, Any], method: str = "GET", path: str = "/api/v1/workflows", **how: Any
) -> httpx2.Request:
    """A request with a good signature, but for what `how` changes."""
    body = how.pop("body", None)
    request = client.build_request(
        method, path, content=body, headers={"Content-Type": "application/json"} if body else {}
    )
    key_id, secret = how.pop("key_id", made["signing_key_id"]), how.pop("secret", made["signing_secret"]).encode()
    covered = how.pop("covered", COVERED if body else COVERED[:3])
    signer = HTTPMessageSigner(
        signature_algorithm=algorithms.HMAC_SHA256,
        key_resolver=MappingKeyResolver(public_keys={}, private_keys={key_id: secret}),
    )
    options = {"nonce": str(uuid4()), "created": datetime.datetime.now(datetime.UTC), **how}
    signer.sign(
        adapt_message(request), key_id=key_id, covered_component_ids=covered,
        body=body if "content-digest" in covered else None, **options,
    )  # fmt: skip
    return request


async def test_a_signed_request_needs_no_secret_on_the_way(client: httpx2.AsyncClient, made: dict[str, Any]) -> None:
    request = signed(client, made)
    assert made["signing_secret"] not in str(request.headers) and made["key"] not in str(request.headers)
    assert (await client.send(request)).status_code == 200
    refused = await client.send(signed(client, made, "POST", "/api/v1/workflows", body=BODY))
    assert refused.json()["code"] == "VALIDATION_ERROR"  # let in: there is no such agent


async def test_a_request_that_comes_again_is_refused(client: httpx2.AsyncClient, made: dict[str, Any]) -> None:
    request = signed(client, made)
    again = client.build_request("GET", "/api/v1/workflows", headers=request.headers)
    assert (await client.send(request)).status_code == 200
    refused = await client.send(again)
    assert (refused.status_code, "sent before" in refused.json()["detail"]) == (401, True)


NOW = datetime.datetime.now(datetime.UTC)
BAD: dict[str, dict[str, Any]] = {
    "another secret": {"secret": "hrs_" + "x" * 43},
    "another key": {"key_id": "0123456789abcdef.1"},
    "no version": {"key_id": "0123456789abcdef"},
    "old": {"created": NOW - datetime.timedelta(seconds=400)},
    "from the future": {"created": NOW + datetime.timedelta(days=1)},
    "expired": {"created": NOW - datetime.timedelta(seconds=200), "expires": NOW - datetime.timedelta(seconds=100)},
    "no nonce": {"nonce": None},
    "long nonce": {"nonce": "n" * 201},
    "method not covered": {"covered": ("@path", "@query")},
    "path not covered": {"covered": ("@method", "@query")},
    "query not covered": {"covered": ("@method", "@path")},
    "body not covered": {"body": BODY, "method": "POST", "covered": COVERED[:3]},
}


@pytest.mark.parametrize("how", BAD.values(), ids=BAD.keys())
async def test_a_bad_signature_is_refused(
    client: httpx2.AsyncClient, made: dict[str, Any], how: dict[str, Any]
) -> None:
    refused = await client.send(signed(client, made, **how))
    assert (refused.status_code, refused.json()["code"]) == (401, "UNAUTHENTICATED")


async def test_a_nonce_does_not_help_who_changes_anything(client: httpx2.AsyncClient, made: dict[str, Any]) -> None:
    posted = signed(client, made, "POST", "/api/v1/workflows", body=BODY)
    changes: list[tuple[str, str, bytes | None]] = [
        ("POST", "/api/v1/workflows", BODY.replace(b"w", b"v")),
        ("PUT", "/api/v1/workflows", BODY),
        ("POST", "/api/v1/agents", BODY),
        ("POST", "/api/v1/workflows?x=1", BODY),
        ("POST", "/api/v1/workflows", None),
    ]
    for method, path, body in changes:
        headers = {name: value for name, value in posted.headers.items() if name != "content-length"}
        refused = await client.request(method, path, content=body, headers=headers)
        assert refused.status_code == 401, (method, path, body)


async def test_signatures_rotate_with_their_key(world: World, client: httpx2.AsyncClient, made: dict[str, Any]) -> None:
    async with world.client() as admin:
        kept = (await admin.post(f"/api/v1/keys/{made['id']}/rotate", json={"overlap_seconds": 60})).json()
        assert [(await client.send(signed(client, each))).status_code for each in (made, kept)] == [200, 200]
        last = (await admin.post(f"/api/v1/keys/{made['id']}/rotate")).json()
    assert [(await client.send(signed(client, each))).status_code for each in (made, kept, last)] == [401, 401, 200]


async def test_only_a_key_that_signs_signs(world: World, client: httpx2.AsyncClient, made: dict[str, Any]) -> None:
    async with world.client() as admin:
        plain = (await admin.post("/api/v1/keys", json={"name": "n", "roles": ["viewer"]})).json()
    assert plain["signing_secret"] is None
    request = signed(client, made, key_id=f"{plain['id']}.1", secret=plain["key"])
    assert (await client.send(request)).status_code == 401
