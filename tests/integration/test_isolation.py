"""No route, stream or topic-fed view shows anything of another tenant, or does anything for a role that may not do it.

Generated from the routes of the application: one that is new, and that the tables here do not know, fails.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import orjson
import pytest
import pytest_asyncio
import yaml
from aiokafka import TopicPartition
from handrail_contracts.approval_events import ApprovalOpened, ApprovalRecord, Suggested
from handrail_contracts.codec import encode
from handrail_contracts.envelope import utc
from handrail_contracts.execution_events import ExecutionRecord, ExecutionStarted, StepStarted
from handrail_contracts.journal import Source
from handrail_contracts.platform import DeadLetter
from handrail_contracts.reviewers import Reviewer, ReviewerSet, pool_id
from handrail_contracts.steps import AgentRegistered
from handrail_contracts.topics import AGENT_REGISTERED, DEAD_LETTERS
from handrail_gateway.identity.rights import OPEN, ROLES, RULES, Ruled, ruled
from integration.gateway_journals import read_whole
from integration.gateway_world import World, world
from support.mcp_client import strict_client
from unit.gateway import builders

pytestmark = pytest.mark.integration

MARK = "planted-for-one-tenant-only"
"""In everything of the first tenant that is content. No answer to anybody else may have it."""

DEFINITION = {
    "name": MARK,
    "description": MARK,
    "steps": [
        {"step_id": "trigger", "step_type": "trigger", "parameters": {"kind": "webhook"}, "next_steps": ["agent"]},
        {"step_id": "agent", "step_type": "agent_execution", "parameters": {"agent_id": "AGENT"}, "next_steps": []},
    ],
}
STEP = {"step_id": "agent", "step_type": "delay", "parameters": {"seconds": 1}, "next_steps": []}
OTHER = {"name": "w", "steps": [STEP]}
"""What another tenant could save, if it may."""
AGENT = {"kind": "scripted", "name": "n", "description": MARK, "config": {"output": MARK}}
SERVER = {"description": MARK, "url": "http://127.0.0.1:1/mcp"}
BUDGET = {"limits": {"calls": 1}}
MESSAGE = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hello"}]}

BODIES: dict[str, Any] = {
    "POST /workflows": OTHER,
    "POST /workflows/create": {"name": "w", "tasks": [{"agent": "AGENT", "input": 1}]},
    "PUT /workflows/{workflow_id}": OTHER,
    "POST /workflows/{workflow_id}/validate": OTHER,
    "POST /workflows/{workflow_id}/steps": {"step": STEP},
    "PUT /workflows/{workflow_id}/steps/{step_id}": {"step": STEP},
    "POST /workflows/{workflow_id}/steps/reorder": {"step_ids": ["agent", "trigger"]},
    "POST /workflows/{workflow_id}/steps/{step_id}/connect": {"target": "agent"},
    "PUT /workflows/{workflow_id}/canvas": {"positions": {"agent": {"x": 1, "y": 1}}},
    "PUT /workflows/{workflow_id}/nodes/{node_id}/position": {"x": 1, "y": 1},
    "PUT /workflows/{workflow_id}/rollout": {"stable": 1, "canary": 1, "percent": 50},
    "POST /workflows/generate": {"prompt": ""},
    "POST /workflows/generate/apply": {"workflow": OTHER},
    "POST /events": {"type": "order.paid", "data": 1},
    "POST /executions/bulk": {"action": "cancel", "filter": {"execution_ids": ["EXECUTION"]}},
    "POST /executions/{execution_id}/rewind": {"step_id": "agent"},
    "POST /executions/{execution_id}/skip": {"step_id": "agent"},
    "POST /executions/{execution_id}/edit": {"step_id": "agent", "input": 1},
    "POST /executions/{execution_id}/migrate": {"version": 1},
    "POST /approvals/{approval_id}": {"decision": "approved"},
    "POST /approvals/{approval_id}/comments": {"text": "?"},
    "POST /approvals/{approval_id}/delegate": {"to": "eve"},
    "POST /approvals/decisions": {"decisions": [{"id": "APPROVAL", "decision": "approved"}]},
    "PUT /reviewers/{reviewer_id}": {"name": "theirs"},
    "PUT /desk": {"tiers": [{"name": "Only"}], "classifier": False},
    "POST /desk/inquiries": {"customer_id": "c1", "inquiry": "?"},
    "POST /desk/escalations/{approval_id}": {"response": "!"},
    "PUT /desk/reviewers/{reviewer_id}": {"name": "theirs"},
    "POST /suggestions/{suggestion_id}/comments": {"text": "?"},
    "POST /suggestions": {"task_id": "TASK", "action": "reply", "confidence": 0.5},
    "POST /tasks": {"id": "t1", "workflow_id": "WORKFLOW", "name": "theirs", "agent_id": "AGENT"},
    "PUT /tasks/{task_id}": {"status": "completed"},
    "POST /tasks/{task_id}/comments": {"text": "?"},
    "POST /agents": {"id": "AGENT", "kind": "scripted", "name": "theirs", "config": {"output": 1}},
    "PUT /agents/{name}": {"kind": "scripted", "name": "theirs", "config": {"output": 1}},
    "PUT /mcps/{name}": {"url": "http://127.0.0.1:1/mcp"},
    "POST /schedules": {"workflow_id": "WORKFLOW", "every_seconds": 3600},
    "PUT /schedules/{schedule_id}": {"workflow_id": "WORKFLOW", "every_seconds": 3600},
    "PUT /budgets/{scope}/{name}": BUDGET,
    "POST /keys": {"name": "theirs", "roles": ["viewer"]},
    "POST /a2a/workflows/{workflow_id}": {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "GetTask",
        "params": {"id": "EXECUTION"},
    },
    "POST /a2a/workflows/{workflow_id}/message:send": {"message": MESSAGE},
    "POST /a2a/workflows/{workflow_id}/message:stream": {"message": MESSAGE},
    "POST /mcp": {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
}
"""What is asked of the routes that take a body; others are sent {}. Words in capitals stand for ids of the first tenant."""

QUERIES: dict[str, dict[str, Any]] = {
    "GET /workflows/{workflow_id}/diff": {"from": 1, "to": 1},
    "GET /executions/{execution_id}/compare": {"with": "EXECUTION"},
}

REFUSED = {403, 404}
ANSWERS: dict[str, set[int]] = {
    "GET /workflows/templates/{template_id}": {200},  # everybody's
    "POST /workflows/templates/{template_id}/instantiate": {201},  # makes one of the caller's own
    "POST /agents": {409},  # names are the platform's: a name that is taken is said to be so, and no more
    "PUT /agents/{name}": {409},
    "DELETE /agents/{name}": {409},
    "POST /agents/{name}/heartbeat": {409},
    "PUT /mcps/{name}": {409},
    "PUT /budgets/{scope}/{name}": {200},  # a budget of the caller's own: its id is made of the tenant
    "DELETE /budgets/{scope}/{name}": {204},  # the one that was just set
    "PUT /reviewers/{reviewer_id}": {200},  # of their own
    "PUT /desk/reviewers/{reviewer_id}": {200},
}
"""Routes with an id that do not simply refuse another tenant's."""

ECHOES = ("POST /approvals/decisions",)
"""What says of each id that it was given what became of it."""

SETS_OWN = ("PUT /budgets/{scope}/{name}", "DELETE /budgets/{scope}/{name}")

SERVED: dict[str, tuple[str, ...]] = {
    "workflow.defined": ("GET /workflows", "GET /workflows/{workflow_id}", "GET /budgets"),
    "workflow.started": ("GET /executions", "GET /executions/{execution_id}"),
    "execution.events": (
        "GET /executions/{execution_id}/stream",
        "GET /executions/{execution_id}/events",
        "GET /executions/{execution_id}/timeline",
        "POST /a2a/workflows/{workflow_id}/tasks/{id}:subscribe",
    ),
    "step.progressed": ("GET /executions/{execution_id}/stream",),
    "approval.events": ("GET /approvals", "GET /suggestions", "GET /audit/approvals", "GET /reviewers"),
    "agent.registered": ("GET /agents", "GET /mcps", "GET /workflows/resources/tools"),
    "runner.status": ("GET /agents",),
    "schedule.defined": ("GET /schedules",),
    "dead_letters": ("GET /dead-letters",),
    "api_key.defined": ("GET /keys", "GET /keys/{key_id}"),
    "api_key.used": ("GET /keys",),
}
"""Topics that the gateway shows something of, and where: each of these routes is visited as another tenant."""

NOT_SHOWN = {
    *(
        "admission",
        "agent.executed",
        "child.ended",
        "comment.added",
        "event.received",
        "handrail.fences",
        "step.requested",
    ),
    *("approval.decided", "approval.requested", "approval.snapshots", "approval.submitted"),
    *("execution.controlled", "execution.snapshots", "workflow.completed"),
    *("suggestion.revision_requested", "suggestion_created"),
    *("reviewer.defined", "reviews", "notification.requested", "notification.delivered"),
}
"""Topics between services: what becomes of them is in the journals above."""


APP = builders.World().app
VISITED = sorted(ruled(APP), key=lambda route: (route.path, route.method != "PUT", route.method))
ROUTES = [route for route in VISITED if route.method != "WS"]
SOCKETS = {"WS /ws": "test_gateway_channels.py::test_another_tenant_hears_nothing"}
"""Sockets, by rule, with the test that visits their channels as another tenant."""


@dataclass
class Tenant:
    """The first tenant, and one of everything that it has."""

    claims: dict[str, Any]
    ids: dict[str, str]

    def path(self, route: Ruled) -> str:
        """With this tenant's ids. A KeyError means: say in `ids` what the new parameter is."""

        def value(found: "re.Match[str]") -> str:
            name = found[1]
            if name == "name":
                name = next(kind for kind in ("agents", "mcps", "budgets") if f"/{kind}/" in route.path)
            return self.ids[name]

        return re.sub(r"\{(\w+)\}", value, route.path)

    def named_in(self, text: str) -> bool:
        """Whether it has an id or a name that only this tenant has, or what it has planted."""
        return MARK in text or any(
            value in text for name, value in self.ids.items() if len(value) > 12 and name != "template_id"
        )

    def body(self, route: Ruled) -> Any:
        text = orjson.dumps(BODIES.get(route.rule, {})).decode()
        for word in ("workflow", "execution", "agent", "approval", "task"):
            text = text.replace(f'"{word.upper()}"', f'"{self.ids[word]}"')
        return orjson.loads(text)


def refused(route: Ruled, answer: httpx2.Response) -> bool:
    """Whether another tenant's request was answered as it has to be: refused, or with an empty list."""
    if "{" not in route.path:
        return answer.status_code < 500
    empty = answer.status_code == 200 and answer.content == b'{"items":[],"next_cursor":null}'
    return empty or answer.status_code in ANSWERS.get(route.rule, REFUSED)


async def ask(client: httpx2.AsyncClient, tenant: Tenant, route: Ruled) -> httpx2.Response:
    body = tenant.body(route) if route.method in ("POST", "PUT") else None
    headers = {"Accept": "application/json, text/event-stream", "A2A-Version": "1.0"}
    query = {name: tenant.ids.get(str(value).lower(), value) for name, value in QUERIES.get(route.rule, {}).items()}
    return await client.request(route.method, tenant.path(route), json=body, params=query, headers=headers)


@pytest_asyncio.fixture(scope="module")
async def gateway(broker: Any, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(str(broker), database_url, tmp_path_factory.mktemp("gateway")) as found:
        yield found


@pytest_asyncio.fixture(scope="module")
async def first(gateway: World) -> Tenant:
    """One of everything, each with the mark in it."""
    run = uuid4().hex[:8]
    claims = {"sub": "ada", "organization_id": f"first-{run}", "project_id": "apollo"}
    agent, server = f"first-agent-{run}", f"first-server-{run}"
    definition = orjson.loads(orjson.dumps(DEFINITION).replace(b"AGENT", agent.encode()))
    async with gateway.client(**claims) as client:

        async def made(method: str, path: str, body: Any) -> Any:
            answer = await client.request(method, f"/api/v1{path}", json=body)
            assert answer.status_code in (200, 201, 202), answer.text
            return answer.json()

        await made("PUT", f"/agents/{agent}", AGENT)
        await made("PUT", f"/mcps/{server}", SERVER)
        workflow = (await made("POST", "/workflows", definition))["id"]
        schedule = await made("POST", "/schedules", {"workflow_id": workflow, "every_seconds": 3600, "note": MARK})
        key = await made("POST", "/keys", {"name": MARK, "roles": ["viewer"], "signs": True})
        await made("PUT", f"/budgets/workflow/{workflow}", BUDGET)
        execution = (await made("POST", f"/workflows/{workflow}/execute", {"input": MARK}))["execution_id"]
        asked = {"customer_id": "customer-of-the-first", "inquiry": MARK}
        inquiry = await made("POST", "/desk/inquiries", asked)
        ids = {
            "workflow_id": workflow, "workflow": workflow, "execution_id": execution, "execution": execution, "id": execution,
            "approval_id": (approval := str(uuid4())), "approval": approval, "suggestion_id": str(uuid4()), "agents": agent,
            "task_id": (task := str(uuid4())), "task": task, "agent": agent, "mcps": server,
            "reviewer_id": f"reviewer-{run}-of-the-first", "inquiry_id": inquiry["id"], "customer_id": "customer-of-the-first",
            "scope": "workflow", "budgets": workflow, "schedule_id": schedule["id"], "key_id": key["id"], "step_id": "agent",
            "node_id": "agent", "version": "1", "signal": "go", "template_id": "customer-support",
        }  # fmt: skip
        await _journal(gateway, claims, ids)
        for path in (f"/approvals/{ids['approval_id']}", f"/suggestions/{ids['suggestion_id']}"):
            assert (await client.get(f"/api/v1{path}")).status_code == 200
        for path in ("/api/v1/dead-letters", "/api/v1/workflows/resources/tools"):
            await _until_marked(client, path)
    return Tenant(claims, ids)


async def _journal(gateway: World, claims: dict[str, Any], ids: dict[str, str]) -> None:
    """What other services would say: the execution has begun and waits, and a record of it could not be taken."""
    whose = {"user_id": claims["sub"], "organization_id": claims["organization_id"], "project_id": claims["project_id"]}
    about = {"execution_id": ids["execution_id"], "workflow_id": ids["workflow_id"]}
    at, step = utc(1_900_000_000.0), {"step_id": "agent", "step_type": "agent_execution", "attempt": 1}
    events = (
        ExecutionStarted(n=1, workflow_version=1, input=MARK, **whose),
        StepStarted(n=2, agent=ids["agent"], input=MARK, run_id=ids["task_id"], **step),
    )
    record = ExecutionRecord(at=at, source=Source(topic="workflow.started", offset=0), events=events, **about)
    await gateway.executions.append(ids["execution_id"], record)
    suggested = Suggested(
        agent=ids["agent"], action="reply", reasoning=MARK, confidence=0.5, suggested_data={"text": MARK}, revision=1
    )
    gates = (
        ApprovalOpened(approval_id=ids["approval_id"], step_id="agent", message=MARK, show=MARK, **whose),
        ApprovalOpened(approval_id=ids["suggestion_id"], step_id="agent", message=MARK, suggestion=suggested, **whose),
    )
    await gateway.approvals.append(ids["execution_id"], ApprovalRecord(at=at, events=gates, **about))
    reviewer = Reviewer(reviewer_id=ids["reviewer_id"], name=MARK)
    known = ReviewerSet(n=1, organization_id=whose["organization_id"], project_id="apollo", by="ada", reviewer=reviewer)
    pool = pool_id(whose["organization_id"], "apollo")
    story = ApprovalRecord(at=at, execution_id=pool, workflow_id="reviewers", events=(known,))
    await gateway.approvals.append(pool, story)
    letter = DeadLetter(
        event_id=str(uuid4()), occurred_at=at, service="scheduler", code="C", reason=MARK, topic="t", partition=0, offset=0,
        execution_id=ids["execution_id"],
    )  # fmt: skip
    await gateway.producer.send_and_wait(DEAD_LETTERS, encode(letter), b"k", 0)
    tool = AgentRegistered(
        event_id=str(uuid4()), occurred_at=at, agent=f"tool/{ids['mcps']}:look", kind="tool", name=f"{ids['mcps']}:look",
        description=MARK, config={"server": ids["mcps"], "parameters": {}}, **whose,
    )  # fmt: skip
    await gateway.producer.send_and_wait(AGENT_REGISTERED, encode(tool), tool.agent.encode(), 0)


async def _until_marked(client: httpx2.AsyncClient, path: str) -> None:
    async with asyncio.timeout(20):
        while MARK not in (await client.get(path)).text:
            await asyncio.sleep(0.02)


async def seen(gateway: World, tenant: Tenant) -> dict[str, str]:
    """Everything that the tenant can read of its own, but streams."""
    found = {}
    async with gateway.client(**tenant.claims) as client:
        for route in ROUTES:
            streams = route.path.endswith(("/stream", ":subscribe"))
            if route.method == "GET" and route.path.startswith(("/api/v1/", "/a2a/")) and not streams:
                answer = await ask(client, tenant, route)
                assert answer.status_code in (200, 400, 409, 422), f"{route}: {answer.text}"
                found[route.rule] = re.sub(r'"(seconds|now|last_used)":[^,}]*', "", answer.text)
    return found


class TestAnotherTenant:
    async def test_sees_nothing_and_changes_nothing(self, gateway: World, first: Tenant) -> None:
        """As an administrator of its own, with the ids of the first tenant, at every route there is."""
        before = await seen(gateway, first)
        shown = {rule for rules in SERVED.values() for rule in rules} & before.keys()
        assert {rule for rule in shown if not first.named_in(before[rule])} == set()
        assert sum(MARK in text for text in before.values()) > 20
        wrong = []
        async with gateway.client(sub="eve", organization_id=f"second-{uuid4().hex[:8]}") as client:

            async def visit(route: Ruled) -> None:
                answer = await ask(client, first, route)
                if not refused(route, answer) or MARK in answer.text:
                    wrong.append(f"{answer.status_code} {route.method} {route.path}: {answer.text[:200]}")
                lists = "{" not in route.path and route.rule not in ECHOES
                if lists and answer.status_code < 400 and first.named_in(answer.text):
                    wrong.append(f"{route.method} {route.path} names what is another's: {answer.text[:200]}")

            apart = [route for route in ROUTES if route.rule not in SETS_OWN]
            for start in range(0, len(apart), 8):
                await asyncio.gather(*map(visit, apart[start : start + 8]))
            for route in ROUTES:
                if route.rule in SETS_OWN:
                    await visit(route)
        assert not wrong, "\n".join(wrong)
        assert await seen(gateway, first) == before

    @pytest.mark.parametrize("other", ["organization_id", "project_id"])
    async def test_is_another_if_only_the_project_or_only_the_organization_differs(
        self, gateway: World, first: Tenant, other: str
    ) -> None:
        async with gateway.client(**{**first.claims, other: "elsewhere"}) as client:
            for route in ROUTES:
                if route.method == "GET" and route.path.startswith("/api/v1/"):
                    answer = await ask(client, first, route)
                    assert MARK not in answer.text, route
                    assert refused(route, answer), route

    async def test_gets_nothing_by_the_tools_of_the_mcp_server(self, gateway: World, first: Tenant) -> None:
        ids = first.ids
        calls: list[tuple[str, dict[str, Any]]] = [
            ("list_workflows", {}),
            ("get_workflow", {"workflow_id": ids["workflow_id"]}),
            ("start_workflow", {"workflow_id": ids["workflow_id"]}),
            ("get_execution", {"execution_id": ids["execution_id"]}),
            ("list_executions", {"workflow_id": ids["workflow_id"]}),
            ("list_approvals", {"execution_id": ids["execution_id"]}),
            ("decide_approval", {"approval_id": ids["approval_id"], "decision": "approved"}),
        ]
        headers = gateway.issuer.bearer(organization_id="second")
        async with strict_client(f"{gateway.url}/mcp", headers) as client:
            assert {name for name, _ in calls} == set(await client.list_tools())
            for name, arguments in calls:
                result = await client.call(name, arguments)
                assert MARK not in str(result), name
                assert name.startswith("list_") or result.get("isError"), (name, result)


class TestLowerRoles:
    @pytest.mark.parametrize("role", sorted(ROLES.keys() - {"admin"}))
    async def test_are_refused_what_the_table_does_not_give_them(
        self, gateway: World, first: Tenant, role: str
    ) -> None:
        wrong = []
        async with gateway.client(**first.claims, roles=[role]) as client:

            async def visit(route: Ruled) -> None:
                answer = await ask(client, first, route)
                if (
                    answer.status_code != 403
                    or answer.json().get("permission") != RULES[route.rule]
                    or MARK in answer.text
                ):
                    wrong.append(f"{answer.status_code} {route.method} {route.path}")

            forbidden = [route for route in ROUTES if RULES[route.rule] not in ROLES[role]]
            for start in range(0, len(forbidden), 8):
                await asyncio.gather(*map(visit, forbidden[start : start + 8]))
        assert len(forbidden) > 20
        assert not wrong, "\n".join(wrong)

    async def test_a_token_without_any_role_may_only_read(self, gateway: World, first: Tenant) -> None:
        async with gateway.client(**first.claims, roles=None) as client:
            assert (await client.get("/api/v1/workflows")).status_code == 200
            assert (await client.post("/api/v1/workflows", json=DEFINITION)).status_code == 403


class TestTables:
    def test_every_route_of_the_document_is_visited(self) -> None:
        document = APP.openapi()["paths"]
        listed = {(method.upper(), path) for path, operations in document.items() for method in operations}
        assert listed - {("POST", path) for path in OPEN} <= {(route.method, route.path) for route in ROUTES}
        assert {route.rule for route in VISITED} == RULES.keys()
        assert {route.rule for route in VISITED if route.method == "WS"} == SOCKETS.keys()
        assert (BODIES.keys() | ANSWERS.keys()) <= RULES.keys()

    def test_every_topic_is_known_to_be_shown_or_not_to_be(self) -> None:
        document = Path(__file__).parents[2] / "contracts" / "asyncapi.yaml"
        channels = set(yaml.safe_load(document.read_text("utf-8"))["channels"])
        assert channels == SERVED.keys() | NOT_SHOWN
        assert not SERVED.keys() & NOT_SHOWN
        assert {rule for rules in SERVED.values() for rule in rules} <= RULES.keys()


async def test_no_topic_and_no_answer_has_a_secret_of_a_key(gateway: World, first: Tenant) -> None:
    async with gateway.client(**first.claims) as client:
        made = (await client.post("/api/v1/keys", json={"name": "k", "roles": ["viewer"], "signs": True})).json()
        secrets = [made["key"].split("_", 2)[2], made["signing_secret"], gateway.settings.key_pepper]
        answers = [await client.get(path) for path in ("/api/v1/keys", f"/api/v1/keys/{made['id']}", "/metrics")]
    records = [
        record.value or b""
        for topic in ("api_key.defined", "api_key.used", "dead_letters")
        for record in await read_whole(gateway.direct, TopicPartition(topic, 0))
    ]
    assert any(made["id"].encode() in record for record in records)
    for secret in secrets:
        assert not any(secret.encode() in record for record in records)
        assert not any(secret in answer.text for answer in answers)
