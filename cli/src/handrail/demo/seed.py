"""Workflows, agents, tasks, suggestions and comments to look at, posted as any client would. A second time nothing changes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Post = Callable[[str, str, Any, str], Any]
"""As whom, to which path, what, under which idempotency key; gives the answer."""
Registered = Callable[[], Json]
"""The agents that work by themselves, as the gateway lists them."""
DATA = Path(__file__).parent / "mock_data.json"
KEY = "handrail-seed"
PERSON = "human-001"
"""Who decides and comments."""


def seed(post: Post, registered: Registered) -> Json:
    """How many of each there are; tasks first when they can name their workflows and agents, and words about them last."""
    data: Json = json.loads(DATA.read_text("utf-8"))
    known = {agent["id"] for agent in registered()["items"]}
    data_of = {**data, "agents": [agent for agent in data["agents"] if agent["id"] not in known]}
    for kind in ("workflows", "agents", "tasks", "suggestions"):
        if data_of[kind]:
            post("seed", f"/{kind}", data_of[kind], f"{KEY}-{kind}")
    for comment in data["comments"]:
        said = {name: comment[name] for name in comment if name not in ("id", "task_id")}
        post(PERSON, f"/tasks/{comment['task_id']}/comments", said, f"{KEY}-{comment['id']}")
    for approval in data["approvals"]:
        notes = {"notes": approval["notes"]}
        post(PERSON, f"/suggestions/{approval['suggestion_id']}/approve", notes, f"{KEY}-{approval['id']}")
    return {kind: len(entries) for kind, entries in data.items()}
