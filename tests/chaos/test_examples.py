"""The examples of the documentation, run as their readers would."""

import asyncio
import sys
from pathlib import Path

import pytest
from chaos.conftest import Platform, platform_in
from handrail_contracts import topics
from support.processes import Process

pytestmark = pytest.mark.chaos
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


async def test_an_outsider_in_faststream_starts_and_watches_over_bad_records(tmp_path: Path) -> None:
    """The topic gets records with bad bodies and bad headers first: none may stop it, none may be lost to it."""
    async with platform_in(tmp_path, instances={"scheduler": 1}) as platform:
        await watch(platform, tmp_path)


async def watch(platform: Platform, folder: Path) -> None:
    for value, headers in ((b"\xff not JSON", []), (b"{}", [("x", b"\xff")]), (b"{}", [("y", None)])):
        await platform.load.put(topics.WORKFLOW_COMPLETED, value, headers=headers)
    command = [sys.executable, "-c", "import asyncio, watch_ends; asyncio.run(watch_ends.app.run())"]
    env = {"HANDRAIL_BROKERS": platform.broker.bootstrap, "WORKFLOW": "copy"}
    watcher = Process("watcher", command, folder / "watcher.log", env=env, cwd=EXAMPLES)
    watcher.start()
    try:
        line = await watcher.printed("'from': 'FastStream'", timeout=60)
        assert "workflow.completed" in line
        async with asyncio.timeout(30):
            while watcher.output().count("was read all the same:") < 3:
                await asyncio.sleep(0.05)
    finally:
        watcher.kill()
