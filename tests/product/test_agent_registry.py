"""Agents over HTTP: their figures, choice by capabilities, breakers, and who is there. A platform of its own: its runner dies."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from chaos.test_faults import require_read_models_equal_replay
from handrail.embedded.process import free_port
from handrail_contracts import topics
from handrail_projector.feed import connect
from handrail_runtime.service import serve_http
from handrail_runtime.settings import Settings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from support.logs import read_log

from product.conftest import Api, Json, product_in, step

SEED: list[Json] = [
    {
        "id": "agent-001-ta", "name": "TicketAnalyzer", "status": "online", "success_rate": 0.98, "total_tasks": 1247,
        "capabilities": ["parse_email", "classify_issue", "prioritize"], "failed_tasks": 25,
    },
    {
        "id": "agent-002-er", "name": "EmailResponder", "status": "online", "success_rate": 0.96, "total_tasks": 856,
        "capabilities": ["draft_response", "verify_accuracy", "apply_tone"], "failed_tasks": 34,
    },
    {
        "id": "agent-004-dc", "name": "DataConverter", "status": "offline", "success_rate": 0.94, "total_tasks": 543,
        "capabilities": ["validate_data", "transform_format", "handle_errors"], "failed_tasks": 33,
    },
]  # fmt: skip


AGAIN = {"max_attempts": 100, "backoff_seconds": 0.05, "multiplier": 1}
"""Until the runner has read the registration of the agent that can do it."""


@dataclass
class Agents:
    """Real HTTP agents, each at an address of its own, that answer with the status that the test sets, when it lets them."""

    url: str
    status: dict[str, int] = field(default_factory=dict)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def execute(self, request: Request) -> Response:
        name = request.path_params["name"]
        self.asked.append(name)
        if name in self.held:
            await self.held[name].wait()
        return JSONResponse({"output": f"{name} did it"}, self.status.get(name, 200))

    def hold(self, name: str) -> asyncio.Event:
        self.held[name] = asyncio.Event()
        return self.held[name]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def agents() -> AsyncIterator[Agents]:
    port = free_port()
    found = Agents(f"http://127.0.0.1:{port}")
    app = Starlette(routes=[Route("/{name}/api/v1/execute", found.execute, methods=["POST"])])
    server = await serve_http(app, Settings(), port)
    yield found
    server.should_exit = True


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with product_in(tmp_path_factory.mktemp("registry"), HANDRAIL_RUNNER_STATUS_SECONDS="0.4") as found:
        yield found


async def register(api: Api, agents: Agents, name: str, *capabilities: str, **config: Any) -> str:
    body = {"kind": "http", "capabilities": list(capabilities), "config": {"url": f"{agents.url}/{name}", **config}}
    await api.put(f"/agents/{name}", body)
    return name


async def until(api: Api, name: str, holds: Callable[[Json], object]) -> Json:
    """The agent, once that holds."""
    found: Json = {}
    try:
        async with asyncio.timeout(30):
            while not holds(found := await api.get(f"/agents/{name}")):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"agent {name} is {found}") from None
    return found


def does(name: str = "", **options: Any) -> Json:
    """A step that names an agent, or asks for capabilities."""
    wanted = {"capabilities": options.pop("capabilities")} if "capabilities" in options else {"agent_id": name}
    return step("do", "agent_execution", parameters={**wanted, "input": "x"}, **options)


async def test_figures_move_as_steps_are_done_and_fail(api: Api, agents: Agents) -> None:
    name = await register(api, agents, "counted")
    fresh = await api.get(f"/agents/{name}")
    assert (fresh["total_tasks"], fresh["success_rate"], fresh["last_seen"]) == (0, None, None)
    assert fresh["metrics"]["avg_task_duration_seconds"] is None
    for status, ended in ((200, "completed"), (200, "completed"), (422, "failed")):
        agents.status[name] = status
        assert (await api.run(does(name)))["status"] == ended
    found = await until(api, name, lambda agent: agent["total_tasks"] == 3 and agent["status"] == "online")
    assert (found["id"], found["failed_tasks"], found["success_rate"]) == (name, 1, 0.6667)
    assert found["last_seen"] is not None
    assert found["current_task_id"] is None
    assert found["metrics"]["avg_task_duration_seconds"] > 0


async def test_attempts_count_one_by_one(api: Api, agents: Agents) -> None:
    name = await register(api, agents, "stubborn")
    agents.status[name] = 503
    retry = {"max_attempts": 2, "backoff_seconds": 0.01}
    assert (await api.run(does(name, retry=retry)))["status"] == "failed"
    found = await until(api, name, lambda agent: agent["total_tasks"] == 2)
    assert found["failed_tasks"] == 2


async def test_an_agent_is_busy_while_it_works(api: Api, agents: Agents) -> None:
    name = await register(api, agents, "worker", "hard_work")
    for steps in (does(name), does(capabilities=["hard_work"])):
        release = agents.hold(name)
        execution_id = await api.start(await api.workflow(steps))
        found = await until(api, name, lambda agent: agent["status"] == "busy")
        [started] = [event for event in await api.events(execution_id) if event["type"] == "step.started"]
        assert found["current_task_id"] == started["run_id"]
        assert [each["id"] for each in (await api.get("/agents", status="busy"))["items"]] == [name]
        release.set()
        await api.ended(execution_id)
        assert (await until(api, name, lambda agent: agent["status"] == "online"))["current_task_id"] is None


async def test_what_models_used_is_counted(api: Api) -> None:
    await api.put("/agents/thinker", {"kind": "llm", "config": {"model": "offline"}})
    await api.run(does("thinker"))
    metrics = (await until(api, "thinker", lambda agent: agent["total_tasks"] == 1))["metrics"]
    assert metrics["model_calls"] == 1
    assert min(metrics["input_tokens"], metrics["output_tokens"]) > 0


async def test_a_shared_agent_shows_each_tenant_what_it_did_for_it(api: Api) -> None:
    await api.run(does("echo"))
    ours = await until(api, "echo", lambda agent: agent["total_tasks"])
    assert ours["shared"] is True
    async with api.as_tenant("umbrella") as other:
        theirs = await other.get("/agents/echo")
        assert (theirs["total_tasks"], theirs["last_seen"]) == (0, None)
        await other.get("/agents/counted", 404)


async def test_a_failing_agent_is_left_alone_and_tried_again(api: Api, agents: Agents) -> None:
    breaker = {"failures": 2, "pause_seconds": 0.5, "max_pause_seconds": 1}
    name = await register(api, agents, "flaky-service", breaker=breaker)
    agents.status[name] = 503
    retry = {"max_attempts": 60, "backoff_seconds": 0.1, "multiplier": 1}
    execution_id = await api.start(await api.workflow(does(name, retry=retry)))
    found = await until(api, name, lambda agent: agent["breaker"]["state"] == "open")
    assert found["status"] == "offline"
    assert found["breaker"]["failures"] >= 2
    assert found["breaker"]["since"] < found["breaker"]["retry_at"]
    agents.status[name] = 200
    execution = await api.ended(execution_id)
    assert execution["status"] == "completed"
    closed = await until(api, name, lambda agent: agent["breaker"]["state"] == "closed")
    assert closed["status"] == "online"
    retries = [event for event in await api.events(execution_id) if event["type"] == "step.retry_scheduled"]
    refused = [event["error"] for event in retries if event["error"]["code"] == "AGENT_UNAVAILABLE"]
    assert f"the breaker of agent {name} is open after " in refused[0]["message"]
    counted = await until(api, name, lambda agent: agent["total_tasks"] == len(retries) - len(refused) + 1)
    assert counted["total_tasks"] == agents.asked.count(name), "a refusal is no task"
    async with httpx2.AsyncClient() as client:
        metrics = (await client.get(f"{api.platform.cluster.url('agent-runner')}/metrics")).text
    assert f'handrail_breaker_opened_total{{agent="{name}"}}' in metrics


async def test_capabilities_choose_an_agent_and_another_one_when_it_fails(api: Api, agents: Agents) -> None:
    first = await register(api, agents, "a-drafter", "draft", "german")
    second = await register(api, agents, "b-drafter", "draft", "german", "french")
    await register(api, agents, "a-reader", "german")
    agents.status[first] = 503
    execution = await api.run(does(capabilities=["german", "draft"], retry=AGAIN))
    assert execution["result"] == f"{second} did it"
    assert execution["steps"][0]["agent"] == second
    timeline = (await api.get(f"/executions/{execution['id']}/timeline"))["attempts"]
    *failed, done = [(each["agent"], each["outcome"]) for each in timeline]
    assert set(failed) == {(first, "failed, tried again")}
    assert done == (second, "completed")
    assert (await until(api, first, lambda agent: agent["total_tasks"]))["success_rate"] == 0
    assert (await until(api, second, lambda agent: agent["total_tasks"]))["success_rate"] == 1
    bodies = [record.json() or {} for record in await read_log(api.platform.broker.bootstrap, topics.AGENT_EXECUTED)]
    asked = [body["agent"] for body in bodies if body.get("execution_id") == execution["id"]]
    assert asked == [each["agent"] for each in timeline]
    ends = [record.json() or {} for record in await read_log(api.platform.broker.bootstrap, topics.WORKFLOW_COMPLETED)]
    [end] = [body for body in ends if body.get("execution_id") == execution["id"]]
    assert end["metadata"]["agents_used"] == [first, second]
    seen = await api.client.get(f"{api.platform.cluster.url('gateway')}/workflows/{execution['workflow_id']}")
    assert seen.json()["tasks"] == [{"agent": second, "status": "completed"}]


@pytest.mark.parametrize("strategy", ["least_loaded", "round_robin"])
async def test_equals_share_the_work_and_who_knows_the_topic_is_preferred(
    api: Api, agents: Agents, strategy: str
) -> None:
    """All are asked while none has answered: then what is chosen is what is under way."""
    able, knows = f"desk-{strategy}", f"taxes-{strategy}"
    names = [await register(api, agents, f"{strategy}-{n}", able, *([knows] * (n == 2))) for n in range(3)]
    for name in names:
        await api.run(does(name))
    agents.asked.clear()
    release = [agents.hold(name) for name in names]
    parameters = {"capabilities": [able], "choose": {"strategy": strategy, "prefer": "topic"}, "input": "{{input}}"}
    workflow_id = await api.workflow(step("do", "agent_execution", parameters=parameters))
    plain = [await api.start(workflow_id, {"topic": "sailing"}) for _ in range(10)]
    async with asyncio.timeout(30):
        while len(agents.asked) < 10:
            await asyncio.sleep(0.02)
    assert sorted(agents.asked.count(name) for name in names) == [3, 3, 4]
    for each in release:
        each.set()
    special = [await api.start(workflow_id, {"topic": [knows]}) for _ in range(3)]
    ended = [await api.ended(execution_id) for execution_id in (*plain, *special)]
    assert {each["status"] for each in ended} == {"completed"}
    assert {each["steps"][0]["agent"] for each in ended[10:]} == {names[2]}


async def test_an_agent_with_an_open_breaker_is_not_chosen(api: Api, agents: Agents) -> None:
    name = await register(api, agents, "a-broken", "translate", breaker={"failures": 1, "pause_seconds": 60})
    await register(api, agents, "b-sound", "translate")
    agents.status[name] = 503
    await api.run(does(name))
    await until(api, name, lambda agent: agent["breaker"]["state"] == "open")
    execution = await api.run(does(capabilities=["translate"], retry=AGAIN))
    assert execution["steps"][0]["agent"] == "b-sound"
    assert agents.asked.count(name) == 1


async def test_capabilities_that_nobody_has_are_refused_with_their_place(api: Api, agents: Agents) -> None:
    await register(api, agents, "speller", "spell_check")
    await register(api, agents, "typesetter", "typesetting")
    for wanted, said in (
        (["spel_check"], "no agent has 'spel_check'; did you mean 'spell_check'?"),
        (["spell_check", "typesetting"], "no agent has all of spell_check, typesetting; register one"),
    ):
        told = await api.post("/workflows", {"name": "w", "steps": [does(capabilities=wanted)]}, 422)
        [error] = told["errors"]
        assert (error["path"], error["code"]) == ("steps[0].parameters.capabilities", "no_capable_agent")
        assert error["message"].startswith(said)
    async with api.as_tenant("umbrella") as other:
        told = await other.post("/workflows", {"name": "w", "steps": [does(capabilities=["spell_check"])]}, 422)
        assert told["errors"][0]["code"] == "no_capable_agent"


async def test_agents_are_taken_as_lists_show_them(api: Api) -> None:
    made: Any = await api.post("/agents", SEED, 201)
    assert [each["id"] for each in made] == [each["id"] for each in SEED]
    found = await api.get("/agents/agent-001-ta")
    assert (found["name"], found["kind"], found["status"]) == ("TicketAnalyzer", "external", "online")
    assert (found["total_tasks"], found["failed_tasks"]) == (SEED[0]["total_tasks"], SEED[0]["failed_tasks"])
    assert found["capabilities"] == SEED[0]["capabilities"]
    one = await api.post("/agents", {"id": "agent-009", "kind": "scripted", "config": {"output": "ok"}}, 201)
    assert (one["id"], one["config"]) == ("agent-009", {"output": "ok"})
    assert (await api.run(does("agent-009")))["result"] == "ok"
    told = await api.post("/agents", [SEED[1], {"id": "x", "kind": "http"}], 422)
    assert told["errors"][0]["path"] == "[1]"
    async with api.as_tenant("umbrella") as other:
        assert (await other.post("/agents", [{"id": "mine"}, SEED[0]], 409))["code"] == "NAME_TAKEN"
        await other.get("/agents/mine", 404)


async def test_lists_are_paged_and_filtered(api: Api) -> None:
    everybody = [each["id"] for each in (await api.get("/agents", limit=200))["items"]]
    assert everybody == sorted(everybody)
    paged: list[str] = []
    page = await api.get("/agents", limit=3)
    while True:
        paged += [each["id"] for each in page["items"]]
        if page["next_cursor"] is None:
            break
        page = await api.get("/agents", limit=3, cursor=page["next_cursor"])
    assert paged == everybody
    able = await api.get("/agents", capability="draft_response")
    assert [each["id"] for each in able["items"]] == ["agent-002-er"]
    assert {each["kind"] for each in (await api.get("/agents", kind="llm"))["items"]} == {"llm"}
    palette = (await api.get("/workflows/resources/agents"))["items"]
    assert {each["id"]: each["capabilities"] for each in palette}["agent-002-er"] == SEED[1]["capabilities"]
    assert {each["status"] for each in palette} <= {"online", "busy", "offline"}


async def test_an_agent_that_no_runner_can_make_says_why(api: Api) -> None:
    await api.put("/agents/gone", {"kind": "python", "config": {"entry_point": "no_such_package:run"}})
    assert (await api.run(does("gone")))["status"] == "failed"
    found = await until(api, "gone", lambda agent: agent["status"] == "offline")
    assert "No module named 'no_such_package'" in found["problem"]


async def test_without_a_runner_every_agent_is_offline(api: Api) -> None:
    cluster = api.platform.cluster
    assert (await until(api, "echo", lambda agent: agent["status"] == "online"))["shared"]
    cluster.kill("agent-runner")
    await until(api, "echo", lambda agent: agent["status"] == "offline")
    await cluster.restart("agent-runner")
    await until(api, "echo", lambda agent: agent["status"] == "online")


async def test_a_runner_that_is_stopped_says_so(api: Api) -> None:
    cluster, connection = api.platform.cluster, await connect(api.platform.database.url, "handrail")

    async def until_there_are(*names: str) -> None:
        async with asyncio.timeout(30):
            while await connection.fetchval("SELECT array_agg(runner_id ORDER BY 1) FROM runners") != list(names):
                await asyncio.sleep(0.05)

    try:
        await until_there_are("agent-runner-0")
        await cluster.add("agent-runner")
        await until_there_are("agent-runner-0", "agent-runner-1")
        await cluster.remove("agent-runner", 1)
        await until_there_are("agent-runner-0")
    finally:
        await connection.close()


async def test_the_read_models_equal_a_replay(api: Api) -> None:
    await require_read_models_equal_replay(api.platform)
