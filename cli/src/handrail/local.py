"""The whole stack on this machine: broker, database, topics, services."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from handrail.embedded import EmbeddedError
from handrail.embedded.broker import EmbeddedBroker
from handrail.embedded.database import EmbeddedDatabase
from handrail.embedded.process import check_port
from handrail.stack import MODULES, PORTS, Running, write_running
from handrail.supervisor import Supervisor
from handrail.tokens import AUDIENCE, ISSUER, ensure_keys, ensure_secret
from handrail.topics import TopicMismatch, create_topics

Say = Callable[[str], None]
BROKER_PORT, DATABASE_PORT = 9092, 5432
PROJECTOR_NICENESS = 5


@dataclass
class LocalStack:
    """Starts in order, stops in reverse order. A broker or database whose address is given is used, not started."""

    folder: Path
    say: Say
    ports: dict[str, int] = field(default_factory=lambda: dict(PORTS))
    broker_port: int | None = None
    database_port: int | None = None
    agents_file: Path | None = None
    brokers: str | None = field(default_factory=lambda: os.environ.get("HANDRAIL_BROKERS"))
    database_url: str | None = field(default_factory=lambda: os.environ.get("HANDRAIL_DATABASE_URL"))
    _broker: EmbeddedBroker | None = None
    _database: EmbeddedDatabase | None = None
    supervisor: Supervisor | None = None

    def start(self) -> Running:
        """Raises `EmbeddedError`; what was started by then is stopped by `stop`."""
        began = time.monotonic()
        for name, port in self.ports.items():
            check_port(port, f"the {name}")
        self._start_broker()
        self._start_database()
        brokers, database_url = self._broker_ready(began), self._database_ready(began)
        self.brokers, self.database_url = brokers, database_url
        self._create_topics(brokers)
        self._start_services(brokers, database_url)
        self.say(f"ready after {time.monotonic() - began:.1f} s")
        return self.running()

    def _start_broker(self) -> None:
        """From the main thread: a child dies with the thread that started it."""
        if not self.brokers:
            self._broker = EmbeddedBroker(self.folder / "kafka", self.broker_port)
            self._broker.start()

    def _broker_ready(self, began: float) -> str:
        if self._broker is None:
            assert self.brokers is not None
            self.say(f"using the broker at {self.brokers}")
            return self.brokers
        self._broker.wait_ready()
        self.say(f"Apache Kafka at {self._broker.bootstrap} ({time.monotonic() - began:.1f} s)")
        return self._broker.bootstrap

    def _start_database(self) -> None:
        if not self.database_url:
            self._database = EmbeddedDatabase(self.folder / "postgres", self.database_port)
            self._database.start()

    def _database_ready(self, began: float) -> str:
        if self._database is None:
            assert self.database_url is not None
            self.say("using the database of HANDRAIL_DATABASE_URL")
            return self.database_url
        self._database.wait_ready()
        self.say(f"PostgreSQL at 127.0.0.1:{self._database.port} ({time.monotonic() - began:.1f} s)")
        return self._database.url

    def _create_topics(self, brokers: str) -> None:
        try:
            created = asyncio.run(create_topics(brokers))
        except TopicMismatch as error:
            raise EmbeddedError(str(error)) from error
        except Exception as error:
            raise EmbeddedError(
                f"topics can't be created on {brokers}: {error}. Is that a Kafka-protocol broker?"
            ) from error
        if created:
            self.say(f"{len(created)} topics created")

    def _start_services(self, brokers: str, database_url: str) -> None:
        began = time.monotonic()
        env = {
            "HANDRAIL_BROKERS": brokers,
            "HANDRAIL_DATABASE_URL": database_url,
            "HANDRAIL_AUTH_JWKS_FILE": str(ensure_keys(self.folder / "auth")),
            "HANDRAIL_WEBHOOK_KEY": ensure_secret(self.folder / "auth", "webhook.key"),
            "HANDRAIL_KEY_PEPPER": ensure_secret(self.folder / "auth", "api-keys.key"),
            "HANDRAIL_PUBLIC_URL": f"http://127.0.0.1:{self.ports['gateway']}",
            "HANDRAIL_AUTH_ISSUER": ISSUER,
            "HANDRAIL_AUTH_AUDIENCE": AUDIENCE,
        }
        env["HANDRAIL_OFFLINE_MODEL_URL"] = f"http://127.0.0.1:{self.ports['offline-model']}/v1"
        modules = dict(MODULES)
        if os.environ.get("HANDRAIL_SMTP_URL"):
            del modules["offline-mail"]
        else:
            env["HANDRAIL_SMTP_URL"] = f"smtp://127.0.0.1:{self.ports['smtp']}"
        if self.agents_file is not None:
            env["HANDRAIL_AGENTS_FILE"] = str(self.agents_file.resolve())
        self.supervisor = Supervisor(self.folder / "logs", env, changed=self._write_down)
        for name, module in modules.items():
            nice = PROJECTOR_NICENESS if name == "projector" else 0
            self.supervisor.add(name, module, self.ports[name], nice)
        self.supervisor.start()
        self.supervisor.wait_ready(60)
        self.say(f"5 services, and a model and a mail server for trying out ({time.monotonic() - began:.1f} s)")

    def running(self) -> Running:
        assert self.brokers and self.database_url and self.supervisor
        pids = {name: service.child.pid for name, service in self.supervisor.services.items()}
        pids["kafka"] = None if self._broker is None else self._broker.pid
        pids["postgres"] = None if self._database is None else self._database.pid
        return Running(os.getpid(), self.brokers, self.database_url, self.ports, pids)

    def _write_down(self) -> None:
        write_running(self.folder, self.running())

    def poll(self) -> list[str]:
        """Looks after everything once; raises `EmbeddedError` if the broker or the database has ended."""
        assert self.supervisor is not None
        for what in (self._broker, self._database):
            if what is not None and not what.running:
                what.wait_ready(0)
        return self.supervisor.poll()

    def stop(self) -> None:
        if self.supervisor is not None:
            self.supervisor.stop()
        if self._broker is not None:
            self._broker.stop()
        if self._database is not None:
            self._database.stop()
        (self.folder / "up.json").unlink(missing_ok=True)
