"""`handrail templates`."""

import json
import time
from typing import Annotated, Any

import httpx2
import typer

from handrail.commands.gateway import Org, Project, Url, call, client
from handrail.commands.up import DataDir, fail

PATIENCE = 300.0
ENDED = ("completed", "failed", "cancelled", "timeout")

app = typer.Typer(no_args_is_help=True, help="Workflows to begin with: list them, look at one, run one.")


@app.command("list")
def list_(
    category: Annotated[str | None, typer.Option(help="Only these.")] = None,
    url: Url = "",
    org: Org = "demo-org",
    project: Project = "demo-project",
    data_dir: DataDir = None,
) -> None:
    """What there is.

    Example: handrail templates list --category sales
    """
    gateway = client(data_dir, url, org, project, "templates")
    for item in call(gateway, "GET", "/workflows/templates", category=category, limit=200)["items"]:
        typer.echo(f"{item['id']:24} {item['description']}")


@app.command()
def show(
    name: str, url: Url = "", org: Org = "demo-org", project: Project = "demo-project", data_dir: DataDir = None
) -> None:
    """Its parameters and an input that it runs on.

    Example: handrail templates show sales-lead
    """
    found = call(client(data_dir, url, org, project, "templates"), "GET", f"/workflows/templates/{name}")
    typer.echo(f"{found['name']}: {found['description']}\n\nparameters (--set NAME=VALUE):")
    for parameter, schema in found["parameters"]["properties"].items():
        typer.echo(f"  {parameter:12} {schema['description']}; {json.dumps(schema['default'])} if not given")
    typer.echo(f"\nit runs on an input such as (--input):\n  {json.dumps(found['example'])}")


@app.command()
def run(
    name: str,
    parameters: Annotated[list[str], typer.Option("--set", help="NAME=VALUE; JSON or text.")] = [],  # noqa: B006
    given: Annotated[str | None, typer.Option("--input", help="JSON; the template's example if not given.")] = None,
    approve: Annotated[
        bool, typer.Option(help="Approve whatever asks for it, instead of waiting for a person.")
    ] = False,
    url: Url = "",
    org: Org = "demo-org",
    project: Project = "demo-project",
    data_dir: DataDir = None,
) -> None:
    """Make a workflow of it, start that, and show what happens until it ends.

    Example: handrail templates run customer-support --set company=ACME --approve
    """
    gateway = client(data_dir, url, org, project, "templates")
    chosen = dict(_parameter(text) for text in parameters)
    made = call(gateway, "POST", f"/workflows/templates/{name}/instantiate", {"parameters": chosen})
    typer.echo(f"workflow  {made['id']} ({made['name']}), agents {', '.join(made['agents'])}")
    text = made["example"] if given is None else _json(given, "--input")
    started = call(gateway, "POST", f"/workflows/{made['id']}/execute", {"input": text})
    typer.echo(f"execution {started['execution_id']}")
    found = _follow(gateway, started["execution_id"], approve)
    if found["status"] != "completed":
        raise fail(f"it is {found['status']}: {json.dumps(found['error'])}")
    totals = call(gateway, "GET", f"/executions/{found['id']}/model-calls")["totals"]
    typer.echo(f"completed: {totals['calls']} model calls, {totals['input_tokens'] + totals['output_tokens']} tokens")
    typer.echo(json.dumps(found["result"], indent=2, ensure_ascii=False))


def _follow(gateway: httpx2.Client, execution_id: str, approve: bool) -> Any:
    """Tells each step once it has begun and once it has ended."""
    told, asked = set[tuple[str, str]](), set[str]()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = call(gateway, "GET", f"/executions/{execution_id}")
        for step in found["steps"]:
            state = (step["step_id"], step["status"])
            if state not in told:
                told.add(state)
                typer.echo(f"  {step['step_id']:24} {step['status']}")
        if found["status"] == "waiting":
            _ask(gateway, execution_id, approve, asked)
        if found["status"] in ENDED:
            return found
        time.sleep(0.05)
    raise fail(f"it has not ended after {PATIENCE:g} s; it goes on: GET /api/v1/executions/{execution_id}/why")


def _ask(gateway: httpx2.Client, execution_id: str, approve: bool, asked: set[str]) -> None:
    for gate in call(gateway, "GET", "/approvals", status="pending", execution_id=execution_id, limit=200)["items"]:
        if gate["id"] in asked:
            continue
        asked.add(gate["id"])
        typer.echo(f"  asks: {gate['message']}")
        if approve:
            call(gateway, "POST", f"/approvals/{gate['id']}", {"decision": "approved", "comment": "by --approve"})
        else:
            typer.echo(f'  waiting; approve with POST /api/v1/approvals/{gate["id"]} {{"decision": "approved"}}')


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise fail(f"--set {text}: say NAME=VALUE.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise fail(f"{option} is no JSON: {error}.") from error
