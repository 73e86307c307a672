"""Processes and clusters, with a small HTTP server standing in for every service."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest
from support.processes import Process, ServiceCluster

STAND_IN = """
import http.server, json, os, signal, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"pid": os.getpid(), "env": dict(os.environ)}).encode()
        self.send_response(200 if self.path in ("/readyz", "/whoami") else 404)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if os.environ.get("STAND_IN_FAILS"):
    sys.exit("told to fail")
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["HANDRAIL_PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    return {"PYTHONPATH": str(tmp_path)}


def cluster(tmp_path: Path, env: Mapping[str, str], supervise: bool = False, **instances: int) -> ServiceCluster:
    named = {name.replace("_", "-"): count for name, count in instances.items()}
    modules = dict.fromkeys(named, "stand_in")
    return ServiceCluster("broker:1", "postgresql://db", tmp_path / "logs", named, env, modules, supervise)


async def who(url: str) -> dict[str, str]:
    async with httpx2.AsyncClient() as client:
        return dict((await client.get(f"{url}/whoami")).json()["env"])


def script(tmp_path: Path, code: str) -> Process:
    return Process("script", (sys.executable, "-c", code), tmp_path / "log")


async def test_a_process_keeps_its_log_over_restarts(tmp_path: Path) -> None:
    process = script(tmp_path, "print('hello'); raise SystemExit(3)")
    for _ in range(2):
        process.start()
        assert await process.wait() == 3
    assert process.output().split() == ["hello", "hello"]
    assert process.starts == 2


async def test_kill_9_is_an_outage_until_the_next_start(tmp_path: Path) -> None:
    process = script(tmp_path, "import time; print('up', flush=True); time.sleep(60)").start()
    await process.printed("up")
    pid = process.kill()
    assert not process.running
    assert process.returncode == -9
    (outage,) = process.outages
    assert (outage.pid, outage.until) == (pid, None)
    process.start()
    assert process.outages[0].until is not None
    assert process.outages[0].since < process.outages[0].until
    process.kill()


async def test_a_stopped_process_does_nothing_until_it_continues(tmp_path: Path) -> None:
    code = "import itertools, time\nfor n in itertools.count(): print(n, flush=True); time.sleep(0.01)"
    process = script(tmp_path, code).start()
    await process.printed("3")
    process.stop()
    await asyncio.sleep(0.1)  # what it had already printed arrives
    before = process.output()
    await asyncio.sleep(0.1)
    assert process.output() == before
    process.cont()
    await process.printed(str(len(before.split()) + 3))
    assert process.outages[0].until is not None
    await process.shut_down()


async def test_a_process_deaf_to_sigterm_is_killed_even_if_stopped(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    process = script(tmp_path, code).start()
    await process.printed("up")
    process.stop()
    assert await process.shut_down(timeout=0.2) == -9


async def test_waiting_says_what_the_log_said(tmp_path: Path) -> None:
    process = script(tmp_path, "print('I die'); raise SystemExit(1)").start()
    with pytest.raises(RuntimeError, match="I die"):
        await process.printed("never said")
    slow = script(tmp_path, "import time; print('I stay', flush=True); time.sleep(60)").start()
    await slow.printed("I stay")
    with pytest.raises(TimeoutError, match="I stay"):
        await slow.wait(timeout=0.1)
    slow.kill()


async def test_each_instance_has_its_own_port_and_identity(tmp_path: Path, stand_in: dict[str, str]) -> None:
    async with cluster(tmp_path, stand_in, scheduler=2, agent_runner=1) as services:
        first, second = [await who(services.url("scheduler", n)) for n in (0, 1)]
        runner = await who(services.url("agent-runner"))
    assert first["HANDRAIL_INSTANCE_ID"] == "scheduler-0"
    assert second["HANDRAIL_INSTANCE_ID"] == "scheduler-1"
    assert runner["HANDRAIL_BROKERS"] == "broker:1"
    assert runner["HANDRAIL_DATABASE_URL"] == "postgresql://db"
    assert len({env["HANDRAIL_PORT"] for env in (first, second, runner)}) == 3
    assert not any(process.running for process in services.processes)


async def test_a_restarted_instance_keeps_port_and_identity(tmp_path: Path, stand_in: dict[str, str]) -> None:
    async with cluster(tmp_path, stand_in, scheduler=1) as services:
        before, pid = await who(services.url("scheduler")), services.get("scheduler").pid
        services.kill("scheduler")
        await services.restart("scheduler", env={"HANDRAIL_LOG_LEVEL": "DEBUG"})
        after = await who(services.url("scheduler"))
        assert services.get("scheduler").pid != pid
        assert [outage.pid for outage in services.outages] == [pid]
    assert after["HANDRAIL_LOG_LEVEL"] == "DEBUG"
    assert [before[k] for k in ("HANDRAIL_PORT", "HANDRAIL_INSTANCE_ID")] == [
        after[k] for k in ("HANDRAIL_PORT", "HANDRAIL_INSTANCE_ID")
    ]


async def test_instances_come_and_go(tmp_path: Path, stand_in: dict[str, str]) -> None:
    async with cluster(tmp_path, stand_in, scheduler=1) as services:
        added = await services.add("scheduler")
        assert added.name == "scheduler-1"
        assert await services.remove("scheduler", 0) == 0
        assert [process.name for process in services.of("scheduler")] == ["scheduler-1"]


async def test_the_supervisor_starts_the_killed_again(tmp_path: Path, stand_in: dict[str, str]) -> None:
    async with cluster(tmp_path, stand_in, supervise=True, scheduler=1, projector=1) as services:
        services.kill_all()
        await services.ready()
        assert [process.starts for process in services.processes] == [2, 2]
        assert all(outage.until is not None for outage in services.outages)
    assert not any(process.running for process in services.processes)


async def test_a_service_that_dies_at_its_start_is_told_with_its_log(tmp_path: Path, stand_in: dict[str, str]) -> None:
    services = cluster(tmp_path, stand_in | {"STAND_IN_FAILS": "1"}, scheduler=1)
    with pytest.raises(RuntimeError, match="told to fail"):
        await services.start()


async def test_nothing_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    code = """
import pathlib, sys, time
from support.processes import Process
child = Process("child", (sys.executable, "-c", "import time; time.sleep(60)"), pathlib.Path(sys.argv[1])).start()
print("child", child.pid, flush=True)
time.sleep(60)
"""
    tests = str(Path(__file__).parents[2])
    command = (sys.executable, "-c", code, str(tmp_path / "child"))
    parent = Process("parent", command, tmp_path / "parent", {"PYTHONPATH": tests}).start()
    child = int((await parent.printed("child")).split()[1])
    parent.kill()
    async with asyncio.timeout(10):
        while runs(child):
            await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
