"""A platform of its own for the faults: broker, database, agents, and the five services, all killable."""

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import support
from chaos.load import Load
from handrail.embedded.broker import EmbeddedBroker
from handrail.embedded.database import EmbeddedDatabase
from handrail.embedded.process import free_port
from handrail.tokens import AUDIENCE, ISSUER, ensure_keys, mint
from handrail.topics import create_topics
from support.processes import Process, ServiceCluster

PLANTED_PEPPER = "pepper-planted-4711-nobody-may-see-this"
"""In the gateway's environment, for API keys."""
PLANTED_KEY = "sk-planted-4711-nobody-may-see-this"
"""In the runner's environment, for a model that needs a key."""


@dataclass
class Platform:
    broker: EmbeddedBroker
    database: EmbeddedDatabase
    cluster: ServiceCluster
    effects: Path
    load: Load
    model_url: str
    mail_url: str
    smtp_url: str

    @property
    def env(self) -> dict[str, str]:
        return {"HANDRAIL_BROKERS": self.broker.bootstrap, "HANDRAIL_DATABASE_URL": self.database.url}


@asynccontextmanager
async def platform_in(folder: Path, **cluster_options: Any) -> AsyncIterator[Platform]:
    """Broker, database, agents and services of its own; the options are those of `ServiceCluster`, and more `agents`."""
    broker, database = EmbeddedBroker(folder / "kafka"), EmbeddedDatabase(folder / "postgres")
    broker.start()
    database.start()
    port, effects = free_port(), folder / "effects.jsonl"
    command = [sys.executable, "-m", "support.effects", "--port", str(port), "--journal", str(effects)]
    agents = Process("effects", command, folder / "effects.log", cwd=Path(__file__).parents[1])
    models = free_port()
    command = [sys.executable, "-m", "handrail.offline_model", "--port", str(models)]
    model = Process("offline-model", command, folder / "offline-model.log")
    mails, smtp = free_port(), f"smtp://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "handrail.offline_mail", "--port", str(mails), "--smtp", smtp]
    mail = Process("offline-mail", command, folder / "offline-mail.log")
    env = _env(folder, port, cluster_options.pop("agents", [])) | {
        "HANDRAIL_OFFLINE_MODEL_URL": f"http://127.0.0.1:{models}/v1",
        "HANDRAIL_SMTP_URL": smtp,
    }
    env |= cluster_options.pop("env", {})
    try:
        database.wait_ready()
        broker.wait_ready()
        await create_topics(broker.bootstrap)
        agents.start()
        model.start()
        mail.start()
        cluster = ServiceCluster(broker.bootstrap, database.url, folder / "services", env=env, **cluster_options)
        async with cluster, Load(broker.bootstrap) as load:
            urls = f"http://127.0.0.1:{models}", f"http://127.0.0.1:{mails}"
            yield Platform(broker, database, cluster, effects, load, *urls, smtp)
    finally:
        for process in (agents, model, mail):
            if process.running:
                process.kill()
        broker.stop()
        database.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with platform_in(tmp_path_factory.mktemp("chaos"), supervise=True) as platform:
        yield platform


def _env(folder: Path, port: int, more: list[dict[str, Any]]) -> dict[str, str]:
    listed = folder / "agents.json"
    names = ("echo", "slow:50", "slow:2000", "flaky:1", "big:5000000", "fail:400", "hang")
    url = f"http://127.0.0.1:{port}"
    config = {"url": url, "breaker": False}  # they fail because they were told to: nobody is to be spared
    agents: list[dict[str, Any]] = [{"agent": name, "kind": "http", "config": config} for name in names]
    noop = {"entry_point": "handrail_agent_runner.builtin:noop"}
    listed.write_text(json.dumps([*agents, *more, {"agent": "noop", "kind": "python", "config": noop}]))
    return {
        "HANDRAIL_AGENTS_FILE": str(listed),
        "HANDRAIL_AUTH_JWKS_FILE": str(ensure_keys(folder / "auth")),
        "HANDRAIL_AUTH_ISSUER": ISSUER,
        "HANDRAIL_AUTH_AUDIENCE": AUDIENCE,
        "HANDRAIL_WEBHOOK_KEY": "a key for tests",
        "HANDRAIL_KEY_PEPPER": PLANTED_PEPPER,
        "PLANTED_MODEL_KEY": PLANTED_KEY,
        "HANDRAIL_GENERATOR_MODEL": os.environ.get("HANDRAIL_GENERATOR_MODEL", "offline:generator"),
        "PLATFORM_TOKEN": f"Bearer {mint(folder / 'auth', user='ada', organization='acme', project='p', ttl=36_000)}",
        "HANDRAIL_TEST_EFFECTS": url,
        "PYTHONPATH": str(Path(support.__path__[0]) / "extension"),
    }
