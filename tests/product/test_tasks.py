"""Tasks over HTTP: what `handrail seed` posts, and what people and agents do with it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import httpx2
from handrail.demo.seed import PERSON, seed
from handrail.tokens import mint
from integration.channel_client import listening

from product.conftest import Api, agent, statuses

Json = dict[str, Any]
ORG = {"organization": "seeded", "project": "p"}


def client_of(api: Api, user: str) -> httpx2.Client:
    token = mint(api.folder / "auth", user=user, **ORG, ttl=3600)
    base = api.platform.cluster.url("gateway") + "/api"
    return httpx2.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=20)


def seeded(api: Api) -> Json:
    """As the command does it."""
    with client_of(api, "seed") as program, client_of(api, PERSON) as person:

        def post(user: str, path: str, body: Any, key: str) -> Any:
            client = person if user == PERSON else program
            answer = client.post(path, json=body, headers={"Idempotency-Key": key})
            assert answer.status_code in (200, 201), answer.text
            return answer.json()

        return seed(post, lambda: program.get("/agents?kind=external&limit=200").json())


async def until(look: Callable[[], Awaitable[Json]], holds: Callable[[Json], object]) -> Json:
    found: Json = {}
    try:
        async with asyncio.timeout(20):
            while not holds(found := await look()):
                await asyncio.sleep(0.03)
    except TimeoutError:
        raise AssertionError(f"it stays {found}") from None
    return found


async def test_the_walk_through_the_seeded_data(api: Api) -> None:
    counts = await asyncio.to_thread(seeded, api)
    assert counts == {"workflows": 3, "agents": 5, "tasks": 5, "suggestions": 3, "comments": 2, "approvals": 1}
    async with api.as_tenant("seeded") as eve:
        before = await _everything(eve)
        assert await asyncio.to_thread(seeded, api) == counts
        assert await _everything(eve) == before, "a second time changes nothing"
        _check_seeded(before)
        url = str(api.client.base_url).removesuffix("/api/v1/")
        async with listening(url, {"Authorization": eve.client.headers["authorization"]}) as listener:
            await listener.subscribe("workflows")
            await _check_walk(eve)
            told = await listener.until(lambda m: m["type"] == "task_update" and m["data"]["id"] == "task-001")
            assert (told["data"]["status"], told["data"]["progress"]) == ("completed", 100)
            updated = await listener.until(lambda m: m["type"] == "workflow_update" and m["data"]["id"] == "wf-001-csa")
            assert {"id", "status", "progress", "agents"} == updated["data"].keys()


async def _everything(eve: Api) -> Json:
    kinds = ("workflows", "agents", "tasks", "suggestions")
    found = {kind: {item["id"]: item for item in (await eve.get(f"/{kind}"))["items"]} for kind in kinds}
    found["comments"] = (await eve.get("/tasks/task-002/comments"))["items"]
    return found


def _check_seeded(found: Json) -> None:
    tasks, agents, workflows = found["tasks"], found["agents"], found["workflows"]
    shown = {task_id: (task["status"], task["progress"]) for task_id, task in tasks.items()}
    assert shown == {
        "task-001": ("in_progress", 75), "task-002": ("pending", 0), "task-003": ("pending", 0),
        "task-100": ("completed", 100), "task-200": ("in_progress", 30),
    }  # fmt: skip
    assert tasks["task-003"]["depends_on"] == ["task-001", "task-002"]
    assert tasks["task-002"]["agent_id"] == "agent-002-er"
    assert (tasks["task-001"]["workflow_id"], tasks["task-001"]["priority"]) == ("wf-001-csa", "high")
    assert tasks["task-100"]["duration_seconds"] == 8700
    assert datetime.fromisoformat(tasks["task-100"]["created_at"]) == datetime.fromisoformat("2026-02-08T10:00:00Z")
    assert {w: (x["status"], x["progress"]) for w, x in workflows.items()} == {
        "wf-001-csa": ("running", 25), "wf-002-dm": ("completed", 100), "wf-003-qc": ("running", 30),
    }  # fmt: skip
    assert {name: a["status"] for name, a in agents.items() if name.startswith("agent-00")} == {
        "agent-001-ta": "busy", "agent-002-er": "online", "agent-003-em": "online", "agent-004-dc": "offline",
        "agent-005-qc": "busy",
    }  # fmt: skip
    assert (agents["agent-001-ta"]["total_tasks"], agents["agent-001-ta"]["success_rate"]) == (1247, 0.98)
    assert agents["agent-001-ta"]["metrics"]["issues_resolved"] == 1222
    decided = {name: (s["status"], s["approved_by"]) for name, s in found["suggestions"].items()}
    assert decided == {"sugg-001": ("pending", ""), "sugg-002": ("pending", ""), "sugg-100": ("approved", PERSON)}
    assert [(c["author_id"], c["author_type"]) for c in found["comments"]] == [
        (PERSON, "human"), ("agent-002-er", "agent"),
    ]  # fmt: skip


async def _check_walk(eve: Api) -> None:
    mine = {"agent_id": "agent-002-er", "status": "in_progress"}
    assert (await eve.get("/tasks", **mine))["items"] == []
    done = await eve.put("/tasks/task-001", {"status": "completed", "output": {"category": "technical"}})
    assert (done["status"], done["progress"], done["output"]) == ("completed", 100, {"category": "technical"})
    second = await until(lambda: eve.get("/tasks/task-002"), lambda task: task["status"] != "pending")
    assert second["status"] == "in_progress"
    [found] = (await eve.get("/tasks", **mine))["items"]
    assert (found["id"], found["comments"]) == ("task-002", 2)
    assert second["input"]["previous_output"] == {"category": "technical"}
    assert (await eve.get("/agents/agent-001-ta"))["total_tasks"] == 1248, "it answers for itself"
    twice = await eve.put("/tasks/task-001", {"status": "completed"}, 409)
    assert twice["code"] == "TASK_SETTLED"
    assert (await eve.put("/tasks/task-003", {"status": "completed"}, 409))["code"] == "NOT_BEGUN"
    assert (await eve.put("/tasks/task-100", {"priority": "low"}, 409))["code"] == "ALREADY_FINISHED"


async def external(api: Api, name: str, **figures: Any) -> str:
    await api.post("/agents", {"id": name, "name": name, **figures}, 201)
    return name


async def test_an_agent_that_nobody_calls_fetches_its_tasks_and_answers_them(api: Api) -> None:
    name = await external(api, "external-loop", total_tasks=9, failed_tasks=1)
    assert (await api.get(f"/agents/{name}"))["status"] == "offline", "it has not said a word"
    beaten = await api.post(f"/agents/{name}/heartbeat", {"every_seconds": 60}, 200)
    assert beaten["status"] == "online"
    retry = {"max_attempts": 2, "backoff_seconds": 0}
    execution = await api.start(
        await api.workflow(agent("a", "b", does=name, retry=retry), agent("b", does="echo")), "x"
    )
    [task] = (await until(lambda: api.get("/tasks", agent_id=name, status="in_progress"), lambda p: p["items"]))[
        "items"
    ]
    assert (await api.get(f"/agents/{name}"))["current_task_id"] == task["id"]
    assert (await api.put(f"/tasks/{task['id']}", {"progress": 40}))["progress"] == 40
    await api.put(f"/tasks/{task['id']}", {"status": "failed", "reason": "not now"})
    await until(lambda: api.get("/tasks", agent_id=name, status="in_progress"), lambda p: p["items"])
    await api.put(f"/tasks/{task['id']}", {"status": "completed", "output": "mine"})
    assert (await api.ended(execution))["status"] == "completed"
    shown = await api.get(f"/agents/{name}")
    assert (shown["total_tasks"], shown["failed_tasks"], shown["success_rate"]) == (11, 2, round(9 / 11, 4))


async def test_a_person_does_an_agents_task_and_what_it_still_answers_is_ignored(api: Api) -> None:
    slow = {"kind": "scripted", "config": {"delay_ms": 1500, "output": "late"}}
    await api.put("/agents/slow-for-people", slow)
    execution = await api.start(
        await api.workflow(agent("a", "b", does="slow-for-people"), agent("b", input="{{previous_output}}"))
    )
    await api.at(execution, "a", "running")
    [task] = (await api.get("/tasks", execution_id=execution, status="in_progress"))["items"]
    answers = await asyncio.gather(
        *(api.client.put(f"/tasks/{task['id']}", json={"status": "completed", "output": n}) for n in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409], "one of them counts"
    won = next(n for n, answer in enumerate(answers) if answer.status_code == 200)
    assert (await api.ended(execution))["result"] == won
    async with api.as_tenant("others") as eve:
        await eve.put(f"/tasks/{task['id']}", {"status": "completed"}, 404)
        assert (await eve.get("/tasks"))["items"] == []
    timeline = (await api.get(f"/executions/{execution}/timeline"))["attempts"]
    assert "completed by ada" in [entry["outcome"] for entry in timeline]


async def test_a_task_is_handed_over_to_an_agent_and_to_a_person(api: Api) -> None:
    name = await external(api, "external-handed-over")
    execution = await api.start(await api.workflow(agent("a", "b", does=name), agent("b", does=name)))
    await api.at(execution, "a", "running")
    [task] = (await api.get("/tasks", execution_id=execution))["items"]
    await api.put(f"/tasks/{task['id']}", {"agent_id": "nobody-of-that-name"}, 422)
    await api.put(f"/tasks/{task['id']}", {"agent_id": "echo", "reason": "it is away"})
    found = await api.at(execution, "b", "running")
    assert statuses(found)["a"] == "completed"
    second = next(t for t in (await api.get("/tasks", execution_id=execution))["items"] if t["step_id"] == "b")
    held = await api.put(f"/tasks/{second['id']}", {"assignee": "ann", "metadata": {"floor": 3}})
    assert (held["status"], held["agent_id"], held["assignee"], held["metadata"]) == (
        "in_progress",
        None,
        "ann",
        {"floor": 3},
    )
    assert (await api.get(f"/executions/{execution}/why"))["waits"][0]["for"] == "person"
    await api.put(f"/tasks/{second['id']}", {"status": "completed", "output": "signed"})
    assert (await api.ended(execution))["result"] == "signed"


async def test_a_due_date_that_passes_shows_on_the_task_and_begins_a_workflow(api: Api) -> None:
    name = await external(api, "external-late")
    trigger = {
        "type": "event",
        "event": "task.overdue",
        "source": "handrail",
        "condition": "input.agent_id == 'external-late'",
    }
    watcher = await api.workflow(agent("tell", input="{{input.step_id}}"), trigger=trigger)
    execution = await api.start(await api.workflow(agent("a", does=name, due_in_seconds=0.2, priority="urgent")))
    late = await until(lambda: api.get("/tasks", agent_id=name, overdue=True), lambda p: p["items"])
    [task] = late["items"]
    assert (task["execution_id"], task["priority"], task["overdue"]) == (execution, "urgent", True)
    told = await until(lambda: api.get(f"/workflows/{watcher}/executions"), lambda p: p["items"])
    assert (await api.ended(told["items"][0]["id"]))["result"] == "a"
    assert "overdue" in [e["outcome"] for e in (await api.get(f"/executions/{execution}/timeline"))["attempts"]]
    moved = await api.put(f"/tasks/{task['id']}", {"due_date": "2199-01-01T00:00:00Z"})
    assert (moved["overdue"], moved["due_date"]) == (False, "2199-01-01T00:00:00Z")
    await api.post(f"/executions/{execution}/cancel")


async def test_an_agents_own_suggestion_is_sent_back_revised_and_decided(api: Api) -> None:
    name = await external(api, "external-suggests")
    await api.post("/workflows", {"id": "wf-suggests", "name": "It suggests"}, 201)
    await api.post("/tasks", {"id": "task-s", "workflow_id": "wf-suggests", "agent_id": name}, 201)
    drafted = {
        "id": "sugg-s",
        "task_id": "task-s",
        "action": "send",
        "confidence": 0.5,
        "suggested_data": {"body": "1"},
    }
    assert (await api.post("/suggestions", drafted, 201))["status"] == "pending"
    said = await api.post("/suggestions/sugg-s/comments", {"text": "friendlier"}, 201)
    assert (said["suggestion_id"], said["task_id"], said["author_id"]) == ("sugg-s", "task-s", "ada")
    second = {**drafted, "revision": 2, "suggested_data": {"body": "2"}, "comment": "friendlier now"}
    await api.post("/suggestions", second, 201)
    await api.post("/suggestions", {**second, "action": "another"}, 409)
    approved = await api.post("/suggestions/sugg-s/approve", {"notes": "go", "revision": 2}, 200)
    assert (approved["suggestion_id"], approved["approved_by"], approved["notes"]) == ("sugg-s", "ada", "go")
    comments = (await api.get("/tasks/task-s/comments"))["items"]
    assert [(c["author_type"], c["text"]) for c in comments] == [("human", "friendlier"), ("agent", "friendlier now")]


async def test_ids_that_clients_give_are_their_tenants_own(api: Api) -> None:
    await external(api, "external-ours")
    tasks = [{"id": f"own-{n}", "workflow_id": "wf-own", "agent_id": "echo"} for n in range(2)]
    await api.post("/workflows", [{"id": "wf-own", "name": "Ours"}], 201)
    async with api.as_tenant("others") as eve:
        theirs = await eve.post("/workflows", {"id": "wf-own", "name": "Theirs"}, 201)
        assert (theirs["id"], theirs["name"], theirs["status"]) == ("wf-own", "Theirs", "active")
        await eve.post("/tasks", {**tasks[0], "name": "theirs"}, 201)
        await eve.get("/tasks/own-1", 404)
    bad = [tasks[0], {**tasks[1], "agent_id": "nobody-of-that-name"}]
    await api.post("/tasks", bad, 422)
    await api.get("/tasks/own-0", 404)
    made: Any = await api.post("/tasks", tasks, 201)
    assert [task["id"] for task in made] == ["own-0", "own-1"]
    again: Any = await api.post("/tasks", tasks, 201)
    assert [task["execution_id"] for task in again] == [task["execution_id"] for task in made]
    await api.post("/tasks", {**tasks[0], "name": "another"}, 409)
    assert (await api.get("/workflows/wf-own"))["name"] == "Ours"
    await api.post("/workflows", {"id": "wf-own", "name": "Another"}, 409)
    first = await api.get("/tasks", workflow_id="wf-own", limit=1)
    rest = await api.get("/tasks", workflow_id="wf-own", cursor=first["next_cursor"])
    assert [t["id"] for t in (*first["items"], *rest["items"])] == ["own-0", "own-1"]
