"""API keys: made, shown once, checked, rotated, revoked, and never wider than whoever makes them."""

import asyncio
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import httpx2
import pytest
from handrail_contracts.envelope import utc
from handrail_contracts.identity import ApiKeyDefined, EarlierSecret
from handrail_gateway.identity.keys import KeyTable, digest_of, new_secret, pepper_of, shown
from handrail_gateway.problems import Problem
from unit.gateway.builders import PEPPER, World

NOW = 1_800_000_000.0
KEY_ID = "9c1e5a7b3d2f4860"
OTHER_ID = "0123456789abcdef"


def defined(secret: str, **changes: Any) -> ApiKeyDefined:
    said = {
        "event_id": "e", "occurred_at": utc(NOW), "organization_id": "acme", "project_id": "apollo", "key_id": KEY_ID,
        "roles": ("viewer",), "digest": digest_of(PEPPER, KEY_ID, secret).hex(), "made_by": "ada", "made_at": utc(NOW),
    }  # fmt: skip
    return ApiKeyDefined.model_validate(said | changes)


def table(*keys: ApiKeyDefined) -> KeyTable:
    found = KeyTable(PEPPER)
    found.ready.set()
    for key in keys:
        found.add(key)
    return found


def refusal(keys: KeyTable, given: str, now: float = NOW) -> str:
    with pytest.raises(Problem) as refused:
        keys.check(given, now)
    assert refused.value.status == 401
    assert given[-20:] not in str(refused.value.detail) or not given
    return str(getattr(refused.value, "reason", ""))


class TestTable:
    def test_a_key_is_its_own_caller_with_its_own_rights(self) -> None:
        secret = new_secret()
        caller = table(defined(secret, permissions=("priority",))).check(shown(KEY_ID, secret), NOW)
        assert (caller.user_id, caller.organization_id, caller.project_id) == (f"key:{KEY_ID}", "acme", "apollo")
        assert (caller.permissions, caller.key_id, caller.person) == (frozenset({"read", "priority"}), KEY_ID, "ada")
        assert caller.expires_at == float("inf")

    @pytest.mark.parametrize(
        "given",
        [
            "", "hrk_", "hrk_x_y", shown(KEY_ID, "x" * 43), shown(OTHER_ID, "x" * 43), shown(KEY_ID, "x" * 42),
            shown(KEY_ID.upper(), "x" * 43), shown(KEY_ID, "x" * 43) + "\n", "hrk_" + "a" * 100_000,
        ],
    )  # fmt: skip
    def test_what_is_no_key_is_refused(self, given: str) -> None:
        assert refusal(table(defined(new_secret())), given) == "unknown_api_key"

    @pytest.mark.parametrize("key_id", [KEY_ID, OTHER_ID], ids=["known", "unknown"])
    def test_a_wrong_secret_costs_the_same_whether_or_not_the_key_is_known(self, key_id: str) -> None:
        keys, calls = table(defined(new_secret())), []

        def compare(one: bytes, other: bytes) -> bool:
            calls.append((len(one), len(other)))
            return one == other

        with (
            patch("handrail_gateway.identity.keys.hmac.compare_digest", compare),
            patch("handrail_gateway.identity.keys.digest_of", side_effect=digest_of) as digests,
        ):
            assert refusal(keys, shown(key_id, new_secret())) == "unknown_api_key"
        assert calls == [(32, 32), (32, 32)]
        assert digests.call_count == 1

    def test_nobody_gets_in_by_the_key_that_there_is_not(self) -> None:
        keys = table()
        with patch("handrail_gateway.identity.keys.hmac.compare_digest", return_value=True):
            assert refusal(keys, shown(OTHER_ID, new_secret())) == "unknown_api_key"

    def test_a_revoked_and_an_expired_key_are_refused(self) -> None:
        secret = new_secret()
        assert refusal(table(defined(secret, revoked=True)), shown(KEY_ID, secret)) == "revoked_api_key"
        expiring = table(defined(secret, expires_at=utc(NOW + 10)))
        assert expiring.check(shown(KEY_ID, secret), NOW + 9.9).expires_at == NOW + 10
        assert refusal(expiring, shown(KEY_ID, secret), NOW + 10) == "expired_api_key"

    def test_a_rotated_secret_is_good_until_the_overlap_ends(self) -> None:
        old, new = new_secret(), new_secret()
        earlier = EarlierSecret(version=1, digest=digest_of(PEPPER, KEY_ID, old).hex(), until=utc(NOW + 60))
        keys = table(defined(new, version=2, earlier=earlier))
        assert keys.check(shown(KEY_ID, old), NOW).expires_at == NOW + 60
        assert keys.check(shown(KEY_ID, new), NOW + 61).key_version == 2
        assert refusal(keys, shown(KEY_ID, old), NOW + 60) == "expired_api_key"

    def test_words_that_are_no_rights_of_this_release_give_none(self) -> None:
        secret = new_secret()
        keys = table(defined(secret, roles=("viewer", "emperor"), permissions=("fly",)))
        assert keys.check(shown(KEY_ID, secret), NOW).permissions == {"read"}

    def test_a_use_is_told_once_a_minute(self) -> None:
        secret = new_secret()
        keys = table(defined(secret))
        told = []
        for second in range(0, 150, 10):
            keys.check(shown(KEY_ID, secret), NOW + second)
            told += [at - NOW for _, at in keys.unsaid(NOW + second)]
        assert told == [0, 60, 120]

    def test_until_the_topic_was_read_nobody_is_told_that_a_key_is_wrong(self) -> None:
        with pytest.raises(Problem) as refused:
            KeyTable(PEPPER).check(shown(KEY_ID, new_secret()), NOW)
        assert (refused.value.status, refused.value.code) == (503, "KEYS_NOT_READ")

    def test_a_pepper_that_could_be_guessed_stops_the_gateway(self) -> None:
        with pytest.raises(SystemExit, match="HANDRAIL_KEY_PEPPER"):
            pepper_of("short")
        assert pepper_of("") == b""


@pytest.fixture
async def world() -> World:
    found = World()
    await found.connect()
    found.projected()
    return found


async def make(client: httpx2.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/api/v1/keys", json={"name": "CI", "roles": ["operator"], **body})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return dict(answer.json())


class TestRoutes:
    async def test_a_key_comes_in_by_either_header_and_may_what_it_may(self, world: World) -> None:
        async with world.client() as admin:
            made = await make(admin)
        for header in ({"Authorization": f"Bearer {made['key']}"}, {"X-API-Key": made["key"]}):
            async with world.anonymous(header) as client:
                assert (await client.get("/api/v1/workflows")).status_code == 200
                refused = await client.get("/api/v1/keys")
            body = refused.json()
            assert (refused.status_code, body["permission"], body["roles"]) == (403, "administer", ["admin"])

    async def test_nothing_that_is_published_holds_a_secret(self, world: World) -> None:
        async with world.client() as admin:
            made = await make(admin, signs=True)
            rotated = (await admin.post(f"/api/v1/keys/{made['id']}/rotate", json={"overlap_seconds": 60})).json()
            assert (await admin.delete(f"/api/v1/keys/{made['id']}")).status_code == 204
        said = str(world.producer.sent)
        for answer in (made, rotated):
            assert answer["key"].rpartition("_")[2] not in said
            assert answer["key"].split("_", 2)[2] not in said
            assert answer["signing_secret"] not in said
        assert PEPPER.decode() not in said
        assert (rotated["version"], rotated["signing_key_id"]) == (2, f"{made['id']}.2")

    async def test_a_repeated_request_makes_one_key_and_does_not_show_it_again(self, world: World) -> None:
        async with world.client() as admin:
            request: dict[str, Any] = {"json": {"name": "CI", "roles": ["viewer"]}, "headers": {"Idempotency-Key": "k"}}
            first, again = [(await admin.post("/api/v1/keys", **request)).json() for _ in range(2)]
            other = await admin.post("/api/v1/keys", **request | {"json": {"name": "other", "roles": ["viewer"]}})
        assert (first["id"], again["key"], again["signing_secret"]) == (again["id"], None, None)
        assert other.status_code == 422
        assert len([topic for topic, *_ in world.producer.sent if topic == "api_key.defined"]) == 1
        async with world.anonymous({"X-API-Key": first["key"]}) as client:
            assert (await client.get("/api/v1/workflows")).status_code == 200

    async def test_a_repeated_rotation_rotates_once(self, world: World) -> None:
        async with world.client() as admin:
            made = await make(admin)
            url, headers = f"/api/v1/keys/{made['id']}/rotate", {"Idempotency-Key": "r"}
            first, again = [(await admin.post(url, headers=headers)).json() for _ in range(2)]
        assert (first["version"], again["version"], again["key"]) == (2, 2, None)

    @pytest.mark.parametrize("wish", [{"roles": ["admin"]}, {"permissions": ["priority"]}, {"roles": ["approver"]}])
    async def test_a_key_is_never_wider_than_its_maker(self, world: World, wish: dict[str, Any]) -> None:
        claims = {"roles": ["builder"], "permissions": ["administer"]}
        async with world.client(**claims) as maker:
            refused = await maker.post("/api/v1/keys", json={"name": "n", **wish})
            assert refused.status_code == 403
            assert (await make(maker, roles=["builder"]))["roles"] == ["builder"]
        assert len(world.producer.sent) == 1

    async def test_who_may_less_than_a_key_can_revoke_it_but_never_get_its_secret(self, world: World) -> None:
        async with world.client() as admin:
            made = await make(admin, roles=["admin"])
        async with world.client(roles=[], permissions=["administer"]) as keeper:
            assert (await keeper.post(f"/api/v1/keys/{made['id']}/rotate")).status_code == 403
            assert (await keeper.delete(f"/api/v1/keys/{made['id']}")).status_code == 204
            assert (await keeper.post(f"/api/v1/keys/{made['id']}/rotate")).status_code == 409
        async with world.anonymous({"X-API-Key": made["key"]}) as client:
            assert (await client.get("/api/v1/workflows")).status_code == 401

    async def test_a_key_of_another_tenant_is_not_there(self, world: World) -> None:
        async with world.client() as admin:
            made = await make(admin)
        async with world.client(organization_id="umbrella") as stranger:
            assert (await stranger.delete(f"/api/v1/keys/{made['id']}")).status_code == 404
            assert (await stranger.post(f"/api/v1/keys/{made['id']}/rotate")).status_code == 404

    async def test_tenant_headers_never_widen_a_key(self, world: World) -> None:
        async with world.client() as admin:
            made = await make(admin)
        for header in ("X-elevAIte-OrganizationId", "X-elevAIte-ProjectId", "X-elevAIte-UserId"):
            async with world.anonymous({"X-API-Key": made["key"], header: "umbrella"}) as client:
                assert (await client.get("/api/v1/workflows")).status_code == 403

    async def test_two_credentials_are_one_too_many(self, world: World) -> None:
        async with world.client() as admin:
            made = await make(admin)
            assert (await admin.get("/api/v1/workflows", headers={"X-API-Key": made["key"]})).status_code == 401

    @pytest.mark.parametrize(
        "body", [{"roles": []}, {"roles": ["root"]}, {"expires_at": "2020-01-01T00:00:00Z"}, {"signs": "?"}]
    )
    async def test_a_wish_that_makes_no_sense_is_refused(self, world: World, body: dict[str, Any]) -> None:
        async with world.client() as admin:
            refused = await admin.post("/api/v1/keys", json={"name": "n", "roles": ["viewer"], **body})
        assert (refused.status_code, world.producer.sent) == (422, [])

    async def test_without_a_pepper_there_are_no_keys(self, world: World) -> None:
        world.gateway.keys.pepper = b""
        async with world.client() as admin:
            refused = await admin.post("/api/v1/keys", json={"name": "n", "roles": ["viewer"]})
        assert (refused.status_code, refused.json()["code"]) == (503, "KEYS_NOT_CONFIGURED")


async def test_what_is_open_with_a_key_ends_when_it_is_revoked(world: World) -> None:
    """As if the client had left: whoever streams waits for that."""
    async with world.client() as admin:
        made = await make(admin)
        caller = world.gateway.keys.check(made["key"], NOW + timedelta(days=1).total_seconds())
        ended = world.gateway.keys.ended(caller)
        waiting = asyncio.create_task(ended.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        await admin.delete(f"/api/v1/keys/{made['id']}")
    await asyncio.wait_for(waiting, 5)
