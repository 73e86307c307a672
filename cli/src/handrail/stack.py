"""Where a stack lives: its data folder, its ports, and what is written down about a running one."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MODULES = {
    "offline-model": "handrail.offline_model",
    "offline-mail": "handrail.offline_mail",
    "scheduler": "handrail_scheduler",
    "agent-runner": "handrail_agent_runner",
    "approvals": "handrail_approvals",
    "projector": "handrail_projector",
    "gateway": "handrail_gateway",
}
"""What runs, in the order in which it is started; the offline model and mail are of the embedded platform alone."""
PORTS = {
    "gateway": 8000,
    "scheduler": 8001,
    "agent-runner": 8002,
    "approvals": 8003,
    "projector": 8004,
    "offline-model": 8005,
    "offline-mail": 8006,
    "smtp": 8025,
}


def data_folder(chosen: Path | None) -> Path:
    """`--data-dir`, or `HANDRAIL_DATA_DIR`, or `.handrail` here."""
    return (chosen or Path(os.environ.get("HANDRAIL_DATA_DIR") or ".handrail")).resolve()


@dataclass(frozen=True)
class Running:
    """What `up.json` says about a running stack."""

    pid: int
    brokers: str
    database_url: str
    ports: dict[str, int]
    pids: dict[str, int | None] = field(default_factory=dict)

    @property
    def gateway(self) -> str:
        return f"http://127.0.0.1:{self.ports['gateway']}"


def write_running(folder: Path, running: Running) -> None:
    target = folder / "up.json"
    draft = target.with_suffix(".tmp")
    draft.write_text(json.dumps(asdict(running), indent=2))
    draft.replace(target)


def read_running(folder: Path) -> Running | None:
    """The stack that runs on this folder, if its supervisor is alive."""
    try:
        raw: dict[str, Any] = json.loads((folder / "up.json").read_text())
        running = Running(**raw)
        os.kill(running.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return running
