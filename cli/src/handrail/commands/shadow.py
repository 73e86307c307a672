"""`handrail shadow`."""

import os
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

from handrail.commands.up import DataDir, fail
from handrail.stack import data_folder, read_running
from handrail.tokens import mint

AT_ONCE = 4


def shadow(
    workflow_id: str,
    definition: Annotated[Path | None, typer.Argument(help="The new definition, a JSON file.")] = None,
    version: Annotated[int | None, typer.Option(help="Or a version that is saved already.")] = None,
    last: Annotated[int, typer.Option(help="How many recorded executions, latest first.")] = 1000,
    url: Annotated[str, typer.Option(help="The gateway; the one of --data-dir if not given.")] = "",
    org: Annotated[str, typer.Option(help="Whose, for the development token.")] = "demo-org",
    project: Annotated[str, typer.Option(help="Of which project.")] = "demo-project",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Run recorded executions through another version of their workflow, without asking any agent or person.

    Each recorded answer is given again; where the new version first does something else is named. HANDRAIL_TOKEN is used
    if it is set. Exit code 0 if nothing differs, 2 if something does.

    Example: handrail shadow my-workflow new.json --last 200
    """
    client = _client(data_dir, url, org, project)
    document = _definition(client, workflow_id, definition, version)
    began, found = time.monotonic(), []
    for raw in _exports(client, workflow_id, last):
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


def _client(data_dir: Path | None, url: str, organization: str, project: str) -> httpx2.Client:
    folder = data_folder(data_dir)
    running = read_running(folder)
    if not url and running is None:
        raise fail("no stack runs here, and no --url is given. Start one with `handrail up`.")
    token = os.environ.get("HANDRAIL_TOKEN") or mint(
        folder / "auth", user="shadow", organization=organization, project=project, ttl=3600
    )
    base = (url or (running.gateway if running is not None else "")).rstrip("/") + "/api/v1"
    return httpx2.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=60)


def _get(client: httpx2.Client, path: str, **query: Any) -> Any:
    try:
        answer = client.get(path, params={name: value for name, value in query.items() if value is not None})
    except httpx2.HTTPError as error:
        raise fail(f"the gateway does not answer: {error}.") from error
    if answer.status_code != 200:
        raise fail(f"GET {path}: {answer.json().get('detail', answer.text)}")
    return answer.json()


def _definition(
    client: httpx2.Client, workflow_id: str, definition: Path | None, version: int | None
) -> dict[str, Any]:
    if (definition is None) == (version is None):
        raise fail("say what to compare with: a definition file, or --version N.")
    if definition is None:
        found: dict[str, Any] = _get(client, f"/workflows/{workflow_id}", version=version)["definition"]
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


def _exports(client: httpx2.Client, workflow_id: str, last: int) -> Iterator[Any]:
    """The latest executions, a few fetched at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        cursor, left = None, last
        while left > 0:
            page = _get(client, f"/workflows/{workflow_id}/executions", limit=min(left, 200), cursor=cursor)
            yield from pool.map(lambda item: _get(client, f"/executions/{item['id']}/export"), page["items"])
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
