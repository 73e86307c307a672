"""Which controls an execution can take now, and why not the others. Pure: the scheduler decides again, on what is true then."""

from collections.abc import Iterable, Mapping
from typing import Any

from handrail_graph import CHOOSING, EDITABLE

from handrail_gateway.problems import Problem, conflict
from handrail_gateway.streaming import TERMINAL

Json = Mapping[str, Any]
UNDER_WAY = ("running", "waiting", "retrying", "blocked")
OF_STEPS = ("retry", "skip", "edit", "rewind")
NOT_PAUSED = ("retry", "edit", "rewind", "migrate")


def check(action: str, execution: Json, steps: Iterable[Json] = (), step_id: str = "") -> None:
    """Raises a 409 `Problem` that says why the action is impossible."""
    status = execution["status"]
    if status in TERMINAL:
        raise conflict("ALREADY_FINISHED", f"The execution has ended: {status}.")
    if status == "compensating" and action != "terminate":
        raise conflict(
            "COMPENSATING", "What the execution did is being undone before it ends; it can only be terminated."
        )
    if status == "queued" and action not in ("cancel", "terminate", "signal"):
        raise conflict("QUEUED", "The execution waits for a place and has not begun; it can only be cancelled.")
    if status == "paused" and action in NOT_PAUSED:
        raise conflict("PAUSED", f"The execution is paused; resume it before you {action} anything.")
    if action in OF_STEPS:
        step = next((step for step in steps if step["step_id"] == step_id), None)
        if step is None:
            raise conflict("STEP_NOT_BEGUN", f"Step {step_id!r} has not begun, or there is none of that id.")
        problem = _of_step(action, step)
        if problem is not None:
            raise problem


def _of_step(action: str, step: Json) -> Problem | None:
    name, status, kind = step["step_id"], step["status"], step["step_type"]
    match action:
        case "retry" if status not in ("retrying", "blocked"):
            detail = f"Step {name!r} is {status}; only one that failed and waits for its next attempt can be retried."
            return conflict("NOT_RETRYABLE", detail)
        case "skip" if status not in UNDER_WAY:
            return conflict("NOT_SKIPPABLE", f"Step {name!r} is {status}; only one that is under way can be skipped.")
        case "skip" if kind in CHOOSING:
            detail = f"Step {name!r} ({kind}) chooses a branch, and nobody can say which it would take. Rewind to it instead."
            return conflict("NOT_SKIPPABLE", detail)
        case "edit" if status not in UNDER_WAY or kind not in EDITABLE:
            takers = "agents, tools, calls, sub-workflows, gates and delays that are under way"
            return conflict("NOT_EDITABLE", f"Step {name!r} ({kind}) is {status}; only {takers} take another input.")
        case "rewind" if status in ("skipped", "rewound", "pending"):
            return conflict("NOT_REWINDABLE", f"Step {name!r} is {status}; rewind to a step that has run.")
        case "rewind" if "]" in name:
            detail = f"Step {name!r} is part of a loop's turn; rewind to the loop, {name.partition('[')[0]!r}."
            return conflict("NOT_REWINDABLE", detail)
        case _:
            return None


def retried(steps: Iterable[Json]) -> str:
    """The one step that can be retried. Raises a 409 `Problem` if there is none, or several."""
    found = [step["step_id"] for step in steps if step["status"] in ("blocked", "retrying")]
    if len(found) == 1:
        return str(found[0])
    which = f"; there are {', '.join(found)}" if found else "; none of its steps has failed"
    raise conflict("NOT_RETRYABLE", f"Name the step to retry{which}.")
