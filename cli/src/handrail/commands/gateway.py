"""How commands speak to the gateway."""

import math
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

from handrail.commands.up import fail
from handrail.stack import data_folder, read_running
from handrail.tokens import mint

TOKEN_SECONDS = 3600
PATIENCE = 60.0

Url = Annotated[str, typer.Option(help="The gateway; the one of --data-dir if not given.")]
Org = Annotated[str, typer.Option(help="Whose, for the development token.")]
Project = Annotated[str, typer.Option(help="Of which project.")]


class Token(httpx2.Auth):
    """The token or API key of HANDRAIL_TOKEN, or one of the development issuer of the data folder, renewed before it expires."""

    def __init__(self, folder: Path, organization: str, project: str, user: str) -> None:
        self._folder, self._whose = folder, {"organization": organization, "project": project, "user": user}
        self._token, self._until = os.environ.get("HANDRAIL_TOKEN", ""), math.inf

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["Authorization"] = f"Bearer {self.current()}"
        yield request

    def current(self) -> str:
        if not self._token or time.monotonic() > self._until:
            self._token = mint(self._folder / "auth", ttl=TOKEN_SECONDS, **self._whose)
            self._until = time.monotonic() + TOKEN_SECONDS / 2
        return self._token


def address(data_dir: Path | None, url: str) -> str:
    """The API of --url, or of the stack that runs on the data folder."""
    running = read_running(data_folder(data_dir))
    if not url and running is None:
        raise fail("no stack runs here, and no --url is given. Start one with `handrail up`.")
    return (url or (running.gateway if running is not None else "")).rstrip("/") + "/api/v1"


def client(data_dir: Path | None, url: str, organization: str, project: str, user: str) -> httpx2.Client:
    token = Token(data_folder(data_dir), organization, project, user)
    return httpx2.Client(base_url=address(data_dir, url), auth=token, timeout=PATIENCE)


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
