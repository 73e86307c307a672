"""Steps inside a loop have one instance for each turn: `LOOP[TURN].STEP`, as deep as loops are nested.

A graph resolves their names when it is asked for them, so that a loop of ten thousand turns costs nothing before it runs.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handrail_graph.graph import Graph, Node


def instance(loop_id: str, turn: int, step_id: str) -> str:
    return f"{loop_id}[{turn}].{step_id}"


def turn_of(step_id: str) -> tuple[str, int] | None:
    """The innermost loop that a step is an instance of, and its turn; None for a step of the workflow itself."""
    if "]" not in step_id:
        return None
    inside, _, _ = step_id.rpartition("].")
    loop_id, _, turn = inside.rpartition("[")
    return loop_id, int(turn)


def prefix_of(step_id: str) -> str:
    """What comes before the step's own name: `LOOP[TURN].`, or nothing."""
    if "]" not in step_id:
        return ""
    inside, dot, _ = step_id.rpartition("].")
    return inside + dot


def _body(nodes: "dict[str, Node]", step_id: str) -> "tuple[Graph, str, str]":
    """The body that an instance belongs to, its prefix there, and its name there."""
    from handrail_graph.graph import LoopParameters

    place = turn_of(step_id)
    if place is None:
        raise KeyError(step_id)
    parameters = nodes[place[0]].parameters
    if not isinstance(parameters, LoopParameters):
        raise KeyError(step_id)
    prefix = prefix_of(step_id)
    return parameters.body, prefix, step_id[len(prefix) :]


class Nodes(dict[str, "Node"]):
    """Nodes by id; those of loop bodies by the names of their instances."""

    def __missing__(self, step_id: str) -> "Node":
        body, prefix, name = _body(self, step_id)
        node = body.nodes[name]

        def named(targets: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(prefix + target for target in targets)

        return replace(
            node,
            id=step_id,
            next=named(node.next),
            otherwise=named(node.otherwise),
            cases=tuple(named(case) for case in node.cases),
            rest=named(node.rest),
            catch=named(node.catch),
            compensation=None if node.compensation is None else prefix + node.compensation,
            branch=None if node.branch is None else prefix + node.branch,
            members=named(node.members),
            predecessors=named(node.predecessors),
        )


class Incoming(dict[str, int]):
    """Edges by the step that they lead to; of instances, as in their body."""

    def __init__(self, counted: dict[str, int], nodes: Nodes) -> None:
        super().__init__(counted)
        self._nodes = nodes

    def __missing__(self, step_id: str) -> int:
        body, _, name = _body(self._nodes, step_id)
        return body.incoming[name]
