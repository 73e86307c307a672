"""How commands speak to the gateway."""

import os
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

from handrail.commands.up import fail
from handrail.stack import data_folder, read_running
from handrail.tokens import mint

PATIENCE = 60.0

Url = Annotated[str, typer.Option(help="The gateway; the one of --data-dir if not given.")]
Org = Annotated[str, typer.Option(help="Whose, for the development token.")]
Project = Annotated[str, typer.Option(help="Of which project.")]


def client(data_dir: Path | None, url: str, organization: str, project: str, user: str) -> httpx2.Client:
    """With the token of HANDRAIL_TOKEN, or one of the development issuer of the data folder."""
    folder = data_folder(data_dir)
    running = read_running(folder)
    if not url and running is None:
        raise fail("no stack runs here, and no --url is given. Start one with `handrail up`.")
    token = os.environ.get("HANDRAIL_TOKEN") or mint(
        folder / "auth", user=user, organization=organization, project=project, ttl=3600
    )
    base = (url or (running.gateway if running is not None else "")).rstrip("/") + "/api/v1"
    return httpx2.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE)


def call(
    gateway: httpx2.Client, method: str, path: str, body: Any = None, *, patience: float = PATIENCE, **query: Any
) -> Any:
    """The answer's JSON, within `patience` seconds; ends the command with what the gateway says is wrong."""
    given = {name: value for name, value in query.items() if value is not None}
    try:
        answer = gateway.request(method, path, json=body, params=given, timeout=patience)
    except httpx2.HTTPError as error:
        raise fail(f"the gateway does not answer: {error}.") from error
    if answer.status_code >= 300:
        raise fail(_told(method, path, answer))
    return answer.json()


def _told(method: str, path: str, answer: httpx2.Response) -> str:
    try:
        problem = answer.json()
    except ValueError:
        return f"{method} {path} answered {answer.status_code}: {answer.text[:300]}"
    mistakes = "".join(f"\n  {entry['path']}: {entry['message']}" for entry in problem.get("errors") or ())
    return f"{method} {path}: {problem.get('detail', answer.text)}{mistakes}"
