"""Who may do what: roles by the claims of a token, one rule for each route, and limits on how often."""

import time
from typing import Any, get_args

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from handrail_contracts.identity import Role
from handrail_gateway.identity.caller import Caller, Permission
from handrail_gateway.identity.limits import RateLimits
from handrail_gateway.identity.rights import ROLES, RULES, GuardedApp, check, permissions_of, ruled
from handrail_gateway.identity.tokens import Tokens
from handrail_gateway.metrics import AUTH_FAILURES, FORBIDDEN
from handrail_gateway.problems import Problem
from prometheus_client import REGISTRY
from starlette.routing import WebSocketRoute
from support.mcp_client import strict_client
from unit.gateway.builders import AUDIENCE, ISSUER, Issuer, World

issuer = Issuer()
VIEWER = {Permission.READ}


async def rights(claims: dict[str, Any], **settings: Any) -> set[str]:
    tokens = Tokens(issuer.tokens().keys, ISSUER, AUDIENCE, **settings)
    return set((await tokens.caller(issuer.token(**claims), {})).permissions)


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"roles": None}, VIEWER),
        ({"roles": []}, VIEWER),
        ({"roles": ["offline_access", "uma"]}, VIEWER),
        ({"roles": {"admin": True}}, VIEWER),
        ({"roles": 7}, VIEWER),
        ({"roles": [["admin"], None]}, VIEWER),
        ({"roles": ["Admin"]}, VIEWER),
        ({"roles": ["approver"]}, {"read", "decide"}),
        ({"roles": "builder approver"}, {"read", "operate", "build", "decide"}),
        ({"roles": ["admin"]}, set(Permission)),
        ({"roles": None, "permissions": ["customer_service", "fly"]}, {"customer_service"}),
        ({"roles": None, "scope": "openid priority read"}, {"priority", "read"}),
        ({"roles": ["viewer"], "permissions": ["admin"]}, VIEWER),
    ],
)
async def test_roles_and_permissions_come_from_the_claims(claims: dict[str, Any], expected: set[str]) -> None:
    assert await rights(claims) == expected


async def test_the_claim_of_the_roles_and_the_default_are_settings() -> None:
    path = {"roles_claim": ("realm_access", "roles")}
    assert await rights({"realm_access": {"roles": ["operator"]}}, **path) == permissions_of(["operator"])
    assert await rights({"realm_access": "admin"}, **path) == VIEWER
    assert await rights({"roles": None}, default_role="") == set()


def test_every_role_is_in_the_contract_and_admin_may_everything() -> None:
    assert set(ROLES) == set(get_args(Role))
    assert all(may <= ROLES["admin"] for may in ROLES.values())
    assert set(RULES.values()) <= set(Permission)


def bare() -> FastAPI:
    return FastAPI(docs_url=None, redoc_url=None)


@pytest.mark.parametrize("guarded", [False, True])
def test_a_route_that_nobody_thought_of_keeps_the_gateway_from_starting(guarded: bool) -> None:
    from handrail_gateway.gateway import Guarded

    app, router = bare(), APIRouter(dependencies=[Guarded] if guarded else [])

    @router.get("/workflows" if not guarded else "/secrets")
    async def forgotten() -> None: ...

    app.include_router(router, prefix="/api/v1")
    with pytest.raises(LookupError, match="GET /api/v1/.*: nobody says who may use it"):
        check(app)


def test_a_socket_that_nobody_thought_of_does_so_too() -> None:
    app = bare()

    @app.websocket("/everything")
    async def forgotten() -> None: ...

    with pytest.raises(LookupError, match="WS /everything"):
        check(app)


async def test_a_socket_asks_who_may_use_it() -> None:
    said: list[Any] = []

    async def reached(scope: Any, receive: Any, send: Any) -> None:
        said.append("reached")

    async def send(message: Any) -> None:
        said.append(message.get("status"))

    guarded: Any = GuardedApp("POST /keys", reached)
    for roles in (["viewer"], ["admin"]):
        caller = Caller("ada", "acme", "apollo", 1.0, permissions=permissions_of(roles))
        await guarded({"type": "websocket", "path": "/ws", "handrail.caller": caller}, None, send)
    assert said == [403, None, "reached"]
    app = bare()
    app.router.routes += [WebSocketRoute("/api/v1/ws", GuardedApp("WS /ws", reached))]
    assert [(route.rule, route.guarded) for route in ruled(app) if route.method == "WS"] == [("WS /ws", True)]


def test_nothing_changes_anything_for_somebody_who_may_only_read() -> None:
    reads = {rule for rule, needed in RULES.items() if needed is Permission.READ}
    judged_inside = {
        "WS /ws",
        "POST /mcp",
        "POST /a2a/workflows/{workflow_id}",
        "POST /a2a/workflows/{workflow_id}/tasks/{id}:subscribe",
    }
    assert {rule for rule in reads if not rule.startswith("GET ")} == judged_inside


async def test_a_refusal_says_what_is_missing_and_who_has_it() -> None:
    world = World()
    before = FORBIDDEN.labels("build")._value.get()
    async with world.client(roles=["viewer"]) as client:
        refused = await client.post("/api/workflows", json={"name": "w"})
    body = refused.json()
    assert (refused.status_code, body["code"], body["permission"]) == (403, "FORBIDDEN", "build")
    assert body["roles"] == ["admin", "builder"] and "`build`" in body["detail"]
    assert FORBIDDEN.labels("build")._value.get() == before + 1
    assert world.database.asked == []


async def test_a_tool_of_the_mcp_server_may_no_more_than_its_caller() -> None:
    world = World()
    transport = httpx2.ASGITransport(app=world.app, raise_app_exceptions=False)
    async with strict_client("http://localhost/mcp", world.issuer.bearer(roles=["viewer"]), transport) as client:
        listed = await client.call("list_workflows", {})
        refused = await client.call("start_workflow", {"workflow_id": "w"})
        decided = await client.call("decide_approval", {"approval_id": "a", "decision": "approved"})
    assert not listed.get("isError")
    for result, needed in ((refused, "operate"), (decided, "decide")):
        assert result["isError"] and f"`{needed}`" in str(result["content"])
    assert world.producer.sent == []
    await world.app.state.door.close()


async def test_json_rpc_of_a2a_may_no_more_than_its_caller() -> None:
    world = World()
    world.database.scripts["newest_workflow"] = lambda *_: [{"workflow_id": "w", "active": True, "version": 1}]
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
    calls = {
        "SendMessage": {"message": message},
        "SendStreamingMessage": {"message": message},
        "CancelTask": {"id": "t"},
    }
    async with world.client(roles=["viewer"]) as client:
        for method, params in calls.items():
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            answer = await client.post("/a2a/workflows/w", json=body, headers={"A2A-Version": "1.0"})
            assert "`operate`" in answer.text, (method, answer.text)
    assert world.producer.sent == []


async def test_who_is_not_let_in_is_counted_by_reason_and_never_logged_with_a_secret(capsys: Any) -> None:
    world = World()
    before = AUTH_FAILURES.labels("invalid")._value.get()
    async with world.anonymous({"Authorization": "Bearer not.a-secret.token"}) as client:
        assert (await client.get("/api/v1/workflows?q=another-secret")).status_code == 401
    assert AUTH_FAILURES.labels("invalid")._value.get() == before + 1
    said = "".join(capsys.readouterr())
    assert "not_let_in" in said and "secret" not in said


def caller(user: str = "ada", project: str = "apollo") -> Caller:
    return Caller(user, "acme", project, time.time() + 60)


class TestLimits:
    def test_each_caller_has_a_limit_and_each_tenant(self) -> None:
        limits = RateLimits("2/hour", "3/hour")
        for user in ("ada", "ada", "eve"):
            limits.take(caller(user))
        assert dict(limits.take(caller(project="hermes")))[b"ratelimit"].startswith(b'"caller-3600s";r=1;t=')
        for user, whose in (("ada", "You make"), ("eve", "Your project makes")):
            with pytest.raises(Problem) as refused:
                limits.take(caller(user))
            headers = refused.value.headers
            assert (refused.value.status, refused.value.code) == (429, "RATE_LIMIT")
            assert refused.value.detail.startswith(whose)
            assert int(headers["retry-after"]) > 0
            assert headers["ratelimit-policy"] == '"caller-3600s";q=2;w=3600, "tenant-3600s";q=3;w=3600'
            assert ";r=0;" in headers["ratelimit"]

    async def test_every_answer_says_how_much_is_left(self) -> None:
        world = World(limits=RateLimits("2/minute"))
        async with world.client() as client:
            answers = [await client.get("/api/v1/workflows") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=1", "r=0", "r=0"]
        assert answers[2].json()["code"] == "RATE_LIMIT"
        assert "retry-after" in answers[2].headers

    def test_a_limit_that_nobody_understands_stops_the_gateway(self) -> None:
        from handrail_runtime.settings import Settings

        with pytest.raises(SystemExit, match="HANDRAIL_RATE_LIMIT"):
            RateLimits.from_settings(Settings(rate_limit_caller="often"))


def test_the_metrics_are_served() -> None:
    names = {metric.name for metric in REGISTRY.collect()}
    assert names >= {"handrail_auth_failures", "handrail_forbidden", "handrail_rate_limited"}
