"""`handrail debug`."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from handrail_scheduler.liveness import wakes
from handrail_scheduler.recordings import NotARecording, Recording
from handrail_scheduler.state import Execution

from handrail.commands.up import fail

HIDDEN = {
    "n",
    "type",
    "run_id",
    "user_id",
    "organization_id",
    "project_id",
    "context",
    "trigger",
    "stubs",
    "attributes",
}


def debug(
    file: Annotated[Path, typer.Argument(help="An export: GET /api/v1/executions/ID/export.")],
    at: Annotated[int | None, typer.Option(help="Stop after event N, and show the whole state there.")] = None,
    step: Annotated[bool, typer.Option("--step", help="Wait for Enter after each event.")] = False,
) -> None:
    """Go through an execution again, event by event, on this machine and without touching anything.

    Example: handrail debug execution.json --at 7
    """
    try:
        recording = Recording.read(orjson.loads(file.read_bytes()))
    except (OSError, orjson.JSONDecodeError, KeyError, ValueError, NotARecording) as error:
        raise fail(f"{file} can't be gone through: {error}.") from error
    typer.echo(f"execution {recording.execution_id} of workflow {recording.workflow_id}")
    last = 0
    for record, event, state in recording.replay():
        last = event.n
        typer.echo(f"\n{event.n:>5}  {record.at:%H:%M:%S.%f}  {event.type}  {_told(event)}")
        typer.echo(f"       {_summary(state)}")
        if event.n == at:
            typer.echo(orjson.dumps(_shown(state), option=orjson.OPT_INDENT_2).decode())
            return
        if step and typer.prompt("", default="", show_default=False, prompt_suffix="[Enter: next, q: stop] ") == "q":
            return
    if at is not None:
        raise fail(f"there is no event {at}: the recording ends with event {last}.")


def _told(event: Any) -> str:
    fields = event.model_dump(mode="json", exclude=HIDDEN, exclude_none=True, exclude_defaults=True)
    text = "  ".join(f"{name}={orjson.dumps(value).decode()}" for name, value in fields.items())
    return text if len(text) <= 200 else text[:197] + "..."


def _summary(state: Execution) -> str:
    counts = Counter(step.status.value for step in state.steps.values())
    steps = ", ".join(f"{count} {status}" for status, count in counts.items()) or "no steps"
    waits = "; ".join(f"{wake.step_id or 'the execution'} waits for {wake.source}" for wake in list(wakes(state))[:3])
    return f"{state.status.value}: {steps}" + (f"; {waits}" if waits else "")


def _shown(state: Execution) -> dict[str, Any]:
    steps = {
        step_id: {"status": step.status.value, "attempt": step.attempt, "input": step.input, "output": step.output}
        for step_id, step in state.steps.items()
    }
    return {
        "status": state.status.value, "version": state.version, "input": state.input, "context": state.context,
        "steps": steps, "signals": state.signals, "loops": {k: [t.begun, t.done] for k, t in state.turns.items()},
    }  # fmt: skip
