"""`handrail generate`."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console

from handrail.commands.gateway import Org, Project, Url, call, client
from handrail.commands.up import DataDir

LONGEST = 900.0
"""Seconds that a model with all its corrections may take."""
TOLD = {
    "trigger": "kind", "agent_execution": "agent_id", "tool_call": "tool", "api_call": "url", "condition": "condition",
    "signal": "name", "human_approval": "message", "sub_workflow": "workflow_id",
}  # fmt: skip
"""The parameter that says most about a step."""

Json = dict[str, Any]


def generate(
    sentence: Annotated[str, typer.Argument(help="What should happen.")],
    apply: Annotated[bool, typer.Option("--apply", help="Create the agents and the workflow, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The answers of the API instead of an outline.")] = False,
    url: Url = "",
    org: Org = "demo-org",
    project: Project = "demo-project",
    data_dir: DataDir = None,
) -> None:
    """Draft a workflow that does what a sentence says; with --apply, make it.

    The model is the gateway's: HANDRAIL_GENERATOR_MODEL, offline rules if it is not set.

    Example: handrail generate "Summarize the document, translate it into German, and send it after a manager approved it" --apply
    """
    gateway = client(data_dir, url, org, project, "generate")
    with Console(stderr=True).status("the model drafts, the compiler checks ..."):
        found = call(gateway, "POST", "/workflows/generate", {"prompt": sentence}, patience=LONGEST)
    made = call(gateway, "POST", "/workflows/generate/apply", found) if apply else None
    if as_json:
        typer.echo(json.dumps(found if made is None else {**found, "applied": made}, indent=2, ensure_ascii=False))
        return
    typer.echo("\n".join(outline(found)))
    if made is None:
        typer.echo("\nNothing is stored. With --apply it is made; with --json you can change it before.")
    else:
        typer.echo(f"\nmade: workflow {made['id']}, new agents {', '.join(made['agents']) or 'none'}")
        typer.echo(f"start it: POST /api/v1/workflows/{made['id']}/execute")


def outline(found: Json) -> Iterator[str]:
    """The draft as a person reads it."""
    workflow = found["workflow"]
    yield f"{workflow['name']}\n"
    yield from _steps(workflow["steps"], "  ")
    yield f"\n{found['explanation']}\n"
    yield f"uses     {', '.join([*found['existing_agents_used'], *found['existing_mcps_used']]) or 'nothing that exists'}"
    for agent in found["agents_to_create"]:
        yield f"creates  {agent['agent']}: {agent['description']}"
    for server in found["mcps_suggested"]:
        yield f"suggests MCP server {server['id']}: {server['description']}"
    if found["repairs"]:
        yield f"(the model {found['model']} corrected it {found['repairs']} time(s))"


def _steps(steps: list[Json], indent: str) -> Iterator[str]:
    for step in steps:
        said = step["parameters"].get(TOLD.get(step["step_type"], ""), "")
        yield f"{indent}{step['step_id']:28} {step['step_type']:16} {_short(said)}{_following(step)}".rstrip()
        if step["step_type"] == "loop":
            told = "until" if "until" in step["parameters"] else "over"
            yield f"{indent}  {told} {_short(step['parameters'][told])}:"
            yield from _steps(step["parameters"]["steps"], indent + "    ")


def _following(step: Json) -> str:
    cases = [("when " + case["condition"], case["next_steps"]) for case in step["parameters"].get("cases", [])]
    ways = [
        ("", step.get("next_steps")),
        *cases,
        ("else", step.get("else_steps")),
        ("on error", step.get("error_steps")),
    ]
    return "".join(f"  {word + ' ' if word else ''}-> {', '.join(targets)}" for word, targets in ways if targets)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
