"""`handrail up`, `down`, `status`, `token`."""

import os
import signal
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, get_args

import typer
from handrail_contracts.identity import Role

from handrail.embedded import EmbeddedError
from handrail.local import BROKER_PORT, DATABASE_PORT, LocalStack
from handrail.stack import PORTS, Running, data_folder, read_running
from handrail.tokens import mint

DataDir = Annotated[Path | None, typer.Option(help="Where everything is kept; .handrail here if not given.")]


def fail(message: str) -> typer.Exit:
    typer.echo(f"handrail: {message}", err=True)
    return typer.Exit(1)


def up(
    data_dir: DataDir = None,
    port: Annotated[int, typer.Option(help="The gateway's port; the other services take the five after it.")] = 8000,
    broker_port: Annotated[int, typer.Option(help="The embedded broker's port.")] = BROKER_PORT,
    database_port: Annotated[int, typer.Option(help="The embedded database's port.")] = DATABASE_PORT,
    agents: Annotated[Path | None, typer.Option(help="A JSON file of agents to register.")] = None,
) -> None:
    """Start the whole platform here, and keep it running until Ctrl-C.

    Apache Kafka and PostgreSQL are started too, unless HANDRAIL_BROKERS or HANDRAIL_DATABASE_URL name existing ones.

    Example: handrail up --data-dir /tmp/handrail --port 8100
    """
    folder = data_folder(data_dir)
    if (running := read_running(folder)) is not None:
        raise fail(
            f"it runs on {folder} already, at {running.gateway} (process {running.pid}); stop it with `handrail down`."
        )
    ports = {name: port + standard - PORTS["gateway"] for name, standard in PORTS.items()}
    stack = LocalStack(folder, typer.echo, ports, broker_port, database_port, agents)
    stopping = _Stopping()
    try:
        _introduce(stack.start(), folder)
        while not stopping.asked:
            for line in stack.poll():
                typer.echo(line)
            time.sleep(0.05)
    except EmbeddedError as error:
        if not stopping.asked:
            raise fail(str(error)) from error
    finally:
        typer.echo("stopping")
        stack.stop()
    typer.echo("stopped; nothing is left running")


class _Stopping:
    """Ctrl-C and SIGTERM ask for an orderly end; a second Ctrl-C does not interrupt it."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        if not self.asked:
            self.asked = True
            if sys.stdout.isatty():
                typer.echo("")
            raise _Interrupted


class _Interrupted(EmbeddedError):
    """Breaks a start that is under way."""


def _introduce(running: Running, folder: Path) -> None:
    typer.echo(
        f"\n  API        {running.gateway}/api/v1   (reference: {running.gateway}/docs)\n"
        f"  broker     {running.brokers}\n"
        f"  database   {running.database_url}\n"
        f"  logs       {folder / 'logs'}\n"
        f"  a token    handrail token --data-dir {folder}\n\n"
        "Ctrl-C stops everything.",
    )
    sys.stdout.flush()


def down(data_dir: DataDir = None) -> None:
    """Stop the platform that runs on a data folder.

    Example: handrail down --data-dir /tmp/handrail
    """
    folder = data_folder(data_dir)
    running = read_running(folder)
    if running is None:
        raise fail(f"nothing runs on {folder}.")
    os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + 40
    while read_running(folder) is not None:
        if time.monotonic() > deadline:
            raise fail(f"process {running.pid} has not ended after 40 s; look at {folder / 'logs'}.")
        time.sleep(0.1)
    typer.echo("stopped")


def status(data_dir: DataDir = None) -> None:
    """Show what runs on a data folder, and whether it is ready.

    Example: handrail status
    """
    folder = data_folder(data_dir)
    running = read_running(folder)
    if running is None:
        raise fail(f"nothing runs on {folder}; start it with `handrail up`.")
    ready = True
    for name, port in running.ports.items():
        if name not in running.pids:
            continue
        state = _readiness(port)
        ready = ready and state.startswith("ready")
        typer.echo(f"{name:14} process {running.pids.get(name)!s:8} port {port}  {state}")
    for name in ("kafka", "postgres"):
        if running.pids.get(name):
            typer.echo(f"{name:14} process {running.pids[name]!s:8}")
    if not ready:
        raise typer.Exit(1)


def _readiness(port: int) -> str:
    said: bytes
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            said = answer.read()
            return "ready: " + said.decode()
    except urllib.error.HTTPError as error:
        said = error.read()
        return "not ready: " + said.decode()
    except OSError as error:
        return f"no answer: {error}"


def token(
    data_dir: DataDir = None,
    user: Annotated[str, typer.Option(help="Who it is for (claim `sub`).")] = "dev@example.com",
    org: Annotated[str, typer.Option(help="The organization (claim `organization_id`).")] = "demo-org",
    project: Annotated[str, typer.Option(help="The project (claim `project_id`).")] = "demo-project",
    ttl: Annotated[int, typer.Option(help="Seconds until it expires.")] = 86_400,
    role: Annotated[
        list[str] | None, typer.Option(help="viewer, operator, approver, builder or admin; several may be given.")
    ] = None,
) -> None:
    """Print a bearer token of the development issuer.

    Example: curl -H "Authorization: Bearer $(handrail token --role viewer)" http://127.0.0.1:8000/api/v1/workflows
    """
    roles, known = role or ["admin"], get_args(Role)
    if unknown := set(roles) - set(known):
        raise fail(f"there is no role {min(unknown)!r}; there are {', '.join(known)}.")
    folder = data_folder(data_dir) / "auth"
    typer.echo(mint(folder, user=user, organization=org, project=project, ttl=ttl, roles=roles))
