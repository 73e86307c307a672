"""What must hold at scale. `make scale` runs it at full size; CI a tenth of it. Times are told, never asserted."""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from chaos.figures import percentile, tell
from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.envelope import utc
from handrail_contracts.ids import partition_of
from handrail_contracts.journal import JournalFilter
from handrail_contracts.topics import EXECUTION_PARTITIONS
from handrail_contracts.triggers import ScheduleDefined, Timetable
from handrail_contracts.workflows import WorkflowStarted
from support.logs import accepted, read_log

from product.conftest import Api, agent, step

FULL = bool(os.environ.get("HANDRAIL_SCALE"))


async def test_a_definition_of_5000_steps_is_checked_whole(api: Api) -> None:
    steps = [
        agent(f"s{n}", f"s{n + 1}", input=f"{{{{steps.s{max(0, n - 1)}.output}}}}" if n else "x") for n in range(4999)
    ]
    document = {"name": "long", "steps": [*steps, agent("s4999")]}
    workflow_id = await api.workflow(agent("a"))
    began = time.perf_counter()
    told = await api.post(f"/workflows/{workflow_id}/validate", document, 200)
    tell("validate 5,000 steps", f"{time.perf_counter() - began:.2f} s")
    assert told == {"valid": True, "errors": []}
    steps[4000]["next_steps"] = ["nobody"]
    told = await api.post(f"/workflows/{workflow_id}/validate", document, 200)
    assert told["errors"][0]["path"] == "steps[4000].next_steps[0]"


async def test_many_schedules_due_in_one_minute_fire_once_each_though_the_scheduler_is_killed(api: Api) -> None:
    count = 20_000 if FULL else 2_000
    workflow_id = await api.workflow(step("t", "data_transform", parameters={"output": 1}))
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=25 if FULL else 8)
    timetable = Timetable(every_seconds=10_000_000, start_at=due)
    load, puts = api.platform.load, []
    for number in range(count):
        message = ScheduleDefined(
            event_id=f"{workflow_id}-{number}", occurred_at=utc(time.time()), user_id="ada", organization_id="acme",
            project_id="p", execution_id=f"schedule:{workflow_id}-{number}", workflow_id=workflow_id,
            timetable=timetable, overlap="allow",
        )  # fmt: skip
        key = message.execution_id
        puts.append(
            load.put(
                topics.SCHEDULE_DEFINED,
                encode(message),
                key=key.encode(),
                partition=partition_of(key, EXECUTION_PARTITIONS),
            )
        )
        if len(puts) == 500:
            await asyncio.gather(*puts)
            puts = []
    await asyncio.gather(*puts)
    await asyncio.sleep(max(0.0, due.timestamp() - time.time()) + 0.05)
    await api.platform.cluster.restart("scheduler")
    async with asyncio.timeout(120):
        while await _count(api, workflow_id) < count:
            await asyncio.sleep(0.5)
    records = await read_log(api.platform.broker.bootstrap, topics.EXECUTION_EVENTS)
    fired = Counter[str]()
    lateness = []
    for record in accepted(records, JournalFilter):
        body: Any = record.json()
        for event in body.get("events", ()):
            if event["type"] == "schedule.fired" and body["workflow_id"] == workflow_id:
                fired[body["execution_id"]] += 1
                lateness.append(datetime.fromisoformat(body["at"]).timestamp() - due.timestamp())
    assert len(fired) == count
    assert set(fired.values()) == {1}
    assert min(lateness) >= 0
    tell(f"{count:,} schedules due at once, scheduler killed: last fired after", f"{max(lateness):.1f} s")
    tell("p50 / p99 of them", f"{percentile(lateness, 0.5):.1f} / {percentile(lateness, 0.99):.1f} s")


async def _count(api: Api, workflow_id: str) -> int:
    wanted = {
        "action": "fork",
        "filter": {"workflow_id": workflow_id, "status": "completed"},
        "dry_run": True,
        "limit": 1,
    }
    return int((await api.post("/executions/bulk", wanted, 200))["matched"])


async def test_a_wide_fan_out_does_not_hold_its_neighbours_up(api: Api) -> None:
    width, neighbours = (100_000 if FULL else 10_000), 60
    small = await api.workflow(*[agent(f"s{n}", f"s{n + 1}", does="noop") for n in range(4)], agent("s4", does="noop"))
    wide = await api.workflow(
        step(
            "each", "loop", "after",
            parameters={"over": "{{input.items}}", "max_parallel": 8, "steps": [agent("work", does="noop", input="x")]},
        ),
        agent("after", does="noop"),
    )  # fmt: skip

    async def one() -> float:
        found = await api.ended(await api.start(small))
        ended, began = (datetime.fromisoformat(found[name]) for name in ("completed_at", "started_at"))
        return (ended - began).total_seconds()

    for _ in range(20):
        await one()
    alone = [await one() for _ in range(neighbours)]
    began = time.perf_counter()
    execution_id = await api.start(wide, {"items": [0] * width})
    beside = []
    while (await api.get(f"/executions/{execution_id}/why"))["status"] not in ("completed", "failed"):
        beside.append(await one())
        assert time.perf_counter() - began < 300
    seconds = time.perf_counter() - began
    found = await api.get(f"/executions/{execution_id}/why")
    assert found["status"] == "completed"
    tell(f"fan-out of {width:,} with join", f"{seconds:.1f} s, {seconds / width * 1e3:.2f} ms a step")
    if beside:
        tell(
            "neighbours' p99, alone and beside it",
            f"{percentile(alone, 0.99) * 1e3:.0f} and {percentile(beside, 0.99) * 1e3:.0f} ms",
        )
        tell(
            "neighbours' p50, alone and beside it",
            f"{percentile(alone, 0.5) * 1e3:.0f} and {percentile(beside, 0.5) * 1e3:.0f} ms",
        )


def _starts(workflow_id: str, organization: str, count: int) -> list[WorkflowStarted]:
    return [
        WorkflowStarted(
            event_id=f"{workflow_id}-{number}", occurred_at=utc(time.time()), organization_id=organization, project_id="p",
            execution_id=str(uuid4()), workflow_id=workflow_id,
        )
        for number in range(count)
    ]  # fmt: skip


async def _flood(api: Api, messages: list[WorkflowStarted]) -> None:
    for chunk in range(0, len(messages), 1000):
        await asyncio.gather(
            *(
                api.platform.load.put(
                    topics.WORKFLOW_STARTED,
                    encode(message),
                    key=message.execution_id.encode(),
                    partition=partition_of(message.execution_id, EXECUTION_PARTITIONS),
                )
                for message in messages[chunk : chunk + 1000]
            )
        )


async def test_nobody_waits_behind_another_tenants_flood(api: Api) -> None:
    count, neighbours = (100_000 if FULL else 5_000), (200 if FULL else 20)
    chain = [*[agent(f"s{n}", f"s{n + 1}", does="noop") for n in range(4)], agent("s4", does="noop")]
    mine = await api.workflow(*chain)

    async def one() -> float:
        began = time.time()
        found = await api.ended(await api.start(mine))
        return datetime.fromisoformat(found["completed_at"]).timestamp() - began

    alone = [await one() for _ in range(neighbours)]
    async with api.as_tenant("flood") as flood:
        theirs = await flood.workflow(*chain)
        await _flood(api, _starts(theirs, "flood", count))
        first = await one()
        done_at_first = await _count(flood, theirs)
        assert done_at_first < count / 2, "it waited behind them"
        beside = [await one() for _ in range(neighbours)]
        assert await _count(flood, theirs) < count, "there was no flood any more"
        async with asyncio.timeout(600):
            while await _count(flood, theirs) < count:
                await asyncio.sleep(0.5)
    tell(f"first behind a flood of {count:,}", f"{first * 1e3:.0f} ms; {done_at_first} of the flood were done")
    for share in (0.5, 0.99):
        times = [percentile(some, share) * 1e3 for some in (alone, beside)]
        tell(
            f"another tenant's p{share * 100:.0f}, alone and beside the flood", f"{times[0]:.0f} and {times[1]:.0f} ms"
        )


@pytest.mark.skipif(not FULL, reason="takes half a minute")
async def test_nobody_waits_behind_another_tenants_slow_agents(api: Api) -> None:
    mine = await api.workflow(agent("a", does="noop"))
    async with api.as_tenant("slow") as flood:
        theirs = await flood.workflow(agent("a", does="slow:2000"))
        await _flood(api, _starts(theirs, "slow", 6_000))
        await asyncio.sleep(16)
        began = time.perf_counter()
        await api.ended(await api.start(mine))
        tell(
            "first behind 6,000 calls of an agent that takes two seconds",
            f"{(time.perf_counter() - began) * 1e3:.0f} ms",
        )
        assert await _count(flood, theirs) < 5_000


async def test_a_shadow_deploy_names_the_first_divergence_of_each_recorded_execution(api: Api, tmp_path: Path) -> None:
    count = 1000 if FULL else 100
    condition = step("check", "condition", "big", parameters={"condition": "input.n >= 50"}, else_steps=["small"])
    workflow_id = await api.workflow(condition, agent("big", input="{{input.n}}"), agent("small", input="{{input.n}}"))
    ids = await asyncio.gather(*(api.start(workflow_id, {"n": n % 100}) for n in range(count)))
    for execution_id in ids:
        await api.ended(execution_id)
    changed = tmp_path / "new.json"
    steps = [
        {**condition, "parameters": {"condition": "input.n >= 60"}},
        agent("big", input="{{input.n}}"),
        agent("small", input="{{input.n}}"),
    ]
    changed.write_text(json.dumps({"name": "w", "steps": steps}))
    began = time.perf_counter()
    code, text = await handrail(
        api, "shadow", workflow_id, str(changed), "--last", str(count), "--json", "--url", _url(api)
    )
    tell(f"shadow deploy over {count:,} executions", f"{time.perf_counter() - began:.1f} s")
    rows = [json.loads(line) for line in text.splitlines()]
    different = [row for row in rows if not row["same"]]
    assert (code, len(rows), len(different)) == (2, count, count // 10)
    assert {(row["step_id"], row["what"], row["calls"]) for row in different} == {
        ("small", "begins, and did not before", 0)
    }
    same = await handrail(api, "shadow", workflow_id, "--version", "1", "--last", "20", "--url", _url(api))
    assert same[0] == 0
    assert "20 executions gone through" in same[1]


def _url(api: Api) -> str:
    return api.platform.cluster.url("gateway")


async def handrail(api: Api, *arguments: str) -> tuple[int, str]:
    """Runs the command as a user would; gives exit code and output."""
    token = str(api.client.headers["Authorization"]).removeprefix("Bearer ")
    env = {
        **os.environ,
        **api.platform.env,
        "HANDRAIL_TOKEN": token,
        "HANDRAIL_DATA_DIR": str(api.folder / "nothing here"),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from handrail.main import app; app()", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=env,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_the_audit_finds_a_wake_source_for_all_that_is_open(api: Api) -> None:
    workflow_id = await api.workflow(step("wait", "signal", parameters={"name": "never"}))
    execution_id = await api.start(workflow_id)
    await api.at(execution_id, "wait")
    code, text = await handrail(api, "audit", "liveness")
    assert code == 0, text
    assert "wait for a signal" in text
    assert "every open execution has a wake source or a named blocker" in text


async def test_an_export_is_gone_through_again_on_this_machine(api: Api, tmp_path: Path) -> None:
    execution = await api.run(agent("a", "b"), agent("b", input="{{previous_output}}"))
    file = tmp_path / "execution.json"
    file.write_text(json.dumps(await api.get(f"/executions/{execution['id']}/export")))
    code, text = await handrail(api, "debug", str(file))
    assert code == 0, text
    assert "execution.completed" in text
    assert "running: 1 running; a waits for the answer of its agent" in text
    code, text = await handrail(api, "debug", str(file), "--at", "3")
    assert json.loads(text[text.index("{\n") :])["steps"]["a"]["output"] == "a"
    code, text = await handrail(api, "debug", str(file), "--at", "99")
    assert (code, "there is no event 99: the recording ends with event" in text) == (1, True)
    (tmp_path / "wrong.json").write_text("{}")
    code, text = await handrail(api, "debug", str(tmp_path / "wrong.json"))
    assert "it is no export of an execution" in text
