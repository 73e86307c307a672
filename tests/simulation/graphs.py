"""Random workflows of every step type, small enough to run by the thousand."""

import random
from copy import copy
from typing import Any

from handrail_contracts.budgets import Limits
from handrail_contracts.envelope import utc
from handrail_contracts.workflows import WorkflowDefined
from handrail_graph import WORK
from handrail_scheduler.definitions import Definition, Definitions

COUNT = 10_000
APPROVERS = ["ann@example.com", "bo@example.com"]
REVIEWERS = ["lea@example.com", "max@example.com"]
STRANGER = "stranger@example.com"
SIGNALS = ["paid", "shipped"]
AGENTS = ["agent_0", "agent_1", "agent_2"]
TALKERS = ["talker_0", "talker_1"]
"""Agents that talk to a model over several turns, and call tools."""
ACTIONS: dict[str, Any] = {
    "send": "email",
    "close": "none",
    "call": {"type": "webhook", "url": "http://127.0.0.1:1/"},
}


def _parameters(r: random.Random, kind: str) -> dict[str, Any]:
    match kind:
        case "agent_execution":
            suggests = {"suggestion": _suggestion(r)} if r.random() < 0.25 else {}
            return {
                "agent_id": r.choice(AGENTS + TALKERS),
                "input": {"seen": "{{previous_output ?? 'nothing'}}"},
                **suggests,
            }
        case "api_call":
            return {"url": "http://127.0.0.1:1/x", "body": {"n": "{{input.n}}"}}
        case "condition":
            return {"condition": f"{{{{input.n}}}} > {r.randrange(10)}"}
        case "data_transform":
            return {"output": {"n": "{{input.n}}", "text": "n is {{input.n}}"}}
        case "delay":
            return {"seconds": r.choice([0, 1, 60])}
        case "signal":
            limit = {"timeout_seconds": 50, "on_timeout": r.choice(["fail", "continue"])} if r.random() < 0.5 else {}
            return {"name": r.choice(SIGNALS), **limit}
        case "parallel":
            return {"error_policy": r.choice(["fail_fast", "wait_all", "ignore"])}
        case "tool_call":
            asks = {"ask_first": _gate(r)} if r.random() < 0.4 else {}
            return {"tool": "files:read", "arguments": {"n": "{{input.n}}"}, **asks}
        case "sub_workflow":
            return {"workflow_id": f"w{r.randrange(CHILDLESS)}", "input": {"n": "{{input.n}}"}}
        case "loop":
            return _turns(r)
        case _:
            choices = {
                "on_timeout": r.choice(["fail", "approve", "reject"]),
                "on_reject": r.choice(["fail", "continue"]),
            }
            deadline = {"timeout_seconds": 30} if r.random() < 0.5 else {}
            return {**_people(r), "message": "go on?", **choices, **deadline}


def _people(r: random.Random) -> dict[str, Any]:
    """Mostly one of anybody; now and then two, one after the other, whom the pool chooses, or others after a while."""
    approvers = r.choice([[], APPROVERS])
    rules: dict[str, Any] = {}
    if r.random() < 0.2 and approvers:
        rules["require"] = r.choice(["all", "in_order", 2])
    elif r.random() < 0.2:
        rules |= {"assign": True, "specialties": r.choice([[], ["law"]])}
    if r.random() < 0.2:
        rules["escalation"] = [{"after_seconds": 20, **r.choice([{"approvers": APPROVERS}, {"specialties": ["law"]}])}]
    if r.random() < 0.1:
        rules["remind_after_seconds"] = [5, 15]
    return {"approvers": approvers, **rules}


def _gate(r: random.Random) -> dict[str, Any]:
    deadline = {"timeout_seconds": 30} if r.random() < 0.3 else {}
    choices = {"on_timeout": r.choice(["fail", "reject"]), "on_reject": r.choice(["fail", "continue"])}
    return {**_people(r), **choices, **deadline}


def _suggestion(r: random.Random) -> dict[str, Any]:
    return {**_gate(r), "actions": ACTIONS, "auto_approve": {"send": 0.9}, "max_revisions": r.randint(1, 3)}


def random_limits(r: random.Random) -> Limits:
    """Of one or two dimensions, small enough to be used up now and then."""
    chosen = {
        "tokens": r.choice([0, 500, 2_000, 10_000]),
        "cost_usd": r.choice([0.005, 0.05, 0.5]),
        "calls": r.choice([1, 4, 30]),
        "seconds": r.choice([5, 60]),
    }
    return Limits.model_validate({name: chosen[name] for name in r.sample(sorted(chosen), r.randint(1, 2))})


KINDS = (
    "agent_execution",
    "agent_execution",
    "agent_execution",
    "api_call",
    "condition",
    "data_transform",
    "delay",
    "human_approval",
    "switch",
    "parallel",
    "signal",
    "loop",
    "tool_call",
    "sub_workflow",
)
CHILDLESS = 20
"""The first workflows have no sub-workflows, so that the others can run them without end being far."""


def _turns(r: random.Random) -> dict[str, Any]:
    """One to three steps a turn, sometimes with a branch that is not taken, sometimes with a loop inside."""
    kind = r.choice(["agent_execution", "agent_execution", "data_transform", "delay", "signal"])
    last = {"step_id": "last", "step_type": kind, "parameters": _parameters(r, kind)}
    body: list[dict[str, Any]] = [last]
    if r.random() < 0.4:
        condition = {"condition": "loop.index > 0 || input.n > 4"}
        body.insert(0, {"step_id": "check", "step_type": "condition", "parameters": condition, "next_steps": ["last"]})
    elif r.random() < 0.3:
        deep = r.choice(["delay", "data_transform", "agent_execution"])
        inside: dict[str, Any] = {"steps": [{"step_id": "deep", "step_type": deep, "parameters": _parameters(r, deep)}]}
        inside |= r.choice([{"over": [1, 2]}, {"until": "loop.index >= loop.outer.index", "max_iterations": 2}])
        body.insert(0, {"step_id": "inner", "step_type": "loop", "parameters": inside, "next_steps": ["last"]})
    if r.random() < 0.3:
        return {"until": f"loop.index >= {r.randrange(3)}", "max_iterations": r.randint(2, 3), "steps": body}
    return {"over": list(range(r.randrange(4))), "max_parallel": r.randint(1, 3), "steps": body}


def _cases(r: random.Random, later: list[int]) -> dict[str, Any]:
    cases = [
        {"condition": f"{{{{input.n}}}} > {r.randrange(10)}", "next_steps": [f"s{r.choice(later)}"]}
        for _ in range(r.randint(1, 3))
    ]
    return {"cases": cases, "mode": r.choice(["first", "all"])}


def _add_joins(r: random.Random, steps: list[dict[str, Any]]) -> None:
    edges: dict[str, int] = {}
    for step in steps:
        cases = step["parameters"].get("cases", [])
        nexts = [*step.get("next_steps", []), *step.get("error_steps", []), *step.get("else_steps", [])]
        for target in [*nexts, *(c["next_steps"][0] for c in cases)]:
            edges[target] = edges.get(target, 0) + 1
    for step in steps:
        if edges.get(step["step_id"], 0) > 1 and r.random() < 0.4:
            step["join"] = r.randint(1, edges[step["step_id"]])
            if r.random() < 0.5:
                step["cancel_rest"] = True


def _add_policies(r: random.Random, steps: list[dict[str, Any]]) -> None:
    """What failures mean, and what undoes what was done."""
    size = len(steps)
    for number, step in enumerate(list(steps)):
        if step["step_type"] not in ("agent_execution", "api_call", "tool_call", "sub_workflow", "loop"):
            continue
        chance, later = r.random(), range(number + 1, size)
        if chance < 0.15:
            step["on_error"] = r.choice(["continue", "wait"])
        elif chance < 0.3 and later and (others := {f"s{n}" for n in later} - set(step["next_steps"])):
            step["error_steps"] = [r.choice(sorted(others))]
        if r.random() < 0.2:
            undo: dict[str, Any] = {
                "step_id": f"undo{number}",
                "step_type": r.choice(["agent_execution", "data_transform"]),
            }
            undo["parameters"] = _parameters(r, undo["step_type"])
            undo["retry"] = {"max_attempts": r.randint(1, 3), "backoff_seconds": 1}
            step["compensate_with"] = undo["step_id"]
            steps.append(undo)


def _add_terms(r: random.Random, steps: list[dict[str, Any]]) -> None:
    """Some are people's tasks, and due at some time."""
    for step in steps:
        if step["step_type"] in WORK and r.random() < 0.2:
            step |= {"priority": "high", "due_in_seconds": r.choice([0, 5, 60])}


def random_workflow(seed: int) -> dict[str, Any]:
    """Edges lead from lower to higher numbers, so there is no cycle; joins and skipped branches come by themselves."""
    r = random.Random(seed)
    size = r.randint(1, 8)
    steps = []
    for number in range(size):
        kind = r.choice(KINDS if seed >= CHILDLESS else KINDS[:-1])
        later = list(range(number + 1, size))
        targets = sorted(r.sample(later, min(len(later), r.choice([0, 1, 1, 2, 3]))))
        if kind == "switch" and not later:
            kind = "parallel"
        step: dict[str, Any] = {"step_id": f"s{number}", "step_type": kind, "parameters": {}}
        if kind == "switch":
            step["parameters"] = _cases(r, later)
            targets = []
        else:
            step["parameters"] = _parameters(r, kind)
        if kind == "condition":
            if not later:
                step |= {"step_type": "delay", "parameters": {"seconds": 1}}
            else:
                step["else_steps"] = [f"s{r.choice(later)}"]
        step["next_steps"] = [f"s{target}" for target in targets]
        if kind in ("agent_execution", "api_call", "tool_call", "sub_workflow", "loop"):
            step["retry"] = {"max_attempts": r.randint(1, 3), "backoff_seconds": r.choice([0, 1, 20])}
            if r.random() < 0.3:
                step["timeout_seconds"] = 15
        steps.append(step)
    _add_policies(r, steps)
    _add_joins(r, steps)
    _add_terms(random.Random(f"terms {seed}"), steps)
    document: dict[str, Any] = {"name": f"random {seed}", "steps": steps}
    if r.random() < 0.15:
        document["timeout_seconds"] = 100
    if r.random() < 0.15:
        document["budget"] = random_limits(r).model_dump(exclude_none=True)
    if r.random() < 0.2:
        key = {"key": "{{input.n}}"} if r.random() < 0.3 else {}
        conflict = r.choice(["queue", "queue", "cancel_old", "reject"])
        document["concurrency"] = {"limit": r.randint(1, 2), "on_conflict": conflict, **key}
    return document


class Generated(Definitions):
    """`COUNT` random workflows, `w0` and on, each in two versions, made and compiled when first asked for."""

    def with_own_budgets(self) -> "Generated":
        """The same workflows, in the table of one owner."""
        own = copy(self)
        own._budgets = {}
        return own

    def find(self, workflow_id: str, version: int | None) -> Definition | None:
        found = super().find(workflow_id, version)
        if found is None and workflow_id not in self._newest:
            document = random_workflow(int(workflow_id[1:]))
            for number in (1, 2):
                defined = WorkflowDefined(
                    event_id=f"{workflow_id}@{number}",
                    occurred_at=utc(0),
                    workflow_id=workflow_id,
                    version=number,
                    name=workflow_id,
                    definition=document if number == 1 else _longer(document),
                )
                self.add(defined)
            found = super().find(workflow_id, version)
        return found


def _longer(document: dict[str, Any]) -> dict[str, Any]:
    """A step more, after the last one that can have a step after it."""
    steps = [dict(step) for step in document["steps"]]
    last = [step for step in steps if not step["step_id"].startswith("undo")][-1]
    last["next_steps"] = [*last.get("next_steps", []), "extra"]
    extra = {
        "step_id": "extra",
        "step_type": "agent_execution",
        "parameters": _parameters(random.Random(0), "agent_execution"),
    }
    return {**document, "steps": [*steps, extra]}


DEFINITIONS = Generated()
