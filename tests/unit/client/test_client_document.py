"""The client against the API's own document: what it asks is there, and what it reads of an answer is in it, of that type."""

import copy
import json
from collections.abc import AsyncIterator, Awaitable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import httpx2
import pytest
from handrail_client import Handrail, calls
from handrail_client.calls import Call
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter
from starlette.routing import compile_path
from unit.client.doors import Door
from unit.gateway.builders import World

Json = dict[str, Any]
CALLS: dict[str, Call[Any]] = {name: call for name, call in vars(calls).items() if isinstance(call, Call)}
DOCUMENT: Json = World().app.openapi()
PREFIX = "/api/v1"


def operation(document: Json, method: str, path: str) -> Json:
    found = document["paths"].get(PREFIX + path, {}).get(method.lower())
    assert found, f"the API has no {method} {PREFIX}{path}"
    return cast(Json, found)


def answers(found: Json) -> Json:
    """The schema of what it answers when all is well; of an object without fields where that has no body."""
    bodies = [
        response.get("content", {}).get("application/json", {"schema": {"type": "object"}})["schema"]
        for status, response in found["responses"].items()
        if status.startswith("2")
    ]
    return cast(Json, bodies[0])


def atoms(schema: Json, root: Json) -> Iterator[Json]:
    """Its alternatives, without references."""
    while "$ref" in schema:
        place = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        schema = place
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if alternatives is None:
        yield schema
        return
    for alternative in alternatives:
        yield from atoms(alternative, root)


def misfits(given: Json, document: Json, wanted: Json, client: Json, where: str = "answer") -> Iterator[str]:
    """Why what the document gives may not be what the client wants. A type that is wanted for all values fits any."""
    alternatives = list(atoms(wanted, client))
    for atom in atoms(given, document):
        if not any(not set(each) - {"title", "description", "default"} for each in alternatives):
            tried = [list(_misfits(atom, document, each, client, where)) for each in alternatives]
            if all(tried):
                yield from min(tried, key=len)


def _misfits(atom: Json, document: Json, wanted: Json, client: Json, where: str) -> Iterator[str]:
    kinds = (atom.get("type"), wanted.get("type"))
    if kinds[0] != kinds[1] and kinds != ("integer", "number"):
        yield f"{where} is {kinds[0]}, not {kinds[1]}"
    elif atom.get("format") != wanted.get("format", atom.get("format")):
        yield f"{where} is no {wanted['format']}"
    elif kinds[1] == "array" and "items" in wanted:
        yield from misfits(atom.get("items", {}), document, wanted["items"], client, f"{where}[]")
    elif kinds[1] == "object":
        for name, field in wanted.get("properties", {}).items():
            if name not in atom.get("properties", {}):
                yield f"{where} has no {name}"
            elif name in wanted.get("required", ()) and name not in atom.get("required", ()):
                yield f"{where}.{name} may be missing"
            else:
                yield from misfits(atom["properties"][name], document, field, client, f"{where}.{name}")


def problems(call: Call[Any], document: Json) -> list[str]:
    given = answers(operation(document, call.method, call.path))
    client = TypeAdapter(call.answer).json_schema()
    if call.listed:
        [page] = atoms(given, document)
        assert "next_cursor" in page["required"], call.path
        given = page["properties"]["items"]["items"]
    if client.get("type") == "object":  # what answers a list with a list is asked for one
        given = {"anyOf": [atom for atom in atoms(given, document) if atom.get("type") != "array"]}
    return list(misfits(given, document, client, client))


@pytest.mark.parametrize("name", CALLS)
def test_what_is_read_of_an_answer_is_in_the_document(name: str) -> None:
    assert problems(CALLS[name], DOCUMENT) == []


def without(document: Json, schema: str, field: str) -> None:
    del document["components"]["schemas"][schema]["properties"][field]


def texted(document: Json, schema: str, field: str) -> None:
    document["components"]["schemas"][schema]["properties"][field] = {"type": "string"}


def nullable(document: Json, schema: str, field: str) -> None:
    before = document["components"]["schemas"][schema]["properties"][field]
    document["components"]["schemas"][schema]["properties"][field] = {"anyOf": [before, {"type": "null"}]}


def optional(document: Json, schema: str, field: str) -> None:
    document["components"]["schemas"][schema]["required"].remove(field)


@pytest.mark.parametrize(
    ("change", "schema", "field", "call", "told"),
    [
        (without, "Execution", "result", "EXECUTION", "answer has no result"),
        (texted, "Step", "attempt", "EXECUTION", "answer.steps[].attempt is string, not integer"),
        (texted, "ExecutionSummary", "started_at", "EXECUTIONS", "answer.started_at is no date-time"),
        (nullable, "ApprovalSummary", "message", "APPROVALS", "answer.message is null, not string"),
        (optional, "Suggestion", "revision", "SUGGESTION", "answer.revision may be missing"),
        (without, "Forked", "execution_id", "RETRY", "answer has no execution_id"),
    ],
)
def test_a_change_that_would_break_the_client_is_seen(
    change: Any, schema: str, field: str, call: str, told: str
) -> None:
    document = copy.deepcopy(DOCUMENT)
    change(document, schema, field)
    assert problems(CALLS[call], document) == [told]


def test_an_operation_that_is_gone_is_seen() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["paths"][f"{PREFIX}/executions/{{id}}/why"] = document["paths"].pop(
        f"{PREFIX}/executions/{{execution_id}}/why"
    )
    with pytest.raises(AssertionError, match="the API has no GET /api/v1/executions/{execution_id}/why"):
        problems(CALLS["WHY"], document)


def fault(request: httpx2.Request, document: Json) -> str:
    """Why the document would not have this request; empty if it would."""
    path = request.url.raw_path.decode().partition("?")[0]
    found = {
        template: operations[request.method.lower()]
        for template, operations in document["paths"].items()
        if request.method.lower() in operations and compile_path(template)[0].match(path)
    }
    if not found:
        return f"there is no {request.method} {path}"
    described = found[min(found, key=lambda template: template.count("{"))]
    names = {parameter["name"] for parameter in described.get("parameters", ()) if parameter["in"] == "query"}
    if unknown := set(request.url.params) - names:
        return f"{path} knows no {sorted(unknown)}"
    if not request.content:
        return f"{path} wants a body" if described.get("requestBody", {}).get("required") else ""
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": document["components"]})
    return "; ".join(
        told for error in validator.iter_errors(json.loads(request.content)) for told in _told(path, error)
    )


def _told(path: str, error: Any) -> Iterator[str]:
    yield f"{path} {error.json_path}: {error.message}"
    for cause in error.context:
        yield from _told(path, cause)


class Refused(Exception): ...


async def everything(handrail: Handrail) -> AsyncIterator[Any]:
    """Each thing that the client can ask, with all that can be given."""
    execution, approvals, suggestions = handrail.execution("e"), handrail.approvals, handrail.suggestions
    now, key = datetime.now(UTC), "k"
    yield handrail.start(
        "w", {"n": 1}, context={"c": 1}, session_id="s", attributes={"a": 1, "b": True}, priority=1, key=key
    )
    yield handrail.executions(
        workflow_id="w",
        status="running",
        session_id="s",
        attributes={"a": True},
        text="t",
        started_after=now,
        started_before=now,
    )
    yield handrail.publish("ticket", {"n": 1}, source="mail", event_id="i", key=key)
    for ask in (execution.get, execution.why, execution.history, execution.events):
        yield ask()
    for say in (execution.cancel, execution.terminate, execution.pause, execution.resume):
        yield say("reason")
    yield execution.signal("paid", {"amount": 1}, reason="r", key=key)
    yield execution.skip("s", {"out": 1}, "r")
    yield execution.edit("s", {"in": 1}, "r")
    yield execution.retry("s", "r")
    yield execution.rewind("s", "r")
    yield execution.fork("s", version=1, input=1, stub=True, reason="r")
    yield approvals.list(status="pending", execution_id="e")
    yield approvals.get("a")
    yield approvals.decide("a", "approved", comment="c", revision=1, data={"d": 1}, key=key)
    yield approvals.comment("a", "text", revise=False, key=key)
    yield suggestions.list(status="pending", execution_id="e", task_id="t", agent_id="a")
    yield suggestions.get("s")
    yield suggestions.approve("s", notes="n", revision=1, suggested_data={"d": 1}, key=key)
    yield suggestions.reject("s", notes="n", key=key)
    yield suggestions.comment("s", "text", revise=False, key=key)
    yield handrail.workflows.define({"name": "w", "tasks": [{"agent": "a"}]}, key=key)
    yield handrail.workflows.redefine("w", {"name": "w", "tasks": [{"agent": "a"}]})
    yield handrail.workflows.list()
    yield handrail.workflows.get("w", version=1)
    yield handrail.agents.register("a", "http", {"url": "u"}, title="t", description="d", capabilities=["c"])
    yield handrail.agents.list(status="online", kind="http", capability="c")
    yield handrail.agents.get("a")
    desk = handrail.desk("vip")
    yield desk.get()
    yield desk.configure({"tiers": [{"name": "One", "agents": 2}], "strategy": "round_robin"})
    yield desk.inquire(
        "c", "help", topic="t", priority="high", escalate=True, session_id="s", callback_url="https://example.com",
        wait_seconds=1, key=key,
    )  # fmt: skip
    yield desk.find("i")
    yield desk.inquiries(status="open", customer_id="c")
    yield desk.history("c")
    yield desk.escalations(status="pending")
    yield desk.answer("a", "response", key=key)
    yield desk.add_reviewer("r", name="n", email="e", specialties={"billing"}, capacity=3)
    yield desk.stats()
    yield handrail.keys.make("k", permissions={"priority", "customer_service"}, roles=["viewer"], key=key)
    yield handrail.keys.rotate("k")
    yield handrail.keys.revoke("k")


async def asked() -> list[httpx2.Request]:
    door = Door(Refused())
    async with door.client() as handrail:
        async for wish in everything(handrail):
            with pytest.raises(Refused):
                await (anext(wish) if hasattr(wish, "__anext__") else cast(Awaitable[Any], wish))
    return door.requests


async def test_whatever_the_client_asks_is_in_the_document() -> None:
    requests = await asked()
    assert [fault(request, DOCUMENT) for request in requests] == [""] * len(requests)
    assert len({(request.method, _template(request)) for request in requests}) == len(CALLS) + 1  # and the stream


def _template(request: httpx2.Request) -> str:
    path = request.url.path.removeprefix(PREFIX)
    entries = [(call.method, call.path) for call in CALLS.values()] + [calls.STREAM]
    return next(path_ for method, path_ in entries if method == request.method and compile_path(path_)[0].match(path))


@pytest.mark.parametrize(
    ("schema", "field", "told"),
    [
        ("DecisionRequest", "comment", "'comment' was unexpected"),
        ("ExecuteRequest", "input", "'input' was unexpected"),
        ("SkipRequest", "output", "'output' was unexpected"),
    ],
)
async def test_a_field_of_a_body_that_is_gone_is_seen(schema: str, field: str, told: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    without(document, schema, field)
    assert any(told in fault(request, document) for request in await asked())


async def test_a_query_that_is_gone_is_seen() -> None:
    document = copy.deepcopy(DOCUMENT)
    found = operation(document, "GET", "/suggestions")
    found["parameters"] = [parameter for parameter in found["parameters"] if parameter["name"] != "task_id"]
    assert "/api/v1/suggestions knows no ['task_id']" in [fault(request, document) for request in await asked()]
