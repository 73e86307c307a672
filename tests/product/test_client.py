"""A program outside, with the client: it starts, watches while the gateway falls, decides, and has the result."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from handrail.tokens import mint
from handrail_client import AlreadyDecided, ExecutionFailed, Handrail, Invalid, Status, StreamEvent
from handrail_client.bus import Bus

from product.conftest import Api, agent, step

GUIDE = Path(__file__).parents[2] / "docs/guides/client.md"


def token(api: Api) -> str:
    return mint(api.folder / "auth", user="ada", organization="acme", project="p", ttl=3600)


@pytest_asyncio.fixture
async def handrail(api: Api) -> AsyncIterator[Handrail]:
    async with Handrail(api.platform.cluster.url("gateway"), token=lambda: token(api)) as found:
        yield found


def waits(events: list[StreamEvent]) -> bool:
    return any(isinstance(event, Status) and event.status == "waiting" for event in events)


async def test_an_execution_is_seen_through_while_its_gateway_falls(api: Api, handrail: Handrail) -> None:
    gate = step("gate", "human_approval", "last", parameters={"message": "Go?"})
    steps = [agent("first", "gate"), gate, agent("last", input="{{input.word}}")]
    workflow = await handrail.workflows.define({"name": "seen through", "steps": steps})
    execution = await handrail.start(workflow.id, {"word": "done"}, attributes={"vip": True}, key="seen-through")
    assert (
        await handrail.start(workflow.id, {"word": "done"}, attributes={"vip": True}, key="seen-through")
    ).id == execution.id
    heard: list[StreamEvent] = []

    async def watch() -> None:
        async for event in execution.events():
            heard.append(event)

    async with asyncio.timeout(90), asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        while not waits(heard):
            await asyncio.sleep(0.02)
        falling = tasks.create_task(api.platform.cluster.restart("gateway"))
        [approval] = [found async for found in handrail.approvals.list(status="pending", execution_id=execution.id)]
        await handrail.approvals.comment(approval.id, "looks good")
        assert (await handrail.approvals.decide(approval.id, "approved", comment="go")).status == "approved"
        assert await execution.result(timeout=60) == "done"
        await falling
    assert [event.id for event in heard] == [event.id async for event in execution.events()]
    with pytest.raises(AlreadyDecided):
        await handrail.approvals.decide(approval.id, "rejected")
    assert execution.id in [
        found.id async for found in handrail.executions(attributes={"vip": True}, workflow_id=workflow.id)
    ]


async def test_what_was_paused_and_signalled_from_outside_ends_as_told(handrail: Handrail) -> None:
    wait = step("wait", "signal", "end", parameters={"name": "paid"})
    workflow = await handrail.workflows.define(
        {"name": "signalled", "steps": [wait, agent("end", input="{{steps.wait.output}}")]}
    )
    execution = await handrail.start(workflow.id)
    await execution.pause("a moment")
    await execution.resume()
    await execution.signal("paid", {"amount": 120})
    assert await execution.result(timeout=30) == {"amount": 120}
    given_up = await handrail.start(workflow.id)
    await given_up.cancel("changed my mind")
    with pytest.raises(ExecutionFailed, match="cancelled"):
        await given_up.result(timeout=30)


async def test_a_definition_with_a_mistake_is_refused_with_its_place(handrail: Handrail) -> None:
    with pytest.raises(Invalid, match="steps") as caught:
        await handrail.workflows.define({"name": "w", "steps": [agent("a", does="nobody-has-this-name")]})
    assert caught.value.errors


async def test_what_is_published_to_the_topics_is_started_once(api: Api, handrail: Handrail) -> None:
    workflow = await handrail.workflows.define({"name": "from the bus", "steps": [agent("a", input="{{input.n}}")]})
    async with Bus(api.platform.broker.bootstrap, organization_id="acme", project_id="p", user_id="ada") as bus:
        identifier = await bus.start(workflow.id, {"n": 7})
        assert await bus.start(workflow.id, {"n": 7}, execution_id=identifier) == identifier
        assert await handrail.execution(identifier).result(timeout=30) == 7
        trigger = step("t", "trigger", "a", parameters={"kind": "event", "event": "client_told"})
        told = await handrail.workflows.define({"name": "told", "steps": [trigger, agent("a", input="{{input.n}}")]})
        await bus.publish("client_told", {"n": 1}, event_id="told-1")
    await handrail.publish("client_told", {"n": 2})
    async with asyncio.timeout(30):
        while len(found := [each async for each in handrail.executions(workflow_id=told.id)]) < 2:
            await asyncio.sleep(0.05)
    assert sorted([await handrail.execution(each.id).result(timeout=30) for each in found]) == [1, 2]


async def test_the_guides_example_runs_as_it_stands(api: Api, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.S)[0])
    env = os.environ | {"HANDRAIL_URL": api.platform.cluster.url("gateway"), "HANDRAIL_TOKEN": token(api)}
    run = await asyncio.create_subprocess_exec(
        sys.executable, script, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(run.communicate(), 60)
    lines = said.decode().splitlines()
    assert run.returncode == 0, said.decode()
    assert "Pay 120?" in lines and "step_complete check" in lines
    assert "approved" in lines[-1]
