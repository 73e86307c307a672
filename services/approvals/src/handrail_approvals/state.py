"""The open gates of one execution."""

import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson


@dataclass(slots=True)
class Gate:
    """A gate that waits for people. Times are seconds since the epoch.

    Of a suggestion, `revision` is the one that people see; `revising` while its agent works on the next one, and
    `unheard` are comments that came meanwhile.
    """

    step_id: str
    user_id: str
    organization_id: str
    project_id: str
    approvers: tuple[str, ...]
    deadline: float | None
    refused: int = 0
    agent: str = ""
    revision: int = 0
    revisable: bool = True
    revising: bool = False
    unheard: list[str] = field(default_factory=list)

    def may_decide(self, user_id: str) -> bool:
        return not self.approvers or user_id in self.approvers


@dataclass(slots=True)
class Gates:
    """Changed by `evolve` alone. A gate that closed is forgotten here; its id stays among the ended ones.

    `last_closed` is what an announcement of the closing needs; it is not packed.
    """

    execution_id: str
    workflow_id: str = ""
    gates: dict[str, Gate] = field(default_factory=dict)
    last_closed: Gate | None = None

    def pack(self) -> bytes:
        raw = asdict(self)
        del raw["last_closed"]
        return zlib.compress(orjson.dumps(raw), 1)

    @staticmethod
    def unpack(data: bytes) -> "Gates":
        raw: dict[str, Any] = orjson.loads(zlib.decompress(data))
        gates = {
            gate_id: Gate(**{**gate, "approvers": tuple(gate["approvers"])}) for gate_id, gate in raw["gates"].items()
        }
        return Gates(raw["execution_id"], raw["workflow_id"], gates)
