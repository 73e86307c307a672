"""A child process with an orderly life: started, waited for, stopped, and gone when its parent is gone."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from handrail.embedded import EmbeddedError

_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def check_port(port: int, what: str) -> None:
    """Raises `EmbeddedError` if something listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise EmbeddedError(
                f"port {port}, which {what} wants, is in use. Stop what listens there, or choose another port."
            ) from error


def port_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def die_with_parent() -> None:
    """Runs in the child: the kernel ends it when its parent ends, however that happens."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """One child process; its output goes to a file."""

    def __init__(self, name: str, log: Path) -> None:
        self.name, self.log = name, log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def start(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | int | None = None,
        user: int | None = None,
        nice: int = 0,
    ) -> None:
        def prepare() -> None:
            if isinstance(cwd, int):
                os.fchdir(cwd)
            if nice:
                os.nice(nice)
            if user is not None:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            die_with_parent()

        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(os.environ if env is None else env),
                cwd=None if isinstance(cwd, int) else cwd,
                start_new_session=True,
                preexec_fn=prepare,  # the supervisor starts children from its main thread only
            )

    def wait_until(self, ready: Callable[[], bool], timeout: float, why: Callable[[str], EmbeddedError]) -> None:
        """Returns when `ready`; raises what `why` makes of the log if the process ends or time runs out."""
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running or time.monotonic() > deadline:
                raise why(self.tail())
            time.sleep(0.02)

    def tail(self, size: int = 8000) -> str:
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[-size:].decode("utf-8", "replace")

    def stop(self, number: int = signal.SIGTERM, timeout: float = 15.0) -> None:
        """Asks it to end, and ends it if it does not."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def signal_end(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
