"""`handrail desk`."""

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from handrail_client import CustomerServiceDesk, Handrail, HandrailError
from rich.console import Console
from rich.progress import Progress

from handrail.bench import desk as bench
from handrail.commands.gateway import Org, Project, Token, Url, address
from handrail.commands.up import DataDir, fail
from handrail.demo.desk import DeskStory
from handrail.demo.tour import DemoFailed
from handrail.embedded import EmbeddedError
from handrail.embedded.process import free_port
from handrail.local import LocalStack
from handrail.stack import PORTS, data_folder, read_running
from handrail.tokens import mint

Name = Annotated[str, typer.Option("--desk", help="Which desk.")]
User = Annotated[str, typer.Option(help="Who asks or answers, for the development token.")]

app = typer.Typer(no_args_is_help=True, help="The service desk: ask it, answer what it asks people, and load it.")


@app.command()
def ask(
    inquiry: Annotated[str, typer.Argument(help="What the customer wants.")],
    customer: Annotated[str, typer.Option(help="Who the customer is.")] = "cust_123",
    topic: Annotated[str | None, typer.Option(help="What it is about; found by the desk if not given.")] = None,
    priority: Annotated[str | None, typer.Option(help="low, medium, high or urgent.")] = None,
    escalate: Annotated[bool, typer.Option("--escalate", help="Ask a person at once.")] = False,
    timeout: Annotated[float, typer.Option(help="How many seconds to wait for the answer.")] = 60.0,
    name: Name = "default",
    url: Url = "",
    org: Org = "demo-org",
    project: Project = "demo-project",
    user: User = "desk",
    data_dir: DataDir = None,
) -> None:
    """Ask something as a customer, and wait for the answer.

    Example: handrail desk ask "I need help with my account" --customer cust_123
    """

    async def asked() -> None:
        async with _desk(name, _connection(data_dir, url, org, project, user)) as desk:
            found = await desk.handle(
                customer, inquiry, topic=topic, priority=priority, escalate=escalate, timeout=timeout,  # type: ignore[arg-type]
            )  # fmt: skip
        if found["status"] != "answered":
            typer.echo(f"inquiry {found['id']} is {found['status']}; it goes on, see `handrail desk escalations`.")
            return
        typer.echo(found["response"])
        typer.echo(f"\nby {found['reviewer'] or found['agent']}, {found['tier']}", err=True)

    _run(asked())


@app.command()
def escalations(
    status: Annotated[str, typer.Option(help="Of which status.")] = "pending",
    name: Name = "default",
    url: Url = "",
    org: Org = "demo-org",
    project: Project = "demo-project",
    user: User = "desk",
    data_dir: DataDir = None,
) -> None:
    """What the desk asks people, the most urgent first.

    Example: handrail desk escalations --data-dir /tmp/handrail
    """

    async def listed() -> None:
        async with _desk(name, _connection(data_dir, url, org, project, user)) as desk:
            async for found in desk.escalations(status):
                whose = found["assignee"] or "anybody"
                typer.echo(f"{found['id']}  {found['priority']:7} {whose:16} {found['message']}")

    _run(listed())


@app.command()
def answer(
    escalation_id: Annotated[str, typer.Argument(help="As `handrail desk escalations` tells it.")],
    response: Annotated[str, typer.Argument(help="What the customer gets.")],
    name: Name = "default",
    url: Url = "",
    org: Org = "demo-org",
    project: Project = "demo-project",
    user: User = "desk",
    data_dir: DataDir = None,
) -> None:
    """Answer an escalation as a person; one that is assigned only as its assignee.

    Example: handrail desk answer 0198c7a2 "I have refunded it." --user supervisor_1
    """

    async def answered() -> None:
        async with _desk(name, _connection(data_dir, url, org, project, user)) as desk:
            found = await desk.answer(escalation_id, response)
        typer.echo(f"{found['status']}, by {found['decided_by'] or user}")

    _run(answered())


@app.command()
def load(
    inquiries: Annotated[int, typer.Option(min=1, help="How many.")] = 200,
    concurrent: Annotated[int, typer.Option(min=1, max=1000, help="How many at one time.")] = 50,
    share: Annotated[float, typer.Option("--complex", min=0, max=1, help="Which share goes up the tiers.")] = 0.3,
    timeout: Annotated[float, typer.Option(help="Seconds after which one counts as not answered.")] = 120.0,
    name: Name = "default",
    url: Url = "",
    org: Org = "demo-org",
    project: Project = "demo-project",
    user: User = "desk",
    data_dir: DataDir = None,
) -> None:
    """Put load on a desk, and tell how fast it answers and how evenly its agents are used.

    Example: handrail desk load --inquiries 200 --concurrent 50 --complex 0.3
    """

    async def loaded() -> bench.Report:
        connection = _connection(data_dir, url, org, project, user)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("inquiries", total=inquiries)
            async with _desk(name, connection) as desk, Handrail(**connection) as handrail:
                return await bench.load(
                    desk, handrail, count=inquiries, concurrent=concurrent, share_complex=share, timeout=timeout,
                    told=lambda: progress.advance(task),
                )  # fmt: skip

    report: bench.Report = _run(loaded())
    typer.echo("\n".join(report.lines()))
    if report.errors or report.unanswered:
        raise typer.Exit(1)


@app.command()
def demo(data_dir: DataDir = None) -> None:
    """Run four scenarios: a simple inquiry, a complex one, one that a person answers, and a hundred at one time.

    On the stack that runs here; if there is none, one is started for it, and stopped.

    Example: handrail desk demo
    """
    folder = data_folder(data_dir)
    if (running := read_running(folder)) is not None:
        _story(running.gateway, folder)
        return
    with tempfile.TemporaryDirectory(prefix="handrail-desk-") as own:
        stack = LocalStack(Path(own), typer.echo, {port: free_port() for port in PORTS})
        try:
            _story(stack.start().gateway, Path(own))
        except EmbeddedError as error:
            raise fail(str(error)) from error
        finally:
            stack.stop()


def _story(gateway: str, folder: Path) -> None:
    def token(user: str) -> str:
        return mint(folder / "auth", user=user, organization="demo-org", project="demo-project", ttl=3600)

    _run(DeskStory(gateway, token, typer.echo).run())


def _connection(data_dir: Path | None, url: str, org: str, project: str, user: str) -> dict[str, Any]:
    token = Token(data_folder(data_dir), org, project, user)
    return {"url": address(data_dir, url).removesuffix("/api/v1"), "token": token.current}


def _desk(name: str, connection: dict[str, Any]) -> CustomerServiceDesk:
    return CustomerServiceDesk(name=name, **connection)


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(work)
    except (HandrailError, DemoFailed) as error:
        raise fail(str(error)) from error
