"""An agent that leaves a trace each time it begins, for tests that count."""

import asyncio
import os
from pathlib import Path
from typing import Any


def _trace(run: str) -> None:
    with Path(os.environ["RUNNER_TRACE"]).open("a") as trace:
        trace.write(f"{run}\n")


async def traced(input: Any, context: Any) -> Any:
    """Input: `run` to write down, `seconds` to take."""
    _trace(input["run"])
    await asyncio.sleep(input.get("seconds", 0))
    return {"run": input["run"]}
