"""`handrail seed`."""

from typing import Any

import typer

from handrail.commands.gateway import Org, Project, Url, call, client
from handrail.commands.up import DataDir
from handrail.demo import seed as demo


def seed(url: Url = "", org: Org = "demo-org", project: Project = "demo-project", data_dir: DataDir = None) -> None:
    """Post workflows, agents, tasks, suggestions and comments to look at. A second time nothing changes.

    Example: handrail seed && handrail token
    """
    clients = {user: client(data_dir, url, org, project, user) for user in ("seed", demo.PERSON)}

    def post(user: str, path: str, body: Any, key: str) -> Any:
        clients[user].headers["Idempotency-Key"] = key
        return call(clients[user], "POST", path, body)

    def registered() -> Any:
        return call(clients["seed"], "GET", "/agents", kind="external", limit=200)

    counts = demo.seed(post, registered)
    typer.echo(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    typer.echo('Move one: curl -X PUT .../api/v1/tasks/task-001 -d \'{"status": "completed"}\', and task-002 begins.')
