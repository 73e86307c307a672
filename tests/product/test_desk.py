"""The service desk as its users have it: the client in one object, on the whole product."""

import asyncio
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from handrail.bench.desk import SIMPLE, Work
from handrail.demo.desk import ANSWER, AT_ONCE, PERSON, DeskStory
from handrail.main import app
from handrail.tokens import mint
from handrail_client import CustomerServiceDesk, Forbidden, UnknownKey
from support.logs import read_log
from typer.testing import CliRunner

from product.conftest import Api, Json
from product.test_reviewers import Receiver

GUIDE = Path(__file__).parents[2] / "docs/guides/desk.md"
ROUTINE, COMPLEX = SIMPLE[0], "The bank disputes a payment of ours"
"""For the first tier, and for the second."""
HELD_SECONDS = 1.5
"""Longer than it takes until fifty agents have begun."""


ORGANIZATION = "desked"
"""One of its own: reviewers are the project's, and others would be asked, too."""


def token(api: Api, user: str = "ada") -> str:
    return mint(api.folder / "auth", user=user, organization=ORGANIZATION, project="p", ttl=3600)


def desk_of(api: Api, name: str, user: str = "ada", **options: Any) -> CustomerServiceDesk:
    return CustomerServiceDesk(name=name, url=api.platform.cluster.url("gateway"), token=token(api, user), **options)


async def until(look: Callable[[], Any], seconds: float = 20) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := await look()):
            await asyncio.sleep(0.05)
    return found


async def asked(desk: CustomerServiceDesk, *ids: str) -> list[Json]:
    """What the person is asked about these inquiries, the most urgent first, once it is about all of them."""

    async def look() -> list[Json] | None:
        mine = [each async for each in desk.escalations() if each["execution_id"] in ids]
        return mine if len(mine) == len(ids) and {each["assignee"] for each in mine} == {PERSON} else None

    return list(await until(look))


async def test_the_story_of_a_desk(api: Api) -> None:
    said: list[str] = []
    found = await DeskStory(api.platform.cluster.url("gateway"), lambda user: token(api, user), said.append).run()
    simple, hard, by_person = found["simple"], found["complex"], found["person"]
    assert (simple["tier"], simple["escalated"], simple["escalations"]) == ("Frontline", False, [])
    assert (hard["tier"], hard["escalated"], hard["escalations"]) == ("Expert", True, ["Frontline", "Specialist"])
    assert (by_person["reviewer"], by_person["response"], by_person["escalated"]) == (PERSON, ANSWER, True)
    assert len({each["id"] for each in found["many"]}) == AT_ONCE
    assert all(each["status"] == "answered" and each["response"] for each in found["many"])


async def scripted(api: Api, model: str, *seconds: float, unsure: int = 0) -> str:
    """A model that answers each time after so many seconds, the last of them from then on; sure, except for the first times."""

    def said(number: int) -> Json:
        confidence = 0.1 if number < unsure else 0.9
        answer = {"response": "Done.", "confidence": confidence, "escalate": False, "reason": "scripted"}
        return {"tool_calls": [{"name": "final_answer", "arguments": answer}]}

    replies = [{**said(number), "delay_seconds": each} for number, each in enumerate(seconds)]
    async with httpx2.AsyncClient() as client:
        (await client.post(f"{api.platform.model_url}/scripts/{model}", json=replies)).raise_for_status()
    return f"offline:{model}"


async def calls(api: Api, model: str, count: int) -> bool:
    async with httpx2.AsyncClient() as client:
        return len((await client.get(f"{api.platform.model_url}/calls/{model}")).json()) == count


async def work_of(api: Api, ids: set[str]) -> list[Work]:
    """As the one runner has told it: when each attempt of an agent began and ended."""
    records = [record.json() or {} for record in await read_log(api.platform.broker.bootstrap, "agent.executed")]
    return [
        Work(said["agent"], ended - said["duration_ms"] / 1000, ended)
        for said in records
        if said.get("execution_id") in ids and said["event_type"] == "agent.executed"
        for ended in [datetime.fromisoformat(said["occurred_at"]).timestamp()]
    ]


@pytest.mark.parametrize("strategy", ["least_loaded", "round_robin"])
async def test_fifty_at_one_time_are_spread_evenly_over_equal_agents(api: Api, strategy: str) -> None:
    name = strategy.replace("_", "-")
    model = await scripted(api, f"fifty-{name}", HELD_SECONDS)
    settings = {"strategy": strategy, "classifier": False, "model": model}
    async with desk_of(api, name, tiers=["Only"], agents_per_tier=[4], settings=settings) as desk:
        found = await asyncio.gather(*(desk.handle(f"c-{number}", ROUTINE) for number in range(50)))
    assert sorted(Counter(each["agent"] for each in found).values()) == [12, 12, 13, 13]
    work = await work_of(api, {each["id"] for each in found})
    together = max(each.began for each in work) < min(each.ended for each in work)
    assert len(work) == 50 and together, "so these counts are the loads of that moment, too"


@pytest.mark.parametrize(("strategy", "expected"), [("least_loaded", "3333"), ("round_robin", "3123")])
async def test_who_is_busy_is_spared_or_has_its_turn(api: Api, strategy: str, expected: str) -> None:
    name = f"busy-{strategy.replace('_', '-')}"
    model = await scripted(api, name, 1, 1, 0)
    settings = {"strategy": strategy, "classifier": False, "model": model}
    async with desk_of(api, name, tiers=["Only"], agents_per_tier=[3], settings=settings) as desk:
        held = [asyncio.create_task(desk.handle(f"held-{number}", ROUTINE)) for number in range(2)]
        await until(lambda: calls(api, name, 2))
        quick = [(await desk.handle("quick", ROUTINE))["agent"] for _ in range(4)]
        assert not any(each.done() for each in held)
        await asyncio.gather(*held)
    assert quick == [f"Only {number}" for number in expected]


async def test_an_agent_sees_what_the_customer_asked_before(api: Api) -> None:
    async with desk_of(api, "remembers") as desk:
        first = await desk.handle("lena", "Where is my parcel?")
        await desk.handle("omar", "My invoice is wrong")
        second = await desk.handle("lena", ROUTINE)
        assert [each["id"] async for each in desk.history("lena")] == [second["id"], first["id"]]
        assert "parcel" in second["response"]
    async with api.as_tenant(ORGANIZATION) as own:
        steps = (await own.get(f"/executions/{second['id']}"))["steps"]
    [given] = [step["input"]["history"] for step in steps if step["step_id"] == "tier_1"]
    assert [(each["inquiry"], each["response"]) for each in given] == [("Where is my parcel?", first["response"])]


async def test_a_desk_that_is_changed_under_load_loses_nothing(api: Api) -> None:
    async with desk_of(api, "changing", tiers=["One", "Two"], agents_per_tier=[3, 2]) as desk:
        await desk.handle("c", ROUTINE)
        texts = [COMPLEX if number % 3 == 0 else ROUTINE for number in range(40)]
        under_way = [asyncio.create_task(desk.handle(f"c-{number}", text)) for number, text in enumerate(texts)]
        await asyncio.sleep(0.1)
        async with desk_of(api, "changing", tiers=["A", "B", "C"], agents_per_tier=[1, 4, 1]) as changed:
            await changed.status()
            under_way += [asyncio.create_task(changed.handle(f"d-{n}", text)) for n, text in enumerate(texts[:10])]
            found = await asyncio.gather(*under_way)
            status = await changed.status()
        assert {each["status"] for each in found} == {"answered"} and len({each["id"] for each in found}) == 50
        assert {each["tier"] for each in found[40:]} <= {"A", "B", "C"}
        assert {each["tier"] for each in found} & {"One", "Two"}, "those that were under way kept the desk as it was"
        assert [(tier["name"], tier["agents"]) for tier in status["tiers"]] == [("A", 1), ("B", 4), ("C", 1)]
        assert (status["stats"]["answered"], status["stats"]["open"], status["stats"]["failed"]) == (51, 0, 0)


async def test_inquiries_under_way_still_come_to_a_tier_that_is_gone(api: Api) -> None:
    settings = {"model": await scripted(api, "shrinks", 1, 1, 1, 1, 0, unsure=4), "classifier": False}
    async with desk_of(api, "shrinks", tiers=["One", "Two"], agents_per_tier=[2, 2], settings=settings) as desk:
        under_way = [asyncio.create_task(desk.handle(f"c-{number}", ROUTINE)) for number in range(4)]
        await until(lambda: calls(api, "shrinks", 4))
        async with desk_of(api, "shrinks", tiers=["Solo"], agents_per_tier=[1]) as shrunk:
            assert [each["name"] for each in (await shrunk.status())["agents"]] == ["Solo 1"]
            found = await asyncio.gather(*under_way)
            assert {each["tier"] for each in found} == {"Two"}
            assert (await shrunk.handle("d", ROUTINE))["agent"] == "Solo 1"


async def test_who_comes_in_with_a_key_may_what_its_permissions_say(api: Api) -> None:
    async with desk_of(api, "locked", enable_auth=True) as desk:
        desk.add_api_key(api_key="vip", client_id="premium", permissions={"customer_service", "priority"})
        desk.add_api_key(api_key="plain", client_id="standard", permissions={"customer_service"})
        desk.add_api_key(api_key="other", client_id="auditor", permissions={"read"})
        assert (await desk.handle("c", ROUTINE, api_key="vip", priority="urgent"))["priority"] == "urgent"
        assert (await desk.handle("c", ROUTINE, api_key="plain"))["status"] == "answered"
        with pytest.raises(Forbidden, match="`priority`"):
            await desk.handle("c", ROUTINE, api_key="plain", priority="high")
        with pytest.raises(Forbidden, match="`customer_service`"):
            await desk.handle("c", ROUTINE, api_key="other")
        for wrong in (None, "guessed"):
            with pytest.raises(UnknownKey):
                await desk.handle("c", ROUTINE, api_key=wrong)
    async with api.as_tenant(ORGANIZATION) as own:
        keys = {each["name"]: each["revoked"] for each in (await own.get("/keys", limit=200))["items"]}
    assert [keys[name] for name in ("premium", "standard", "auditor")] == [True] * 3


async def test_people_are_asked_by_urgency_and_what_is_late_is_told(api: Api) -> None:
    sla = {"first_answer_seconds": 0.2, "resolution_seconds": 0.3}
    async with desk_of(api, "late", settings={"sla": sla, "human": {"notify": False}}) as desk:
        desk.add_human_reviewer(PERSON)
        wishes = [
            (urgency, await desk.handle("c", "A lawsuit", priority=urgency, escalate=True, timeout=0))
            for urgency in ("low", "urgent", "medium")
        ]
        ids = [wish["id"] for _, wish in wishes]
        queue = await asked(desk, *ids)
        assert [each["priority"] for each in queue] == ["urgent", "medium", "low"]

        async def breached() -> bool:
            return bool((await desk.status())["stats"]["breached"] == 3)

        await until(breached)
        assert (await desk.find(ids[0]))["sla"]["breached"] == ["first_answer", "resolution"]
        with pytest.raises(Forbidden, match=f"{PERSON} is to decide"):
            await desk.answer(queue[0]["id"], "mine")
        async with desk_of(api, "late", PERSON) as sarah:
            for each in queue:
                await sarah.answer(each["id"], f"To {each['priority']}.")
        for urgency, wish in wishes:
            found = await desk.find(wish["id"], timeout=20)
            assert (found["response"], found["reviewer"], found["tier"]) == (f"To {urgency}.", PERSON, "person")


async def test_the_answer_is_called_back(api: Api) -> None:
    receiver = Receiver()
    try:
        async with desk_of(api, "calls") as desk:
            found = await desk.handle("c", ROUTINE, callback_url=receiver.url)
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
    assert len(receiver.calls) == 2, "the first was refused"
    told = json.loads(receiver.calls[-1][1])
    assert (told["customer_id"], told["answer"]["response"]) == ("c", found["response"])


async def test_the_same_inquiry_asked_twice_is_one(api: Api) -> None:
    async with desk_of(api, "twice") as desk:
        first = await desk.handle("c", ROUTINE, key="order-4711")
        await desk.handle("c", "Where is my parcel?")
        assert (await desk.handle("c", ROUTINE, key="order-4711"))["id"] == first["id"]
        assert len([each async for each in desk.history("c")]) == 2


async def test_a_desk_on_the_command_line(api: Api) -> None:
    where = ("--url", api.platform.cluster.url("gateway"), "--desk", "shell")

    async def run(user: str, *arguments: str) -> str:
        env = {"HANDRAIL_TOKEN": token(api, user)}
        done = await asyncio.to_thread(CliRunner().invoke, app, ["desk", *arguments, *where], env=env)
        assert done.exit_code == 0, done.output
        return str(done.output)

    text = await run("ada", "load", "--inquiries", "10", "--concurrent", "5", "--complex", "0.2")
    assert "answers         10 in" in text and re.search(r"escalated +2\b", text) and "errors          none" in text
    async with desk_of(api, "shell") as desk:
        desk.add_human_reviewer(PERSON)
        await desk.status()
        text = await run("ada", "ask", "A lawyer, please", "--escalate", "--timeout", "0")
        inquiry = re.findall(r"inquiry (\S+) is", text)[0]
        [escalation] = await asked(desk, inquiry)
        assert escalation["id"] in await run("ada", "escalations")
        assert f"approved, by {PERSON}" in await run(PERSON, "answer", escalation["id"], "She will call you.")
        assert (await desk.find(inquiry, timeout=20))["response"] == "She will call you."
    assert "She will call you." not in await run("ada", "ask", ROUTINE)


async def test_the_guides_example_runs_as_it_stands(api: Api, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.S)[0])
    env = os.environ | {"HANDRAIL_URL": api.platform.cluster.url("gateway"), "HANDRAIL_TOKEN": token(api)}
    run = await asyncio.create_subprocess_exec(
        sys.executable, script, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(run.communicate(), 60)
    assert run.returncode == 0, said.decode()
    lines = said.decode().splitlines()
    assert lines[0] == "You can see and change your account under Settings." and "Handled by: Support 1" in lines[1]
