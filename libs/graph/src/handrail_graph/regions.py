"""Which steps belong together: compensations, branches in which a failure stays, what a join no longer needs."""

from collections.abc import Mapping
from typing import Any

from handrail_graph.drafts import Draft
from handrail_graph.graph import Node, ParallelParameters, StepType
from handrail_graph.problems import Problems, closest, shown

COMPENSATING = (
    StepType.AGENT_EXECUTION,
    StepType.TOOL_CALL,
    StepType.API_CALL,
    StepType.SUB_WORKFLOW,
    StepType.DATA_TRANSFORM,
)
_SHARED = ""
"""The mark of steps that several branches lead to."""


def check_compensations(
    drafts: list[Draft], nodes: Mapping[str, Node], incoming: Mapping[str, int], problems: Problems
) -> dict[str, str]:
    """The steps that undo others, each with the one that it undoes."""
    undone: dict[str, str] = {}
    for draft in drafts:
        handler = draft.node.compensation
        if handler is None:
            continue
        where = f"{draft.path}.compensate_with"
        if handler not in nodes:
            problems.add(where, "missing_step", f"there is no step {shown(handler)}{closest(handler, nodes)}")
        elif handler in undone:
            problems.add(where, "duplicate_edge", f"step {handler!r} undoes step {undone[handler]!r} already")
        elif incoming[handler] or nodes[handler].targets or handler == draft.node.id:
            message = f"step {handler!r} can only undo: no step may lead to it, and it leads to none"
            problems.add(where, "misplaced", message)
        elif nodes[handler].type not in COMPENSATING or nodes[handler].compensation is not None:
            message = f"a step is undone by one of {', '.join(COMPENSATING)}; {handler!r} is a {nodes[handler].type}"
            problems.add(where, "misplaced", message)
        else:
            undone[handler] = draft.node.id
    return undone


def regions_of(nodes: Mapping[str, Node], order: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """For the steps that have any: `branch`, `members` and `rest`, as `Node` explains them."""
    found: dict[str, dict[str, Any]] = {}
    for step_id in order:
        node = nodes[step_id]
        if isinstance(node.parameters, ParallelParameters) and node.parameters.error_policy != "fail_fast":
            members = _members(node, nodes, order)
            found.setdefault(step_id, {})["members"] = members
            for member in members:
                found.setdefault(member, {})["branch"] = step_id
        if node.rest:
            found.setdefault(step_id, {})["rest"] = _rest(step_id, nodes, order)
    return found


def _members(parallel: Node, nodes: Mapping[str, Node], order: tuple[str, ...]) -> tuple[str, ...]:
    """The steps that exactly one of its branches leads to."""
    branch = {target: target for target in parallel.next}
    for step_id in order:
        if (own := branch.get(step_id)) is not None:
            for target in nodes[step_id].targets:
                branch[target] = own if branch.get(target, own) == own else _SHARED
    return tuple(step_id for step_id in order if branch.get(step_id))


def _rest(join: str, nodes: Mapping[str, Node], order: tuple[str, ...]) -> tuple[str, ...]:
    """The steps from which every way leads to the join."""
    rest = {join}
    for step_id in reversed(order):
        targets = nodes[step_id].targets
        if targets and rest.issuperset(targets):
            rest.add(step_id)
    rest.remove(join)
    return tuple(step_id for step_id in order if step_id in rest)
