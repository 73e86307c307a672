"""The open gates of one execution."""

import zlib
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson
from handrail_contracts.envelope import JsonObject
from handrail_contracts.gates import GateRules

REMIND, ESCALATE = "#remind/", "#escalate/"
"""Timers of a gate beside its deadline, whose token is the gate's id alone."""


@dataclass(slots=True)
class Gate:
    """A gate that waits for people. Times are seconds since the epoch.

    `approvers` may decide, or anybody if there are none; of them only the `assignee`, if there is one. `votes` are the
    decisions that count so far, by approver: the decision, its submission, and the person who has spoken. `asking` is the
    question to the pool of reviewers that is open, of `asks` so far; `passed` are reviewers who gave the gate back. `level`
    counts the escalations, `reminded` the reminders.
    Of a suggestion, `revision` is the one that people see; `revising` while its agent works on the next one, and `unheard`
    are comments that came meanwhile.
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
    rules: JsonObject = field(default_factory=dict)
    opened_at: float = 0.0
    title: str = ""
    digest: str = ""
    assignee: str = ""
    votes: dict[str, list[str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    asks: int = 0
    asking: int = 0
    passed: list[str] = field(default_factory=list)
    level: int = 0
    reminded: int = 0

    @property
    def terms(self) -> GateRules:
        return GateRules.model_validate(self.rules) if self.rules else _PLAIN


_PLAIN = GateRules()


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
        return zlib.compress(orjson.dumps(asdict(replace(self, last_closed=None))), 1)

    @staticmethod
    def unpack(data: bytes) -> "Gates":
        raw: dict[str, Any] = orjson.loads(zlib.decompress(data))
        gates = {
            gate_id: Gate(**{**gate, "approvers": tuple(gate["approvers"])}) for gate_id, gate in raw["gates"].items()
        }
        return Gates(raw["execution_id"], raw["workflow_id"], gates)
