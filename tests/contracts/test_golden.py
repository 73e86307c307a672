"""Journals of released versions, folded by today's code, give the states that they gave then (R16).

A file is written once, by `python -m contracts.test_golden RELEASE STORY ...` with `PYTHONPATH=tests`, and never again: what it
holds is in somebody's journal. A later release adds a file.
"""

import hashlib
import sys
import zlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from handrail_contracts.envelope import ErrorInfo
from handrail_contracts.journal import Fences
from handrail_contracts.workflows import Origin, WorkflowDefined
from handrail_runtime.machine.partition import PartitionMachine
from handrail_scheduler.core import SchedulerCore
from handrail_scheduler.definitions import Definitions
from unit.stories import Workflow, agent

FOLDER = Path(__file__).parents[2] / "contracts" / "golden"
FILES = sorted(FOLDER.glob("*.json"))


def fold(golden: dict[str, Any]) -> list[str]:
    """A digest of the execution's state after each record."""
    definitions = Definitions()
    definitions.add(WorkflowDefined.model_validate(golden["workflow"]))
    machine: PartitionMachine[Any] = PartitionMachine(SchedulerCore(definitions), 0, 1, Fences({}))
    digests = []
    for offset, record in enumerate(golden["journal"]):
        headers = [(name, value.encode()) for name, value in record["headers"]]
        machine.fold(offset, headers, orjson.dumps(record["value"]))
        states = {
            execution: _filled(orjson.loads(_plain(machine, state))) for execution, state in machine.states.items()
        }
        digests.append(hashlib.sha256(orjson.dumps(states, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16])
    return digests


def _filled(state: dict[str, Any]) -> dict[str, Any]:
    """Without what is empty, so that a later release may add fields."""
    return {name: value for name, value in state.items() if value}


def _plain(machine: PartitionMachine[Any], state: Any) -> bytes:
    return zlib.decompress(state if isinstance(state, bytes) else machine.core.pack(state))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_journal_of_a_released_version_folds_to_the_same_states(path: Path) -> None:
    golden = orjson.loads(path.read_bytes())
    assert fold(golden) == golden["states"]


def test_there_are_journals_of_every_kind_of_end() -> None:
    said = b"".join(path.read_bytes() for path in FILES)
    for event in (
        "execution.completed", "execution.failed", "execution.cancelled", "execution.timed_out", "step.steered",
        "compensation.started", "steps.restored",
    ):  # fmt: skip
        assert event.encode() in said


def _stories() -> dict[str, Workflow]:
    condition = {
        "step_id": "c", "step_type": "condition", "parameters": {"condition": "input.n > 5"},
        "next_steps": ["high"], "else_steps": ["low"],
    }  # fmt: skip
    gate = {"step_id": "gate", "step_type": "human_approval", "parameters": {"message": "ok?"}, "next_steps": ["after"]}
    delay = {"step_id": "wait", "step_type": "delay", "parameters": {"seconds": 5}, "next_steps": ["gate"]}
    completed = Workflow(condition, agent("high", "join"), agent("low", "join"), agent("join"), input={"n": 9})
    completed.answer("high", {"score": 1})
    completed.answer("join", "done")
    failed = Workflow(agent("a", "b", retry={"max_attempts": 2, "backoff_seconds": 1}), agent("b"))
    failed.answer("a", error=ErrorInfo(code="AGENT_UNAVAILABLE", message="busy", retryable=True))
    while not failed.wait(0.5):
        pass
    failed.answer("a", error=ErrorInfo(code="AGENT_ERROR", message="no", retryable=False))
    waiting = Workflow(delay, gate, agent("after"), timeout_seconds=3600)
    waiting.wait(5)
    waiting.cancel()
    late = Workflow(agent("a", "b"), agent("b"), timeout_seconds=60)
    late.answer("a", [1, 2])
    late.wait(61)
    return {"completed": completed, "failed": failed, "cancelled": waiting, "timed_out": late, **_stories_of_0_2()}


def _stories_of_0_2() -> dict[str, Workflow]:
    broken = ErrorInfo(code="AGENT_ERROR", message="no")
    undone = Workflow(
        agent("a", "b", compensate_with="undo"), agent("b", "c", on_error="wait"), agent("c"), agent("undo")
    )
    undone.answer("a", 1)
    undone.answer("b", error=broken)
    undone.control("skip", step_id="b", data="by hand")
    undone.answer("c", error=broken)
    undone.answer("undo")
    body = [agent("x", "y", on_error="continue"), agent("y")]
    loop = {
        "step_id": "each",
        "step_type": "loop",
        "parameters": {"over": [1, 2], "steps": body},
        "next_steps": ["end"],
    }
    rewound = Workflow(loop, agent("end"))
    rewound.answer("each[0].x", error=broken)
    rewound.answer("each[0].y", "y")
    rewound.control("rewind", step_id="each")
    for turn in (0, 1):
        rewound.answer(f"each[{turn}].x", turn)
        rewound.answer(f"each[{turn}].y", turn)
    split = {
        "step_id": "split",
        "step_type": "parallel",
        "parameters": {"error_policy": "wait_all"},
        "next_steps": ["p", "q"],
    }
    origin = Origin(execution_id="old", outputs={"a": "A"}, stubs={"q": "Q"})
    forked = Workflow(
        agent("a", "split"),
        split,
        agent("p", "j"),
        agent("q", "j"),
        agent("j", join="any", cancel_rest=True),
        origin=origin,
    )
    forked.answer("p", error=broken)
    return {"undone": undone, "rewound": rewound, "forked": forked}


if __name__ == "__main__":
    for name, story in _stories().items():
        if name not in sys.argv[2:]:
            continue
        target = FOLDER / f"{sys.argv[1]}-{name}.json"
        golden = {"workflow": story.workflow, "journal": story.journal}
        target.write_bytes(orjson.dumps(golden | {"states": fold(golden)}, option=orjson.OPT_INDENT_2) + b"\n")
