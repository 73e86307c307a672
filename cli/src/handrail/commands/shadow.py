"""`handrail shadow`."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import httpx2
import orjson
import typer
from handrail_graph import DefinitionError, compile_workflow
from handrail_scheduler.recordings import Divergence, Recording
from handrail_scheduler.recordings import shadow as run_shadow

from handrail.commands.gateway import Org, Project, Url, call, client
from handrail.commands.up import DataDir, fail

AT_ONCE = 4


def shadow(
    workflow_id: str,
    definition: Annotated[Path | None, typer.Argument(help="The new definition, a JSON file.")] = None,
    version: Annotated[int | None, typer.Option(help="Or a version that is saved already.")] = None,
    last: Annotated[int, typer.Option(help="How many recorded executions, latest first.")] = 1000,
    url: Url = "",
    org: Org = "demo-org",
    project: Project = "demo-project",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Run recorded executions through another version of their workflow, without asking any agent or person.

    Each recorded answer is given again; where the new version first does something else is named. HANDRAIL_TOKEN is used
    if it is set. Exit code 0 if nothing differs, 2 if something does.

    Example: handrail shadow my-workflow new.json --last 200
    """
    gateway = client(data_dir, url, org, project, "shadow")
    document = _definition(gateway, workflow_id, definition, version)
    began, found = time.monotonic(), []
    for raw in _exports(gateway, workflow_id, last):
        recording = Recording.read(raw)
        if recording.beginning is None:
            continue  # it was refused before it began
        divergence = run_shadow(recording, document)
        found.append(divergence)
        if as_json:
            typer.echo(orjson.dumps(_row(divergence)).decode())
        elif len(found) % 200 == 0:
            typer.echo(
                f"{len(found):,} executions gone through, {len(found) / (time.monotonic() - began):,.0f} a second"
            )
    if not as_json:
        _report(found, time.monotonic() - began)
    raise typer.Exit(2 if any(not divergence.same for divergence in found) else 0)


def _definition(
    gateway: httpx2.Client, workflow_id: str, definition: Path | None, version: int | None
) -> dict[str, Any]:
    if (definition is None) == (version is None):
        raise fail("say what to compare with: a definition file, or --version N.")
    if definition is None:
        found: dict[str, Any] = call(gateway, "GET", f"/workflows/{workflow_id}", version=version)["definition"]
        return found
    try:
        document: dict[str, Any] = orjson.loads(definition.read_bytes())
        compile_workflow(document)
    except (OSError, orjson.JSONDecodeError) as error:
        raise fail(f"{definition} can't be read: {error}.") from error
    except DefinitionError as error:
        problems = "\n  ".join(f"{problem.path}: {problem.message}" for problem in error.problems)
        raise fail(f"{definition} does not compile:\n  {problems}") from error
    return document


def _exports(gateway: httpx2.Client, workflow_id: str, last: int) -> Iterator[Any]:
    """The latest executions, a few fetched at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        cursor, left = None, last
        while left > 0:
            page = call(gateway, "GET", f"/workflows/{workflow_id}/executions", limit=min(left, 200), cursor=cursor)
            yield from pool.map(lambda item: call(gateway, "GET", f"/executions/{item['id']}/export"), page["items"])
            left, cursor = left - len(page["items"]), page["next_cursor"]
            if cursor is None:
                return


def _row(found: Divergence) -> dict[str, Any]:
    return {
        "execution_id": found.execution_id, "same": found.same, "step_id": found.step_id, "what": found.what,
        "steps": found.steps, "calls": found.calls, "end_before": found.end[0], "end_after": found.end[1],
    }  # fmt: skip


def _report(found: list[Divergence], seconds: float) -> None:
    different = [divergence for divergence in found if not divergence.same]
    typer.echo(
        f"{len(found):,} executions gone through in {seconds:.1f} s: {len(found) - len(different):,} go the same way"
    )
    kinds = Counter((divergence.step_id, divergence.what) for divergence in different)
    for (step_id, what), count in kinds.most_common(20):
        example = next(d.execution_id for d in different if (d.step_id, d.what) == (step_id, what))
        where = f"step {step_id} " if step_id else ""
        typer.echo(f"{count:>7,}  {where}{what} (such as {example})")
    steps, calls = sum(d.steps for d in found), sum(d.calls for d in found)
    typer.echo(f"in all {steps:+,} steps, {calls:+,} calls of agents and tools")
