"""What a generated workflow has to look like, whoever designed it: the checks of `generate_descriptions.json`."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from handrail_graph import (
    AgentParameters,
    ApiCallParameters,
    DelayParameters,
    Graph,
    LoopParameters,
    Node,
    StepType,
    ToolParameters,
    compile_workflow,
)

Json = dict[str, Any]


def flaws(wanted: Json, answer: Json) -> list[str]:
    """Everything that is asked for and not there."""
    graph = compile_workflow(answer["workflow"])
    return [
        f"{name} {value!r}"
        for name, check in CHECKS.items()
        if (value := wanted.get(name)) is not None and not check(graph, answer, value)
    ]


def nodes(graph: Graph) -> Iterator[Node]:
    for step_id in graph.nodes:
        yield graph.nodes[step_id]
        if isinstance(parameters := graph.nodes[step_id].parameters, LoopParameters):
            yield from nodes(parameters.body)


def words(node: Node) -> str:
    agent = node.parameters.agent if isinstance(node.parameters, AgentParameters) else ""
    return f"{node.id} {node.name} {agent}".lower()


def before(graph: Graph, step_id: str) -> set[str]:
    found: set[str] = set()
    rest = [step_id]
    while rest:
        for other in graph.nodes[rest.pop()].predecessors:
            if other not in found:
                found.add(other)
                rest.append(other)
    return found


def _types(graph: Graph, answer: Json, wanted: dict[str, int]) -> bool:
    there = [node.type.value for node in nodes(graph)]
    return all(there.count(kind) >= least for kind, least in wanted.items())


def _gate_before(graph: Graph, answer: Json, risky: str) -> bool:
    """The last step that these words mean is reached past a person."""
    acting = [
        node
        for node in graph.nodes.values()
        if node.type is not StepType.HUMAN_APPROVAL and re.search(risky, words(node))
    ]
    gates = {node.id for node in graph.nodes.values() if node.type is StepType.HUMAN_APPROVAL}
    return bool(acting) and any(before(graph, node.id) & gates for node in acting)


def _ordered(graph: Graph, answer: Json, wanted: list[str]) -> bool:
    """For each of the words a step, and one before the other."""
    places = [
        [n for n, step_id in enumerate(graph.order) if re.search(word, words(graph.nodes[step_id]))] for word in wanted
    ]
    last = -1
    for found in places:
        later = [place for place in found if place > last]
        if not later:
            return False
        last = later[0]
    return True


def _branches(graph: Graph, answer: Json, _: bool) -> bool:
    conditions = [node for node in nodes(graph) if node.type is StepType.CONDITION]
    switches = [node for node in nodes(graph) if node.type is StepType.SWITCH]
    return any(node.next and node.otherwise for node in conditions) or any(len(node.cases) > 1 for node in switches)


def _decisions(graph: Graph, answer: Json, least: int) -> bool:
    """So many ways out of decisions, by a switch or by conditions one after the other."""
    ways = [len(set(node.targets)) for node in nodes(graph) if node.type in (StepType.CONDITION, StepType.SWITCH)]
    return sum(ways) - max(len(ways) - 1, 0) >= least


def _loop(graph: Graph, answer: Json, kind: str) -> bool:
    loops = [node.parameters for node in nodes(graph) if isinstance(node.parameters, LoopParameters)]
    return any((loop.over if kind == "over" else loop.until) is not None for loop in loops)


def _body(graph: Graph, answer: Json, least: int) -> bool:
    return any(
        isinstance(node.parameters, LoopParameters) and len(node.parameters.body.nodes) >= least
        for node in nodes(graph)
    )


CHECKS: dict[str, Callable[[Graph, Json, Any], bool]] = {
    "trigger": lambda graph, answer, kind: graph.trigger is not None and graph.trigger.kind == kind,
    "cron": lambda graph, answer, cron: bool(
        graph.trigger and graph.trigger.timetable and graph.trigger.timetable.cron == cron
    ),
    "types": _types,
    "fork": lambda graph, answer, least: any(len(node.next) >= least for node in nodes(graph)),
    "join": lambda graph, answer, least: any(len(node.predecessors) >= least for node in nodes(graph)),
    "gate_before": _gate_before,
    "ordered": _ordered,
    "branches": _branches,
    "decisions": _decisions,
    "loop": _loop,
    "body": _body,
    "url": lambda graph, answer, url: any(
        isinstance(node.parameters, ApiCallParameters) and url in str(node.parameters.url.value)
        for node in nodes(graph)
    ),
    "tool": lambda graph, answer, tool: any(
        isinstance(node.parameters, ToolParameters) and node.parameters.tool == tool for node in nodes(graph)
    ),
    "delay_seconds": lambda graph, answer, seconds: any(
        isinstance(node.parameters, DelayParameters) and node.parameters.seconds.value == seconds
        for node in nodes(graph)
    ),
    "reuses": lambda graph, answer, agents: (
        {*agents} <= {*answer["existing_agents_used"]} and {*agents} <= graph.agents
    ),
    "creates": lambda graph, answer, count: len(answer["agents_to_create"]) == count,
}
