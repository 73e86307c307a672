"""From steps as a dialect read them to a graph: references, order, reach, and what expressions name."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from typing import Any

from handrail_graph.drafts import Draft
from handrail_graph.expressions import Path
from handrail_graph.graph import (
    AgentParameters,
    ApiCallParameters,
    ApprovalParameters,
    Concurrency,
    ConditionParameters,
    DelayParameters,
    Graph,
    LoopParameters,
    Node,
    Retry,
    StepType,
    SubWorkflowParameters,
    SwitchParameters,
    ToolParameters,
    TransformParameters,
    TriggerParameters,
)
from handrail_graph.instances import Incoming, Nodes
from handrail_graph.problems import Problems, closest, shown
from handrail_graph.regions import check_compensations, regions_of

MAX_STEPS = 5000
TOOL = "tool/"
"""What the names of tools begin with among the known agents."""
RETRY_FIELDS = ("max_attempts", "backoff_seconds", "multiplier", "max_backoff_seconds", "jitter")


def read_retry(raw: Mapping[str, Any], path: str, problems: Problems) -> Retry:
    given = problems.mapping(raw, "retry", path)
    problems.unknown_fields(given, RETRY_FIELDS, f"{path}retry")
    inside, standard = f"{path}retry.", Retry()
    attempts = problems.number(given, "max_attempts", inside, least=1, most=100, whole=True)
    backoff = problems.number(given, "backoff_seconds", inside, least=0, most=86_400)
    multiplier = problems.number(given, "multiplier", inside, least=1, most=100)
    longest = problems.number(given, "max_backoff_seconds", inside, least=0, most=86_400)
    jitter = problems.number(given, "jitter", inside, least=0, most=1)
    return Retry(
        standard.max_attempts if attempts is None else int(attempts),
        standard.backoff_seconds if backoff is None else backoff,
        standard.multiplier if multiplier is None else multiplier,
        standard.max_backoff_seconds if longest is None else longest,
        standard.jitter if jitter is None else jitter,
    )


def build(
    drafts: list[Draft],
    *,
    name: str,
    description: str,
    dialect: str,
    timeout_seconds: float | None,
    known_agents: Container[str] | None,
    problems: Problems,
    outer: Container[str] = (),
    trigger: TriggerParameters | None = None,
    concurrency: Concurrency | None = None,
) -> Graph:
    """Raises `DefinitionError` if anything was found, here or before. `outer`: other steps that expressions may name."""
    nodes = {draft.node.id: draft.node for draft in drafts}
    _check_references(drafts, nodes, problems)
    _check_agents(drafts, known_agents, problems)
    problems.raise_if_any()
    incoming, predecessors = _edges(nodes)
    undone = check_compensations(drafts, nodes, incoming, problems)
    entry = tuple(step_id for step_id in nodes if not incoming[step_id] and step_id not in undone)
    order = _order(nodes, dict(incoming), entry)
    if len(order) + len(undone) < len(nodes):
        _report_cycle(drafts, nodes, {*order, *undone}, problems)
    _check_entry(drafts, nodes, entry, problems)
    _check_joins(drafts, incoming, problems)
    problems.raise_if_any()
    for handler, step_id in undone.items():
        predecessors[handler] = [step_id]
    _check_expressions(drafts, nodes, (*order, *undone), predecessors, outer, problems)
    problems.raise_if_any()
    regions = regions_of(nodes, order)
    linked = Nodes(
        {
            step_id: replace(nodes[step_id], predecessors=tuple(predecessors[step_id]), **regions.get(step_id, {}))
            for step_id in nodes
        }
    )
    return Graph(
        name=name,
        dialect=dialect,
        nodes=linked,
        order=order,
        entry=entry,
        sinks=tuple(step_id for step_id in order if not linked[step_id].targets),
        incoming=Incoming(incoming, linked),
        agents=frozenset(agent for node in nodes.values() for agent in _agents_of(node)),
        trigger=next((n.parameters for n in nodes.values() if isinstance(n.parameters, TriggerParameters)), trigger),
        concurrency=concurrency,
        timeout_seconds=timeout_seconds,
        description=description,
        planned=tuple(step_id for step_id in order if linked[step_id].task is not None),
    )


def _agents_of(node: Node) -> Iterable[str]:
    if isinstance(node.parameters, LoopParameters):
        return node.parameters.body.agents
    named = isinstance(node.parameters, AgentParameters) and node.parameters.agent
    return (named,) if named else ()


def _check_references(drafts: list[Draft], nodes: Mapping[str, Node], problems: Problems) -> None:
    for draft in drafts:
        cases = ((draft.case_path.format(index), targets) for index, targets in enumerate(draft.node.cases))
        for field, targets in (
            (draft.next_path, draft.node.next), (draft.otherwise_path, draft.node.otherwise),
            ("error_steps", draft.node.catch), *cases,
        ):  # fmt: skip
            seen: set[str] = set()
            for index, target in enumerate(targets):
                where = f"{draft.path}.{field}[{index}]"
                if target not in nodes:
                    problems.add(where, "missing_step", f"there is no step {shown(target)}{closest(target, nodes)}")
                elif target in seen:
                    problems.add(where, "duplicate_edge", f"step {target!r} is named twice")
                seen.add(target)


def _check_agents(drafts: list[Draft], known: Container[str] | None, problems: Problems) -> None:
    if known is None:
        return
    names = known if isinstance(known, Iterable) else ()
    for draft in drafts:
        parameters = draft.node.parameters
        if isinstance(parameters, AgentParameters) and parameters.agent and parameters.agent not in known:
            hint = closest(parameters.agent, names) or "; register it first (PUT /api/v1/agents/{name})"
            problems.add(draft.agent_path, "unknown_agent", f"there is no agent {shown(parameters.agent)}{hint}")
        if isinstance(parameters, AgentParameters) and parameters.capabilities and isinstance(known, Mapping):
            _check_capabilities(parameters.capabilities, draft.agent_path, known, problems)
        if isinstance(parameters, ToolParameters) and parameters.tool:
            _check_tool(draft, parameters.tool, names, problems)


def _check_tool(draft: Draft, tool: str, names: Iterable[str], problems: Problems) -> None:
    """Of a server that nobody knows yet anything may be named: it may be registered later."""
    server = tool.partition(":")[0] if ":" in tool else ""
    known = [name.removeprefix(TOOL) for name in names if str(name).startswith(TOOL)]
    tools = [name for name in known if name.startswith(f"{server}:")] if server else [n for n in known if ":" not in n]
    if tool in tools or (server and not tools):
        return
    hint = closest(tool, tools) or f"; there are {', '.join(sorted(tools)) or 'none'}"
    problems.add(draft.parameters_path or draft.path, "unknown_tool", f"there is no tool {shown(tool)}{hint}")


def _check_capabilities(
    wanted: tuple[str, ...], path: str, known: Mapping[str, Iterable[str]], problems: Problems
) -> None:
    offered = [set(capabilities) for name, capabilities in known.items() if not name.startswith(TOOL)]
    if any(offer.issuperset(wanted) for offer in offered):
        return
    everything = sorted(set().union(*offered))
    lacking = [name for name in wanted if name not in everything]
    hint = closest(lacking[0], everything) if lacking else ""
    which = f"no agent has {shown(lacking[0])}" if lacking else f"no agent has all of {', '.join(wanted)}"
    problems.add(path, "no_capable_agent", f"{which}{hint or '; register one (PUT /api/v1/agents/{name})'}")


def _edges(nodes: Mapping[str, Node]) -> tuple[dict[str, int], dict[str, list[str]]]:
    incoming = dict.fromkeys(nodes, 0)
    predecessors: dict[str, dict[str, None]] = {step_id: {} for step_id in nodes}
    for node in nodes.values():
        for target in node.targets:
            incoming[target] += 1
            predecessors[target][node.id] = None
    return incoming, {step_id: list(found) for step_id, found in predecessors.items()}


def _order(nodes: Mapping[str, Node], open_edges: dict[str, int], entry: tuple[str, ...]) -> tuple[str, ...]:
    """Kahn's algorithm; steps on a cycle, or behind one, are missing from the result."""
    order: list[str] = list(entry)
    for step_id in order:
        for target in nodes[step_id].targets:
            open_edges[target] -= 1
            if not open_edges[target]:
                order.append(target)
    return tuple(order)


def _report_cycle(drafts: list[Draft], nodes: Mapping[str, Node], ordered: set[str], problems: Problems) -> None:
    """Names one cycle: from any step that could not be ordered, back over its predecessors, until one comes again."""
    rest = [step_id for step_id in nodes if step_id not in ordered]
    back = {target: step_id for step_id in rest for target in nodes[step_id].targets if target not in ordered}
    trail = [rest[0]]
    while back[trail[-1]] not in trail:
        trail.append(back[trail[-1]])
    cycle = trail[trail.index(back[trail[-1]]) :][::-1]
    first = min(range(len(cycle)), key=lambda index: rest.index(cycle[index]))
    cycle = cycle[first:] + cycle[:first]
    path = next(draft.path for draft in drafts if draft.node.id == cycle[0])
    problems.add(path, "cycle", f"these steps wait for each other: {' -> '.join([*cycle, cycle[0]])}")


def _check_entry(drafts: list[Draft], nodes: Mapping[str, Node], entry: tuple[str, ...], problems: Problems) -> None:
    triggers = [draft for draft in drafts if draft.node.type is StepType.TRIGGER]
    for draft in triggers[1:]:
        message = f"a workflow has one trigger; {triggers[0].node.id!r} is one already"
        problems.add(f"{draft.path}", "two_triggers", message)
    for draft in drafts:
        is_trigger = draft.node.type is StepType.TRIGGER
        if is_trigger and draft.node.id not in entry:
            problems.add(draft.path, "trigger_inside", "a trigger is where a workflow begins; no step may lead to it")
        elif triggers and not is_trigger and draft.node.id in entry:
            problems.add(draft.path, "unreachable", f"nothing leads to step {draft.node.id!r}")


def _check_joins(drafts: list[Draft], incoming: Mapping[str, int], problems: Problems) -> None:
    for draft in drafts:
        join, edges = draft.node.join, incoming[draft.node.id]
        if join is not None and join > edges:
            message = f"it can't wait for {join} steps: {edges} lead to {draft.node.id!r}"
            problems.add(f"{draft.path}.join", "join_too_wide", message)


def references_of(node: Node) -> Iterable[Path]:
    match node.parameters:
        case (
            AgentParameters(input=template)
            | DelayParameters(seconds=template)
            | TransformParameters(output=template)
            | ToolParameters(arguments=template)
            | SubWorkflowParameters(input=template)
        ):
            return template.references
        case ApiCallParameters(url=url, headers=headers, body=body):
            return url.references | headers.references | body.references
        case ConditionParameters(condition=condition):
            return condition.references
        case SwitchParameters(conditions=conditions):
            return frozenset[Path]().union(*(condition.references for condition in conditions))
        case LoopParameters(body=body, over=over, until=until):
            own = frozenset[Path]().union(*(each.references for each in (over, until) if each is not None))
            return own | _from_outside(body)
        case ApprovalParameters(message=message, show=show, rules=rules):
            return message.references | show.references | (frozenset() if rules is None else rules.references)
        case _:
            return ()


def _from_outside(body: Graph) -> frozenset[Path]:
    """Steps that a body's expressions name and that are not in it."""
    paths = (path for node in body.nodes.values() for path in references_of(node))
    return frozenset(path for path in paths if path[0] == "steps" and len(path) > 1 and path[1] not in body.nodes)


def _check_expressions(
    drafts: list[Draft],
    nodes: Mapping[str, Node],
    order: tuple[str, ...],
    predecessors: Mapping[str, list[str]],
    outer: Container[str],
    problems: Problems,
) -> None:
    """A step may name the outputs of steps that lead to it; others can't have one when it begins."""
    place = {step_id: index for index, step_id in enumerate(order)}
    before = _ancestors(order, predecessors, place)
    for draft in drafts:
        for path in sorted(references_of(draft.node)):
            if path[0] != "steps" or (len(path) > 1 and path[1] not in nodes and path[1] in outer):
                continue
            where = draft.parameters_path or draft.path
            if len(path) < 2 or path[1] not in nodes:
                named = path[1] if len(path) > 1 else ""
                problems.add(where, "missing_step", f"an expression names step {named!r}{closest(named, nodes)}")
            elif not before[draft.node.id] >> place[path[1]] & 1:
                message = f"an expression names step {path[1]!r}, which does not come before step {draft.node.id!r}"
                problems.add(where, "not_upstream", message)


def _ancestors(
    order: tuple[str, ...], predecessors: Mapping[str, list[str]], place: Mapping[str, int]
) -> dict[str, int]:
    """For each step the places of all that lead to it, as the bits of a number: one pass, whatever the graph."""
    found: dict[str, int] = {}
    for step_id in order:
        bits = 0
        for before in predecessors[step_id]:
            bits |= found[before] | 1 << place[before]
        found[step_id] = bits
    return found
