"""`handrail demo`."""

import asyncio
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from handrail.commands.up import fail
from handrail.demo.support import SupportStory
from handrail.demo.tour import DemoFailed, Tour
from handrail.embedded import EmbeddedError
from handrail.embedded.process import Child, free_port, port_open
from handrail.local import LocalStack
from handrail.peek import glance_all
from handrail.stack import PORTS
from handrail.tokens import mint

NEXT = """
Where to look next
------------------
  handrail up                 keeps the platform running here; its API reference is at http://127.0.0.1:8000/docs
  docs/architecture.md        how it works, and what it promises
  docs/guides/                definitions, expressions, the API
  make test                   the tests: properties, simulation, and killing every part of it
"""


class Story(StrEnum):
    TOUR = "tour"
    SUPPORT = "support"


def demo(
    story: Annotated[
        Story, typer.Argument(help="`tour`: two workflows; `support`: from a customer's e-mail to the answer.")
    ] = Story.TOUR,
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep everything here; a temporary folder if not given.")
    ] = None,
) -> None:
    """Start everything, run a story, show what happened, and stop.

    Example: handrail demo support --data-dir /tmp/handrail-demo
    """
    run = _tour if story is Story.TOUR else _support
    if data_dir is not None:
        run(data_dir.resolve())
        return
    with tempfile.TemporaryDirectory(prefix="handrail-demo-") as folder:
        run(Path(folder))


def _support(folder: Path) -> None:
    stack = LocalStack(folder, typer.echo, {name: free_port() for name in PORTS})
    try:
        running = stack.start()
        mail, smtp = (running.ports[name] for name in ("offline-mail", "smtp"))
        token = _token(folder, "sarah@example.com")
        SupportStory(running.gateway, f"http://127.0.0.1:{mail}", f"smtp://127.0.0.1:{smtp}", token, typer.echo).run()
    except (EmbeddedError, DemoFailed) as error:
        raise fail(str(error)) from error
    finally:
        stack.stop()


def _tour(folder: Path) -> None:
    ports = {name: free_port() for name in PORTS}
    stack = LocalStack(folder, typer.echo, ports)
    agents = Child("agents", folder / "logs" / "agents.log")
    try:
        running = stack.start()
        port = free_port()
        agents.start([sys.executable, "-m", "handrail.demo.agents", "--port", str(port)])
        agents.wait_until(lambda: port_open(port), 15, lambda log: EmbeddedError(f"the agents did not start: {log}"))
        tour = Tour(running.gateway, lambda user: _token(folder, user), typer.echo)
        tour.register_agents(f"http://127.0.0.1:{port}")
        tour.content_marketing()
        tour.timeline(tour.customer_support())
        _show_topics(running.brokers)
        typer.echo(NEXT)
    except (EmbeddedError, DemoFailed) as error:
        raise fail(str(error)) from error
    finally:
        agents.stop()
        stack.stop()


def _token(folder: Path, user: str) -> str:
    return mint(folder / "auth", user=user, organization="demo-org", project="demo-project", ttl=3600)


def _show_topics(brokers: str) -> None:
    typer.echo("\nWhat the topics hold\n--------------------")
    for glance in asyncio.run(glance_all(brokers)):
        latest = (glance.latest or b"").decode("utf-8", "replace")
        shown = latest if len(latest) <= 90 else latest[:87] + "..."
        typer.echo(f"  {glance.topic:32} {glance.records:5}  {shown}")
