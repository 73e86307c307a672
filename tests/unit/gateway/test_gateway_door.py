"""The door: no route without a token, errors as problem details, bodies within limits."""

from collections.abc import Iterator
from typing import Any

import httpx2
import orjson
import pytest
from fastapi import FastAPI
from handrail_gateway.app import WEBSOCKETS
from handrail_gateway.gate import MAX_BODY_BYTES, MAX_JSON_DEPTH
from unit.gateway.builders import World

OPEN = {"/healthz", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json", "/docs"}


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every (method, path) that the app answers, however deep it is included."""
    stack: list[tuple[str, Any]] = [("", route) for route in app.router.routes]
    while stack:
        prefix, route = stack.pop()
        included = getattr(route, "effective_candidates", None)
        if included is not None:
            stack += [("", child) for child in included()]
        else:
            path = getattr(route, "path", None) or route.path_format
            for method in getattr(route, "methods", None) or {"GET"}:
                yield method, prefix + path


def filled(path: str) -> str:
    for name in (
        "workflow_id",
        "execution_id",
        "approval_id",
        "reviewer_id",
        "inquiry_id",
        "customer_id",
        "suggestion_id",
        "scope",
        "name",
        "signal",
        "version",
        "step_id",
        "task_id",
        "node_id",
        "schedule_id",
        "template_id",
        "token",
        "key_id",
        "id",
    ):
        path = path.replace(f"{{{name}}}", "x")
    assert "{" not in path, f"give {path} a value in this test"
    return path


def problem(response: httpx2.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == response.status_code
    assert body["detail"] and body["title"] and body["code"] and body["type"]
    return body


async def test_every_route_but_six_and_webhooks_needs_a_token() -> None:
    world = World()
    found = set(routes(world.app))
    assert len(found) > 40
    assert {path for _, path in found} >= OPEN | {"/workflows/create", "/api/executions/{execution_id}/stream"}
    async with world.anonymous() as client:
        answered = {
            (method, path)
            for method, path in found
            if (await client.request(method, filled(path), json={} if method in ("POST", "PUT") else None)).status_code
            != 401
        }
    assert {path for _, path in answered} == OPEN | {"/hooks/{workflow_id}/{token}", "/decide/{token}"}
    assert world.database.asked == []


@pytest.mark.parametrize(
    "path", ["/hooks/", "/hooks/w", "/hooks/../api/v1/workflows", "/hooks//api/v1/workflows", "/hooks/w/t/x"]
)
async def test_no_path_below_the_webhooks_leads_elsewhere(path: str) -> None:
    world = World()
    async with world.anonymous() as client:
        for method in ("GET", "POST"):
            answer = await client.request(method, path, json={} if method == "POST" else None)
            assert answer.status_code in (401, 404, 405, 422)
    assert world.database.asked == []


@pytest.mark.parametrize(
    "path", ["/", "/healthz/", "/healthz/x", "/api/v1/workflows/healthz", "//docs", "/docs/../api", "/nothing"]
)
async def test_no_path_looks_like_an_open_one(path: str) -> None:
    async with World().anonymous() as client:
        refused = await client.get(path)
    assert refused.status_code == 401
    assert problem(refused)["code"] == "UNAUTHENTICATED"
    assert refused.headers["www-authenticate"].startswith("Bearer")


async def test_a_websocket_without_a_token_is_refused_before_anything_is_looked_at() -> None:
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing of it may be read")

    await World().app({"type": "websocket", "path": "/ws", "headers": [], "query_string": b""}, receive, send)
    assert (said[0]["type"], said[0]["status"]) == ("websocket.http.response.start", 401)


async def test_what_is_not_there_is_a_problem_too() -> None:
    async with World().client() as client:
        missing, wrong = await client.get("/api/v1/nothing"), await client.patch("/api/v1/workflows")
    assert (problem(missing)["code"], problem(wrong)["code"]) == ("NOT_FOUND", "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"{", 422, "not JSON"),
        (b'{"name": NaN}', 422, "not JSON"),
        (b'{"name": Infinity}', 422, "not JSON"),
        (b'{"name": "\\ud800"}', 422, "not JSON"),
        (b'{"name": "a\\u0000b"}', 422, "NUL"),
        (b'{"config": {"n": 18446744073709551616}}', 422, "64 bits"),
        (b'{"config": {"n": -9223372036854775809}}', 422, "64 bits"),
        (b'{"n": ' + b"9" * 5000 + b"}", 422, "not JSON"),
        (b"\xff\xfe", 422, "not JSON"),
        (b"[" * 5_000 + b"]" * 5_000, 422, ""),
        (b'{"name":' + b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH + b"}", 422, "nested deeper"),
        (b" " * (MAX_BODY_BYTES + 1), 413, "bytes"),
    ],
)
async def test_a_body_that_is_no_decent_json_is_refused(body: bytes, status: int, word: str) -> None:
    world = World()
    async with world.client() as client:
        refused = await client.post("/api/v1/workflows", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == status
    assert word in problem(refused)["detail"]
    assert world.database.asked == []


async def test_a_body_without_a_length_is_cut_off_at_the_limit() -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 65_536

    async with World().client() as client:
        refused = await client.post(
            "/api/v1/workflows", content=endless(), headers={"Content-Type": "application/json"}
        )
    assert refused.status_code == 413


@pytest.mark.parametrize(
    "headers", [{"Content-Type": "text/plain"}, {}, {"Content-Type": "application/json", "Content-Encoding": "gzip"}]
)
async def test_only_plain_json_is_a_body(headers: dict[str, str]) -> None:
    async with World().client() as client:
        refused = await client.post("/api/v1/workflows", content=b'{"name": "a"}', headers=headers)
    assert problem(refused)["code"] == "UNSUPPORTED_MEDIA_TYPE"


async def test_wrong_fields_are_named_with_their_path() -> None:
    async with World().client() as client:
        refused = await client.post("/api/v1/workflows", json={"name": "x" * 1_000_000, "steps": [{}, 7]})
    body = problem(refused)
    assert (refused.status_code, body["code"]) == (422, "VALIDATION_ERROR")
    assert {error["path"] for error in body["errors"]} == {"name", "steps[1]"}
    assert len(refused.content) < 2_000


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "cursor=!!", "cursor=WzFd", "status=nonsense"])
async def test_wrong_queries_are_refused(query: str) -> None:
    async with World().client() as client:
        refused = await client.get(f"/api/v1/executions?{query}")
    assert (refused.status_code, problem(refused)["code"]) == (422, "VALIDATION_ERROR")


async def test_the_api_document_is_complete_and_says_how_errors_look() -> None:
    world = World()
    async with world.anonymous() as client:
        document = (await client.get("/openapi.json")).json()
        page = await client.get("/docs")
    documented = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    expected = {
        (method, path)
        for method, path in routes(world.app)
        if path not in OPEN | {"/decide/{token}"}
        and path not in WEBSOCKETS
        and method != "HEAD"
        and (path.startswith("/api/v1") or not path.startswith("/api"))
    }
    assert documented == expected
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert path.startswith("/hooks/") or operation["security"]
            assert "application/problem+json" in operation["responses"]["4XX"]["content"]
    assert "ProblemDetails" in document["components"]["schemas"]
    assert "HTTPValidationError" not in orjson.dumps(document).decode()
    assert "http" not in page.text.replace("http-equiv", "")


async def test_what_is_not_allowed_says_what_is() -> None:
    async with World().client() as client:
        refused = await client.patch("/api/v1/workflows/w")
    assert problem(refused)["code"] == "METHOD_NOT_ALLOWED"
    assert refused.headers["allow"] == "DELETE, GET, PUT"


async def test_the_door_for_mcp_refuses_what_is_not_json_as_all_others_do() -> None:
    async with World().client() as client:
        refused = await client.post("/mcp")
    assert (refused.status_code, problem(refused)["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_routes_that_speak_another_protocol_document_its_refusals() -> None:
    paths = World().app.openapi()["paths"]
    for path, method in (("/mcp", "post"), ("/a2a/workflows/{workflow_id}/tasks", "get")):
        assert set(paths[path][method]["responses"]["4XX"]["content"]) == {
            "application/json",
            "application/problem+json",
        }
    assert {"502", "503", "504"} <= set(paths["/api/v1/workflows/generate"]["post"]["responses"])


async def test_numbers_of_64_bits_and_long_texts_of_digits_come_to_the_compiler() -> None:
    numbers = {"most": 2**64 - 1, "least": -(2**63), "text": "9" * 40, "float": 1234567890123456789012.5}
    async with World().client() as client:
        refused = await client.post("/api/v1/workflows", json={"name": "w", "tasks": [], "numbers": numbers})
    assert "The workflow has" in problem(refused)["detail"]


async def test_a_dry_run_is_documented() -> None:
    paths = World().app.openapi()["paths"]
    for path in ("/api/v1/executions/bulk", "/api/v1/executions/{execution_id}/migrate"):
        assert {"200", "202"} <= set(paths[path]["post"]["responses"])


async def test_a_failure_of_ours_tells_no_secrets() -> None:
    world = World()

    def broken(*_: object) -> list[dict[str, Any]]:
        raise RuntimeError("password=hunter2")

    world.database.scripts["list_executions"] = broken
    async with world.client() as client:
        failed = await client.get("/api/v1/executions")
    assert problem(failed)["code"] == "INTERNAL_ERROR"
    assert "hunter2" not in failed.text
