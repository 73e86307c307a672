"""Where an execution stands in a graph, and whether it could stand there in another one."""

from collections.abc import Callable, Iterable, Mapping

from handrail_graph.graph import Graph


def downstream(graph: Graph, step_id: str) -> set[str]:
    """The step and all that it leads to."""
    return _reached(step_id, lambda other: graph.nodes[other].targets)


def upstream(graph: Graph, step_id: str) -> set[str]:
    """The step and all that leads to it."""
    return _reached(step_id, lambda other: graph.nodes[other].predecessors)


def _reached(step_id: str, ways: Callable[[str], Iterable[str]]) -> set[str]:
    found, queue = {step_id}, [step_id]
    while queue:
        for other in ways(queue.pop()):
            if other not in found:
                found.add(other)
                queue.append(other)
    return found


def unplaced(begun: Mapping[str, str], new: Graph) -> Iterable[str]:
    """Why steps that have begun, given by id with their types, have no place in the other graph; nothing if all have."""
    for step_id, kind in begun.items():
        try:
            other = new.nodes[step_id].type
        except KeyError:
            yield f"step {step_id} has begun, and there is none of that id"
            continue
        if other != kind:
            yield f"step {step_id} has begun as {kind}, and it is {other} there"
