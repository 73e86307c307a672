"""`handrail bench`."""

import asyncio
import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer
import uvloop
from handrail_runtime.settings import Settings

from handrail.bench import listeners, workloads
from handrail.bench.approvals import approvals
from handrail.bench.client import Client
from handrail.commands.up import fail
from handrail.embedded import EmbeddedError
from handrail.embedded.process import free_port
from handrail.local import LocalStack
from handrail.stack import PORTS, Running
from handrail.tokens import mint

AGENTS = [
    {"agent": "noop", "kind": "python", "config": {"entry_point": "handrail_agent_runner.builtin:noop"}},
    {"agent": workloads.SPEAKER, "kind": "llm", "config": {"model": f"offline:{workloads.SPEAKER}"}},
]
USER = "bench"
ALL = "w1,w2,w3,w4,w5,ws,approvals,r"
TO_REACH = {
    "w1.step_in_two_hops": "<= 1.4",
    "w1.p99_in_p50": "<= 2.5",
    "w2.steps_per_s": ">= 8000",
    "w2.read_models_after_s": "<= 1",
    "half_load.event_to_rest_p99_ms": "<= 250",
    "w3.p50_ms": "<= 60",
    "w4.scheduler_mb": "<= 600",
    "w4.others_p50_ms": "within 10 % of alone",
    "ws.event_to_client_p95_ms": "<= 100",
    "ws.lost": "0",
    "approvals.list_p95_ms": "< 50",
    "approvals.by_priority_p95_ms": "< 50",
    "approvals.in_the_middle_p95_ms": "< 50",
    "approvals.mine_p95_ms": "< 50",
    "approvals.decision_to_end_p50_ms": "<= 20",
    "replay.scheduler_events_per_s": ">= 20000",
    "replay.read_model_events_per_s": ">= 10000",
}


def bench(
    only: Annotated[str, typer.Option(help="Which workloads, by comma.")] = ALL,
    parked: Annotated[int, typer.Option(help="How many executions W4 parks.")] = 50_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure the platform on this machine, with the machine's own floor in the same run.

    W1 ten sequential steps, one workflow at a time. W2 2,000 workflows of five steps at once, then half that load evenly,
    watched through the REST API. W3 a hundred parallel steps and a join. W4 parked executions. W5 models that stream.
    WS 5,500 clients on WebSockets. approvals: 10,000 that wait. R replay.
    Everything runs here: broker, database, five services, client. docs/guides/bench.md tells what each figure means.

    Example: handrail bench --only w1,w2 --json
    """
    with tempfile.TemporaryDirectory(prefix="handrail-bench-") as name:
        folder = Path(name)
        agents = folder / "agents.json"
        agents.write_text(json.dumps(AGENTS))
        os.environ["HANDRAIL_RATE_LIMIT_CALLER"] = ""  # its thousands of clients are one caller
        stack = LocalStack(
            folder, lambda line: typer.echo(line, err=True), {n: free_port() for n in PORTS}, agents_file=agents
        )
        try:
            running = stack.start()
            results = uvloop.run(_measure(running, folder, set(only.split(",")), parked))
        except (EmbeddedError, TimeoutError) as error:
            raise fail(str(error)) from error
        finally:
            stack.stop()
    typer.echo(json.dumps(results.as_dict(), indent=2) if as_json else _table(results.as_dict()))


async def _measure(running: Running, folder: Path, wanted: set[str], parked: int) -> workloads.Results:
    settings = Settings(brokers=running.brokers, database_url=running.database_url)
    results = workloads.Results(machine=workloads.machine_facts())
    scheduler = running.pids["scheduler"]
    assert scheduler is not None
    token = mint(folder / "auth", user=USER, organization="bench", project="bench", ttl=3600)
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        Client(settings) as client,
        httpx2.AsyncClient(base_url=running.gateway, headers=headers, timeout=30) as api,
    ):
        workflow = await client.define("warm-up", workloads.chain(5))
        for _ in range(3):
            await client.wait(await client.start(workflow, 1000))
        await asyncio.sleep(1)
        results.floor = await workloads.floor(settings)
        if "w1" in wanted:
            results.w1 = await workloads.one_at_a_time(client, settings)
        if "w2" in wanted:
            results.w2 = await workloads.many_at_once(client, settings)
            results.half_load = await workloads.half_load(client, api, results.w2["steps_per_s"])
        if "w3" in wanted:
            results.w3 = await workloads.fan_out(client)
        if "w4" in wanted:
            results.w4 = await workloads.parked(client, parked, scheduler, settings)
        if "w5" in wanted:
            model_url = f"http://127.0.0.1:{running.ports['offline-model']}"
            results.w5 = await workloads.streams(client, api, settings, model_url)
        if "ws" in wanted:
            gateway = running.pids["gateway"]
            assert gateway is not None
            results.ws = await listeners.channels(client, running.gateway, token, gateway)
        if "approvals" in wanted:
            results.approvals = await approvals(client, api, USER)
        if "r" in wanted:
            results.replay = await workloads.replay(settings)
    return results


def _table(results: dict[str, Any]) -> str:
    lines = []
    for section, figures in results.items():
        for name, value in figures.items():
            lines.append(f"{section:10} {name:26} {value:>12}  {TO_REACH.get(f'{section}.{name}', '')}".rstrip())
    return "\n".join(lines)
