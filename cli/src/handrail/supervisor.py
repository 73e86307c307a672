"""Runs the services as processes of their own, and starts one again that ended."""

import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from handrail.embedded import EmbeddedError
from handrail.embedded.process import Child

BACK_OFF = (0.0, 0.5, 1.0, 2.0, 5.0)
SETTLED_SECONDS = 30.0
STOP_SECONDS = 15.0


@dataclass
class Service:
    """One supervised process."""

    name: str
    module: str
    port: int
    child: Child
    nice: int = 0
    failures: int = 0
    started_at: float = 0.0
    restart_at: float | None = None


@dataclass
class Supervisor:
    """`poll` does the work; nothing happens between calls. `env` is given to every service."""

    logs: Path
    env: Mapping[str, str]
    changed: Callable[[], None] = lambda: None
    services: dict[str, Service] = field(default_factory=dict)

    def add(self, name: str, module: str, port: int, nice: int = 0) -> None:
        self.services[name] = Service(name, module, port, Child(name, self.logs / f"{name}.log"), nice)

    def start(self) -> None:
        for service in self.services.values():
            self._start(service)
        self.changed()

    def _start(self, service: Service) -> None:
        env = os.environ | dict(self.env)
        env |= {"HANDRAIL_PORT": str(service.port), "HANDRAIL_INSTANCE_ID": f"{service.name}-0"}
        service.child.start([sys.executable, "-m", service.module], env=env, nice=service.nice)
        service.started_at, service.restart_at = time.monotonic(), None

    def poll(self) -> list[str]:
        """Restarts what ended: at once the first time, then after growing pauses. Returns what was said about it."""
        said = []
        now = time.monotonic()
        for service in self.services.values():
            if service.child.running:
                if now - service.started_at > SETTLED_SECONDS:
                    service.failures = 0
                continue
            if service.restart_at is None:
                pause = BACK_OFF[min(service.failures, len(BACK_OFF) - 1)]
                service.failures += 1
                service.restart_at = now + pause
                code = service.child.exit_code
                said.append(
                    f"{service.name} ended with code {code}; starting it again in {pause:g} s ({service.child.log})"
                )
            if service.restart_at <= now:
                self._start(service)
                self.changed()
        return said

    def ready(self, name: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.services[name].port}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def wait_ready(self, timeout: float) -> None:
        """Raises `EmbeddedError` naming the service that is not ready, with the end of its log."""
        deadline = time.monotonic() + timeout
        waiting = list(self.services)
        while waiting:
            self.poll()
            waiting = [name for name in waiting if not self.ready(name)]
            if waiting and time.monotonic() > deadline:
                child = self.services[waiting[0]].child
                last = (child.tail().strip().splitlines() or ["nothing"])[-1][:300]
                raise EmbeddedError(f"{waiting[0]} is not ready after {timeout:g} s. {child.log} ends with: {last}")
            time.sleep(0.03)

    def stop(self) -> None:
        """All at once; each drains. What has not ended in time is killed."""
        running = [service for service in self.services.values() if service.child.running]
        for service in running:
            service.child.signal_end()
        deadline = time.monotonic() + STOP_SECONDS
        for service in running:
            service.child.stop(timeout=max(0.1, deadline - time.monotonic()))
