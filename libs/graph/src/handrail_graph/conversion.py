"""A graph written down again, in another dialect: what it has no words for is named, never dropped in silence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

from handrail_graph.build import references_of
from handrail_graph.graph import (
    AgentParameters,
    ApiCallParameters,
    ApprovalParameters,
    ConditionParameters,
    DelayParameters,
    Graph,
    LoopParameters,
    Node,
    ParallelParameters,
    Parameters,
    Retry,
    SignalParameters,
    StepType,
    SubWorkflowParameters,
    SwitchParameters,
    ToolParameters,
    TransformParameters,
    TriggerParameters,
)

DIALECTS = ("steps", "tasks", "dependencies", "definition")


@dataclass(slots=True)
class Converted:
    """`document` is None if the dialect can't say the workflow at all; `lost` says what it leaves out, or why it can't."""

    document: dict[str, Any] | None
    lost: list[str] = field(default_factory=list)


def convert(graph: Graph, dialect: str) -> Converted:
    return _CONVERTERS[dialect](graph)


def to_steps(graph: Graph) -> Converted:
    """Every graph can be said in this dialect."""
    return Converted({**_head(graph), "steps": [_step(node) for node in graph.nodes.values()]})


def _head(graph: Graph) -> dict[str, Any]:
    head: dict[str, Any] = {"name": graph.name}
    if graph.description:
        head["description"] = graph.description
    if graph.timeout_seconds is not None:
        head["timeout_seconds"] = graph.timeout_seconds
    inside = any(node.type is StepType.TRIGGER for node in graph.nodes.values())
    if graph.trigger is not None and not inside:
        head["trigger"] = _trigger(graph.trigger)
    if graph.budget is not None:
        head["budget"] = graph.budget.model_dump(exclude_none=True)
    if graph.concurrency is not None:
        limits = graph.concurrency
        key = {} if limits.key is None else {"key": limits.key.value}
        head["concurrency"] = {"limit": limits.limit, **key, "on_conflict": limits.on_conflict}
    return head


def _step(node: Node) -> dict[str, Any]:
    step: dict[str, Any] = {"step_id": node.id, "step_type": node.type.value}
    if node.name != node.id:
        step["name"] = node.name
    step["parameters"] = _parameters(node)
    optional = {
        "next_steps": list(node.next),
        "else_steps": list(node.otherwise),
        "error_steps": list(node.catch),
        "on_error": node.on_error if node.on_error != "fail" else None,
        "compensate_with": node.compensation,
        "join": node.join,
        "cancel_rest": bool(node.rest),
        "timeout_seconds": node.timeout_seconds,
        "retry": _retry(node.retry),
    }
    return step | {name: value for name, value in optional.items() if value} | _terms(node)


def _terms(node: Node) -> dict[str, Any]:
    return {} if node.task is None else dict(node.task.said)


def _retry(retry: Retry) -> dict[str, Any]:
    standard = Retry()
    names = [each.name for each in fields(Retry)]
    return {name: getattr(retry, name) for name in names if getattr(retry, name) != getattr(standard, name)}


def _trigger(trigger: TriggerParameters) -> dict[str, Any]:
    said: dict[str, Any] = {"kind": trigger.kind}
    if trigger.timetable is not None:
        said |= trigger.timetable.model_dump(mode="json", exclude_defaults=True)
        said |= {"overlap": trigger.overlap, "missed": trigger.missed}
        if trigger.input is not None:
            said["input"] = trigger.input
    if trigger.event:
        said |= {"event": trigger.event} | ({"source": trigger.source} if trigger.source else {})
    if trigger.condition is not None:
        said["condition"] = trigger.condition.text
    return said


def _parameters(node: Node) -> dict[str, Any]:
    match node.parameters:
        case TriggerParameters() as trigger:
            return _trigger(trigger)
        case AgentParameters(input=template, max_iterations=most, suggestion=rules) as asked:
            said = {**_asked(asked, "agent_id"), "input": template.value}
            said |= {} if most is None else {"max_iterations": most}
            return said | ({} if rules is None else {"suggestion": rules.said})
        case ToolParameters(tool=tool, arguments=arguments, ask_first=rules):
            return {"tool": tool, "arguments": arguments.value} | ({} if rules is None else {"ask_first": rules.said})
        case SubWorkflowParameters(workflow_id=workflow_id, version=version, input=template):
            pinned = {} if version is None else {"version": version}
            return {"workflow_id": workflow_id, **pinned, "input": template.value}
        case ApiCallParameters() as call:
            said = {
                "method": call.method,
                "url": call.url.value,
                "headers": call.headers.value,
                "body": call.body.value,
            }
            return said | ({"expected_status": list(call.expected_status)} if call.expected_status else {})
        case ConditionParameters(condition=condition):
            return {"condition": condition.text}
        case SwitchParameters(conditions=conditions, every=every):
            cases = [
                {"condition": condition.text, "next_steps": list(targets)}
                for condition, targets in zip(conditions, node.cases, strict=True)
            ]
            return {"cases": cases, "mode": "all" if every else "first"}
        case _ as parameters:
            return _more_parameters(parameters)


def _asked(parameters: AgentParameters, name: str) -> dict[str, Any]:
    if not parameters.capabilities:
        return {name: parameters.agent}
    choice = None if parameters.choice is None else parameters.choice.model_dump(exclude_defaults=True)
    return {"capabilities": list(parameters.capabilities)} | ({} if choice is None else {"choose": choice})


def _more_parameters(parameters: Parameters) -> dict[str, Any]:
    match parameters:
        case ParallelParameters(error_policy=policy):
            return {} if policy == "fail_fast" else {"error_policy": policy}
        case SignalParameters(name=name, on_timeout=on_timeout):
            return {"name": name, "on_timeout": on_timeout}
        case LoopParameters() as loop:
            until = {} if loop.until is None else {"until": loop.until.text}
            over = {} if loop.over is None else {"over": loop.over.value}
            limits = {"max_parallel": loop.max_parallel, "max_iterations": loop.max_turns}
            return {**over, **until, **limits, "steps": [_step(node) for node in loop.body.nodes.values()]}
        case DelayParameters(seconds=seconds):
            return {"seconds": seconds.value}
        case TransformParameters(output=output):
            return {"output": output.value}
        case ApprovalParameters() as gate:
            limit = {} if gate.timeout_seconds is None else {"timeout_seconds": gate.timeout_seconds}
            return {
                "approvers": list(gate.approvers), "message": gate.message.value, "show": gate.show.value, **limit,
                "on_timeout": gate.on_timeout, "on_reject": gate.on_reject, **({} if gate.rules is None else gate.rules.value),
            }  # fmt: skip
        case _:
            raise AssertionError(f"no way to write down {type(parameters).__name__}")


def to_tasks(graph: Graph) -> Converted:
    """A chain of agents."""
    chain = [graph.nodes[step_id] for step_id in graph.order if graph.nodes[step_id].type is not StepType.TRIGGER]
    if any(node.type is not StepType.AGENT_EXECUTION for node in chain):
        kinds = sorted({node.type.value for node in chain} - {"agent_execution"})
        return Converted(None, [f"tasks are agents one after the other; there is no word for {', '.join(kinds)}"])
    follows = all(node.next == (after.id,) for node, after in pairwise(chain))
    if not follows or len(graph.sinks) != 1:
        return Converted(None, ["tasks are one chain; this workflow branches"])
    lost = _lost(graph, chain)
    tasks = [_agent_task(node, "agent") | ({"name": node.name} if node.name != node.id else {}) for node in chain]
    renamed = {node.id: f"step_{number}" for number, node in enumerate(chain, 1)}
    if any(old != new for old, new in renamed.items()):
        lost.append("the ids of the steps: they become step_1, step_2, ...")
        if any(path[0] == "steps" for node in chain for path in references_of(node)):
            return Converted(None, ["an expression names another step by its id, and tasks have none"])
    return Converted({**_head(graph), "tasks": tasks}, lost)


def to_dependencies(graph: Graph) -> Converted:
    """Agents that wait for each other."""
    work = [graph.nodes[step_id] for step_id in graph.order if graph.nodes[step_id].type is not StepType.TRIGGER]
    if any(node.type is not StepType.AGENT_EXECUTION for node in work):
        kinds = sorted({node.type.value for node in work} - {"agent_execution"})
        return Converted(None, [f"tasks are done by agents; there is no word for {', '.join(kinds)}"])
    if any(node.join is not None or node.catch for node in work):
        return Converted(
            None, ["tasks wait for all that they depend on; there is no word for other joins or error steps"]
        )
    known = {node.id for node in work}
    tasks = [
        {
            "id": node.id, "name": node.name, **_agent_task(node, "agent_id"),
            "depends_on": [before for before in node.predecessors if before in known],
        }
        for node in work
    ]  # fmt: skip
    return Converted({**_head(graph), "tasks": tasks}, _lost(graph, work))


def _agent_task(node: Node, name: str) -> dict[str, Any]:
    assert isinstance(node.parameters, AgentParameters)
    task: dict[str, Any] = {**_asked(node.parameters, name), "input": node.parameters.input.value, **_terms(node)}
    if retry := _retry(node.retry):
        task["retry"] = retry
    if node.timeout_seconds is not None:
        task["timeout_seconds"] = node.timeout_seconds
    return task


def to_definition(graph: Graph) -> Converted:
    """Agents, tools and conditions from one entry; what else there is has no word of its own there."""
    work = [graph.nodes[step_id] for step_id in graph.order if graph.nodes[step_id].type is not StepType.TRIGGER]
    kinds = sorted({node.type.value for node in work} - {"agent_execution", "tool_call", "condition"})
    if kinds:
        return Converted(None, [f"a definition has no word for {', '.join(kinds)}"])
    first = [
        node.id for node in work if not [b for b in node.predecessors if graph.nodes[b].type is not StepType.TRIGGER]
    ]
    if len(first) != 1:
        return Converted(None, ["a definition begins with one step"])
    if any(node.join is not None or node.catch for node in work):
        return Converted(None, ["a definition has no word for joins of its own or error steps"])
    steps = [_definition_step(node) for node in work]
    return Converted({**_head(graph), "entry_step": first[0], "steps": steps}, _lost(graph, work))


def _definition_step(node: Node) -> dict[str, Any]:
    step: dict[str, Any] = {"id": node.id} | ({"name": node.name} if node.name != node.id else {})
    match node.parameters:
        case AgentParameters(input=template) as asked:
            step |= {"type": "agent", **_asked(asked, "agent_id"), "input": template.value}
        case ToolParameters(tool=tool, arguments=arguments):
            step |= {"type": "tool", "tool": tool, "input": arguments.value}
        case ConditionParameters(condition=condition):
            step |= {"type": "conditional", "condition": condition.text, "then": list(node.next)}
            return step | ({"else": list(node.otherwise)} if node.otherwise else {})
    optional = {"next": list(node.next), "retry": _retry(node.retry), "timeout_seconds": node.timeout_seconds}
    return step | {name: value for name, value in optional.items() if value} | _terms(node)


def _lost(graph: Graph, nodes: list[Node]) -> list[str]:
    lost = []
    for node in nodes:
        if node.on_error != "fail":
            lost.append(f"step {node.id}: on_error {node.on_error!r}")
        if node.compensation is not None:
            lost.append(f"step {node.id}: its compensation {node.compensation!r}")
        if isinstance(node.parameters, AgentParameters) and node.parameters.max_iterations is not None:
            lost.append(f"step {node.id}: max_iterations")
        if isinstance(node.parameters, AgentParameters) and node.parameters.suggestion is not None:
            lost.append(f"step {node.id}: that it suggests an action")
        if isinstance(node.parameters, ToolParameters) and node.parameters.ask_first is not None:
            lost.append(f"step {node.id}: that a person has to allow it")
    inside = [node for node in graph.nodes.values() if node.type is StepType.TRIGGER]
    if inside and graph.trigger is not None and graph.trigger.kind != "api":
        lost.append(f"step {inside[0].id}: the trigger of kind {graph.trigger.kind}")
    return lost


_CONVERTERS: Mapping[str, Callable[[Graph], Converted]] = {
    "steps": to_steps,
    "tasks": to_tasks,
    "dependencies": to_dependencies,
    "definition": to_definition,
}
