"""The supervisor: what ends is started again, and stopped things stay stopped."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from handrail.embedded import EmbeddedError
from handrail.embedded.process import free_port
from handrail.supervisor import BACK_OFF, Service, Supervisor

STEADY = "import time\nprint('up', flush=True)\ntime.sleep(600)\n"
BROKEN = "raise SystemExit('no such broker')\n"


@pytest.fixture
def programs(tmp_path: Path) -> dict[str, str]:
    """An environment in which `python -m steady` runs on and `python -m broken` ends at once."""
    (tmp_path / "steady.py").write_text(STEADY)
    (tmp_path / "broken.py").write_text(BROKEN)
    return {"PYTHONPATH": str(tmp_path)}


@pytest.fixture
def supervisor(tmp_path: Path, programs: dict[str, str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path / "logs", programs)
    yield supervisor
    supervisor.stop()


def supervised(supervisor: Supervisor, module: str) -> Service:
    supervisor.add(module, module, free_port())
    supervisor.start()
    return supervisor.services[module]


def poll_until(supervisor: Supervisor, holds: Callable[[], bool]) -> list[str]:
    said: list[str] = []
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        said += supervisor.poll()
        time.sleep(0.01)
    return said


def test_a_killed_service_is_started_again_at_once(supervisor: Supervisor) -> None:
    service = supervised(supervisor, "steady")
    first = service.child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    said = poll_until(supervisor, lambda: service.child.pid != first)
    assert said == [f"steady ended with code -9; starting it again in 0 s ({service.child.log})"]
    assert service.child.running


def test_a_service_that_keeps_ending_waits_longer_each_time(supervisor: Supervisor) -> None:
    service = supervised(supervisor, "broken")
    said = poll_until(supervisor, lambda: service.failures == 3)
    assert [line.split(" again in ")[1].split(" s ")[0] for line in said] == [f"{pause:g}" for pause in BACK_OFF[:3]]


def test_a_service_that_is_not_ready_is_named_with_the_end_of_its_log(supervisor: Supervisor) -> None:
    service = supervised(supervisor, "broken")
    poll_until(supervisor, lambda: "no such broker" in service.child.tail())
    with pytest.raises(EmbeddedError, match=r"broken is not ready after 0 s\. .*broken\.log ends with: no such broker"):
        supervisor.wait_ready(0)


def test_stop_ends_every_service(supervisor: Supervisor) -> None:
    service = supervised(supervisor, "steady")
    supervisor.stop()
    assert not service.child.running
