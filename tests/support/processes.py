"""Real processes under test: start, kill -9, SIGSTOP, SIGCONT, restart, logs; and the five services as one cluster."""

import asyncio
import atexit
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
from handrail.embedded.process import die_with_parent, free_port

HOST = "127.0.0.1"
POLL_SECONDS = 0.02
SERVICES = ("gateway", "scheduler", "agent-runner", "approvals", "projector")

_alive: set["Process"] = set()


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a process was dead or stopped, in `time.monotonic()`; `until` is None while it lasts."""

    name: str
    pid: int
    since: float
    until: float | None = None


@dataclass(eq=False)
class Process:
    """One program, started any number of times with the same command, environment and log file."""

    name: str
    command: Sequence[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    outages: list[Outage] = field(default_factory=list)
    starts: int = 0
    _popen: subprocess.Popen[bytes] | None = None

    @classmethod
    def of_module(cls, module: str, log: Path, env: Mapping[str, str] | None = None, *args: str) -> "Process":
        return cls(module, (sys.executable, "-m", module, *args), log, env or {})

    @property
    def pid(self) -> int:
        return self._started().pid

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        return self._started().poll()

    def start(self) -> Self:
        if self.running:
            raise RuntimeError(f"{self.name} already runs as process {self.pid}")
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(self.env),
                cwd=self.cwd,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self.starts += 1
        _alive.add(self)
        self._end_outage()
        return self

    def kill(self) -> int:
        """kill -9 of this process and what it started; waits until it is gone and returns its pid."""
        pid = self.pid
        self._begin_outage()
        self._signal_group(signal.SIGKILL)
        self._started().wait()
        _alive.discard(self)
        return pid

    def stop(self) -> None:
        """SIGSTOP: it keeps its sockets and its memory and does nothing, until `cont`."""
        self._begin_outage()
        self._signal_group(signal.SIGSTOP)

    def cont(self) -> None:
        self._signal_group(signal.SIGCONT)
        self._end_outage()

    def terminate(self) -> None:
        """SIGTERM: an orderly end; `wait` for it."""
        self._signal_group(signal.SIGTERM)

    async def wait(self, timeout: float = 30.0) -> int:
        """Its exit status. Raises `TimeoutError` with the end of its log if it does not end in time."""
        try:
            status = await asyncio.to_thread(self._started().wait, timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {timeout} s; its log ends with\n{self.tail()}") from None
        _alive.discard(self)
        return status

    async def shut_down(self, timeout: float = 15.0) -> int | None:
        """SIGTERM, and kill -9 when that is not enough. Its exit status, None if it never started."""
        if self._popen is None:
            return None
        if self.running:
            self._signal_group(signal.SIGCONT)
            self.terminate()
            try:
                return await self.wait(timeout)
            except TimeoutError:
                self.kill()
        _alive.discard(self)
        return self.returncode

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = 20) -> str:
        return "\n".join(self.output().splitlines()[-lines:])

    async def printed(self, text: str, timeout: float = 30.0) -> str:
        """Waits for a line with this text in its log and returns that line."""
        async with asyncio.timeout(timeout):
            while True:
                for line in self.output().splitlines(keepends=True):
                    if text in line and line.endswith("\n"):
                        return line.strip()
                if not self.running:
                    raise RuntimeError(
                        f"{self.name} ended with {self.returncode} before it said {text!r}\n{self.tail()}"
                    )
                await asyncio.sleep(POLL_SECONDS)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._popen is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._popen

    def _signal_group(self, number: signal.Signals) -> None:
        if self.running:
            os.killpg(self.pid, number)

    def _begin_outage(self) -> None:
        if not self.outages or self.outages[-1].until is not None:
            self.outages.append(Outage(self.name, self.pid, time.monotonic()))

    def _end_outage(self) -> None:
        if self.outages and self.outages[-1].until is None:
            last = self.outages[-1]
            self.outages[-1] = Outage(last.name, last.pid, last.since, time.monotonic())


@atexit.register
def _leave_nothing_behind() -> None:
    for process in list(_alive):
        process.kill()


@dataclass(eq=False)
class ServiceCluster:
    """The five services (or `instances` of each) against a given broker and database.

    Each instance has its own free port and `HANDRAIL_INSTANCE_ID`, and keeps both over restarts. With `supervise`, an
    instance that ends by itself or by `kill` is started again, as the supervisor of `handrail up` does; an instance that
    was shut down is not.
    """

    brokers: str
    database_url: str
    folder: Path
    instances: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(SERVICES, 1))
    env: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    supervise: bool = False
    restart_after: float = 0.2
    ready_timeout: float = 60.0
    _members: dict[tuple[str, int], Process] = field(default_factory=dict)
    _wanted: set[Process] = field(default_factory=set)
    _supervisor: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shut_down()

    async def start(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            for service, count in self.instances.items():
                for _ in range(count):
                    self._launch(service)
            await self.ready()
        except BaseException:
            await self.shut_down()
            raise
        if self.supervise:
            self._supervisor = asyncio.create_task(self._restart_the_fallen())
        return self

    async def shut_down(self) -> None:
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            await asyncio.gather(supervisor, return_exceptions=True)
        self._wanted.clear()
        await asyncio.gather(*(process.shut_down() for process in self.processes))

    @property
    def processes(self) -> list[Process]:
        return list(self._members.values())

    @property
    def outages(self) -> list[Outage]:
        return sorted((o for process in self.processes for o in process.outages), key=lambda o: o.since)

    def of(self, service: str) -> list[Process]:
        return [process for (name, _), process in self._members.items() if name == service]

    def get(self, service: str, number: int = 0) -> Process:
        return self._members[service, number]

    def url(self, service: str, number: int = 0) -> str:
        return f"http://{HOST}:{self.get(service, number).env['HANDRAIL_PORT']}"

    async def add(self, service: str, env: Mapping[str, str] | None = None) -> Process:
        """One more instance, ready."""
        process = self._launch(service, env)
        await self._ready(process)
        return process

    async def remove(self, service: str, number: int = 0) -> int | None:
        """Takes an instance away in good order; its exit status."""
        process = self._members.pop((service, number))
        self._wanted.discard(process)
        return await process.shut_down()

    def kill(self, service: str, number: int = 0) -> int:
        return self.get(service, number).kill()

    def kill_all(self) -> None:
        for process in self.processes:
            if process.running:
                process.kill()

    async def restart(self, service: str, number: int = 0, env: Mapping[str, str] | None = None) -> Process:
        """Starts a dead instance again (kills it first if it lives) and waits until it is ready."""
        process = self.get(service, number)
        if process.running:
            process.kill()
        if env:
            process.env = {**process.env, **env}
        process.start()
        await self._ready(process)
        return process

    async def ready(self) -> None:
        """Waits until every instance says so at /readyz."""
        await asyncio.gather(*(self._ready(process) for process in self.processes))

    def _launch(self, service: str, env: Mapping[str, str] | None = None) -> Process:
        number = next(n for n in range(len(self._members) + 1) if (service, n) not in self._members)
        name = f"{service}-{number}"
        settings = {
            "HANDRAIL_BROKERS": self.brokers,
            "HANDRAIL_DATABASE_URL": self.database_url,
            "HANDRAIL_HOST": HOST,
            "HANDRAIL_PORT": str(free_port()),
            "HANDRAIL_INSTANCE_ID": name,
        }
        module = self.modules.get(service, f"handrail_{service.replace('-', '_')}")
        command = (sys.executable, "-m", module)
        process = Process(name, command, self.folder / f"{name}.log", {**settings, **self.env, **(env or {})})
        self._members[service, number] = process.start()
        self._wanted.add(process)
        return process

    async def _ready(self, process: Process) -> None:
        url = f"http://{HOST}:{process.env['HANDRAIL_PORT']}/readyz"
        answer: Any = "nothing"
        async with httpx2.AsyncClient(timeout=2.0) as client:
            deadline = time.monotonic() + self.ready_timeout
            while time.monotonic() < deadline:
                if not process.running and not self.supervise:
                    raise RuntimeError(f"{process.name} ended with {process.returncode}:\n{process.tail()}")
                try:
                    response = await client.get(url)
                except httpx2.TransportError as error:
                    answer = error
                else:
                    if response.status_code == 200:
                        return
                    answer = response.text
                await asyncio.sleep(POLL_SECONDS)
        raise TimeoutError(f"{process.name} is not ready after {self.ready_timeout} s ({answer!r}):\n{process.tail()}")

    async def _restart_the_fallen(self) -> None:
        while True:
            for process in list(self._wanted):
                if not process.running:
                    await asyncio.sleep(self.restart_after)
                    if not process.running and process in self._wanted:
                        process.start()
            await asyncio.sleep(POLL_SECONDS)
