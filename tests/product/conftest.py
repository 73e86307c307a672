"""The product over HTTP, as its users meet it: all five services, a real broker, a real database."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from chaos.conftest import Platform, platform_in
from handrail.tokens import mint

Json = dict[str, Any]
ENDED = ("completed", "failed", "cancelled", "timeout")


PLANTED_TOKEN = "tools-planted-4711-nobody-may-see-this"
"""In the runner's environment, for servers of tools on this machine."""
TOOLS_ENV = {
    "PLANTED_TOOLS_TOKEN": PLANTED_TOKEN,
    "HANDRAIL_SECRETS": json.dumps(
        dict.fromkeys(("PLANTED_TOOLS_TOKEN", "PLANTED_MODEL_KEY", "PLATFORM_TOKEN"), "127.0.0.1")
    ),
}


LOCAL_TOOLS = ("moody", "whoami")
"""Everybody's, so their names must not be words that tests of drafted workflows are about."""


def local_tools(folder: Path) -> Json:
    """A server that the operator's file names."""
    command = ["env", f"PYTHONPATH={Path(__file__).parents[1]}", sys.executable, "-m", "support.mcp_server"]
    config = {
        "transport": "stdio",
        "command": [*command, "--journal", str(folder / "local.jsonl"), "--only", *LOCAL_TOOLS],
    }
    env = {"TOOLS_KEY": "PLANTED_TOOLS_TOKEN"}
    return {"agent": "mcp/local", "kind": "mcp", "description": "The operator's own", "config": {**config, "env": env}}


def agent(step_id: str, *following: str, does: str = "echo", **options: Any) -> Json:
    return {
        "step_id": step_id,
        "step_type": "agent_execution",
        "parameters": {"agent_id": does, "input": options.pop("input", step_id)},
        "next_steps": list(following),
        **options,
    }


def step(step_id: str, kind: str, *following: str, **options: Any) -> Json:
    inside = options.pop("parameters", {})
    return {"step_id": step_id, "step_type": kind, "parameters": inside, "next_steps": list(following), **options}


@dataclass
class Api:
    """A client of the gateway, and the few things that every test does."""

    client: httpx2.AsyncClient
    platform: Platform
    folder: Path

    async def get(self, path: str, expected: int = 200, /, **query: Any) -> Json:
        return self._checked(await self.client.get(path, params=query), expected)

    async def post(self, path: str, body: Any = None, status: int = 202, *, key: str | None = None) -> Json:
        headers = {} if key is None else {"Idempotency-Key": key}
        return self._checked(await self.client.post(path, json={} if body is None else body, headers=headers), status)

    async def put(self, path: str, body: Any, status: int = 200) -> Json:
        return self._checked(await self.client.put(path, json=body), status)

    async def delete(self, path: str, status: int = 200) -> Json:
        return self._checked(await self.client.delete(path), status)

    def _checked(self, response: httpx2.Response, status: int) -> Json:
        assert response.status_code == status, f"{response.request.method} {response.request.url}: {response.text}"
        found: Json = response.json() if response.content else {}
        return found

    async def workflow(self, *steps: Json, **document: Any) -> str:
        given = {"steps": list(steps)} if steps else {}
        return str((await self.post("/workflows", {"name": "w", **given, **document}, 201))["id"])

    async def start(self, workflow_id: str, given: Any = None, **body: Any) -> str:
        return str((await self.post(f"/workflows/{workflow_id}/execute", {"input": given, **body}))["execution_id"])

    async def until(self, execution_id: str, holds: Callable[[Json], object]) -> Json:
        """The execution, once that holds."""
        found: Json = {}
        try:
            async with asyncio.timeout(20):
                while not holds(found := await self.get(f"/executions/{execution_id}")):
                    await asyncio.sleep(0.03)
        except TimeoutError:
            steps = [(found["step_id"], found["status"]) for found in found["steps"]]
            raise AssertionError(f"{execution_id} is {found['status']}: {steps}, {found['error']}") from None
        return found

    async def ended(self, execution_id: str) -> Json:
        return await self.until(execution_id, lambda found: found["status"] in ENDED)

    async def run(self, *steps: Json, given: Any = None, **document: Any) -> Json:
        return await self.ended(await self.start(await self.workflow(*steps, **document), given))

    async def at(self, execution_id: str, step_id: str, *statuses: str) -> Json:
        """The execution, once the step is in one of the statuses."""
        wanted = statuses or ("running", "waiting")
        return await self.until(
            execution_id, lambda found: any(s["step_id"] == step_id and s["status"] in wanted for s in found["steps"])
        )

    async def events(self, execution_id: str) -> list[Json]:
        return list((await self.get(f"/executions/{execution_id}/events", limit=200))["items"])

    @asynccontextmanager
    async def as_tenant(self, organization: str, user: str = "eve", role: str = "admin") -> AsyncIterator["Api"]:
        token = mint(self.folder / "auth", user=user, organization=organization, project="p", ttl=3600, roles=(role,))
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(base_url=self.client.base_url, headers=headers, timeout=20) as client:
            yield Api(client, self.platform, self.folder)


def statuses(execution: Json) -> dict[str, str]:
    return {found["step_id"]: found["status"] for found in execution["steps"]}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with product_in(tmp_path_factory.mktemp("product")) as found:
        yield found


@asynccontextmanager
async def product_in(folder: Path, **env: str) -> AsyncIterator[Api]:
    """A platform of its own, and a client of it; none of its services may have fallen by the end."""
    async with platform_in(folder, agents=[local_tools(folder)], env=TOOLS_ENV | env) as platform:
        token = mint(folder / "auth", user="ada", organization="acme", project="p", ttl=36_000)
        headers = {"Authorization": f"Bearer {token}"}
        base = platform.cluster.url("gateway") + "/api/v1"
        async with httpx2.AsyncClient(base_url=base, headers=headers, timeout=20) as client:
            yield Api(client, platform, folder)
        fallen = [process.tail() for process in platform.cluster.processes if not process.running]
        assert not fallen, fallen
