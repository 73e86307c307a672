"""Definitions with an `entry_step`: agent, tool, parallel, conditional and loop steps, and `${user_input}`."""

from collections.abc import Container, Mapping
from typing import Any

from handrail_graph.build import build, read_retry
from handrail_graph.dialects.common import SHOWN, StepIds, document_concurrency, document_name, document_trigger, items
from handrail_graph.dialects.loops import Outside, loop_parameters
from handrail_graph.drafts import Draft
from handrail_graph.graph import (
    AgentParameters,
    ConditionParameters,
    Graph,
    Node,
    ParallelParameters,
    Retry,
    StepType,
    TransformParameters,
)
from handrail_graph.parameters import PREVIOUS, READERS, agent_field, read_agent
from handrail_graph.problems import TEN_YEARS, DefinitionError, Problem, Problems, closest, shown
from handrail_graph.templates import compile_condition, compile_template
from handrail_graph.terms import FIELDS as TERMS
from handrail_graph.terms import read_terms

DOCUMENT_FIELDS = ("name", "description", "steps", "entry_step", "timeout_seconds", *SHOWN)
COMMON_FIELDS = ("id", "type", "name", "retry", "timeout_seconds")
FIELDS = {
    "agent": (*COMMON_FIELDS, "agent_id", "agent", "capabilities", "choose", "input", "next", *TERMS),
    "parallel": (*COMMON_FIELDS, "agents", "input", "next"),
    "conditional": (*COMMON_FIELDS, "condition", "then", "else"),
    "tool": (*COMMON_FIELDS, "tool", "input", "next", *TERMS),
    "loop": (*COMMON_FIELDS, "agents", "input", "condition", "over", "max_iterations", "max_parallel", "next"),
}
USER_INPUT = "${user_input}"


def recognises(document: Mapping[str, Any]) -> bool:
    return "entry_step" in document


def compile_document(document: Mapping[str, Any], known_agents: Container[str] | None) -> Graph:
    problems = Problems()
    problems.unknown_fields(document, DOCUMENT_FIELDS, "")
    name = document_name(document, problems)
    raw = items(document, "steps", "give at least one step", problems)
    ids = StepIds(problems)
    steps: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for index, step in enumerate(raw):
        path = f"steps[{index}]"
        if not isinstance(step, Mapping):
            problems.add(path, "wrong_type", "a step is an object with 'id' and 'type'")
        elif (step_id := ids.read(step, "id", path)) is not None and _type_is_known(step, path, problems):
            problems.unknown_fields(step, FIELDS[step["type"]], path)
            steps[step_id] = (path, step)
    begins = {
        step_id: _begin_of(step_id) if step["type"] == "parallel" else step_id for step_id, (_, step) in steps.items()
    }
    entry = document.get("entry_step")
    if entry not in steps:
        problems.add("entry_step", "missing_step", f"there is no step {shown(entry)}{closest(str(entry), steps)}")
    reader = _Reader(problems, begins, entry, known_agents)
    drafts = [draft for step_id, (path, step) in steps.items() for draft in reader.read(step, step_id, path)]
    graph = build(
        drafts,
        name=name,
        description=problems.text(document, "description", "", most=1000),
        dialect="definition",
        timeout_seconds=problems.number(document, "timeout_seconds", "", least=0.001, most=TEN_YEARS),
        known_agents=known_agents,
        problems=problems,
        trigger=document_trigger(document, problems),
        concurrency=document_concurrency(document, problems),
    )
    lost = [draft for draft in drafts if draft.node.id in graph.entry and draft.node.id != begins[str(entry)]]
    if lost:
        raise DefinitionError(
            tuple(Problem(d.path, f"nothing leads from {entry!r} to this step", "unreachable") for d in lost)
        )
    return graph


def _type_is_known(step: Mapping[str, Any], path: str, problems: Problems) -> bool:
    kind = step.get("type")
    if kind in FIELDS:
        return True
    message = f"{shown(kind)} is no step type; there are {', '.join(FIELDS)}"
    problems.add(f"{path}.type", "unknown_step_type", message)
    return False


def _begin_of(step_id: str) -> str:
    return f"{step_id}-begin"


class _Reader:
    """Steps to drafts. A `parallel` becomes its begin, its agents, and a step of its own id that gathers their outputs."""

    def __init__(
        self, problems: Problems, begins: Mapping[str, str], entry: Any, known_agents: Container[str] | None
    ) -> None:
        self._problems, self._begins, self._entry, self._known_agents = problems, begins, entry, known_agents

    def read(self, raw: Mapping[str, Any], step_id: str, path: str) -> list[Draft]:
        match raw["type"]:
            case "agent":
                return [self._agent(raw, step_id, path)]
            case "conditional":
                return [self._conditional(raw, step_id, path)]
            case "tool":
                return [self._tool(raw, step_id, path)]
            case "loop":
                return [self._loop(raw, step_id, path)]
            case _:
                return self._parallel(raw, step_id, path)

    def _targets(self, raw: Mapping[str, Any], name: str, path: str) -> tuple[str, ...]:
        return tuple(self._begins.get(target, target) for target in self._problems.texts(raw, name, f"{path}."))

    def _common(self, raw: Mapping[str, Any], step_id: str, path: str) -> dict[str, Any]:
        return {
            "name": self._problems.text(raw, "name", f"{path}.", default=step_id),
            "retry": read_retry(raw, f"{path}.", self._problems),
            "timeout_seconds": self._problems.number(raw, "timeout_seconds", f"{path}.", least=0.001, most=TEN_YEARS),
        }

    def _input(self, raw: Mapping[str, Any], step_id: str, path: str) -> Any:
        standard = USER_INPUT if step_id == self._entry else PREVIOUS
        return self._problems.expression(compile_template, raw.get("input", standard), f"{path}.input", PREVIOUS)

    def _agent(self, raw: Mapping[str, Any], step_id: str, path: str) -> Draft:
        missing = "name the agent that runs this step"
        agent, capabilities, choice = read_agent(raw, f"{path}.", self._problems, missing=missing)
        parameters = AgentParameters(agent, self._input(raw, step_id, path), capabilities=capabilities, choice=choice)
        node = Node(
            step_id, StepType.AGENT_EXECUTION, parameters=parameters, next=self._targets(raw, "next", path),
            task=read_terms(raw, f"{path}.", self._problems), **self._common(raw, step_id, path),
        )  # fmt: skip
        return Draft(node, path, "next", parameters_path=f"{path}.input", agent_path=f"{path}.{agent_field(raw)}")

    def _conditional(self, raw: Mapping[str, Any], step_id: str, path: str) -> Draft:
        text = self._problems.text(raw, "condition", f"{path}.", most=4096)
        if not text:
            self._problems.add(f"{path}.condition", "missing", "write the condition, such as ${user_input.n} > 3")
        parameters = ConditionParameters(
            self._problems.expression(compile_condition, text or "true", f"{path}.condition", "true")
        )
        following, otherwise = self._targets(raw, "then", path), self._targets(raw, "else", path)
        if not following and not otherwise:
            self._problems.add(f"{path}.then", "missing", "a conditional leads somewhere: name then, else or both")
        node = Node(
            step_id, StepType.CONDITION, parameters=parameters, next=following, otherwise=otherwise,
            **self._common(raw, step_id, path),
        )  # fmt: skip
        return Draft(node, path, "then", "else", parameters_path=f"{path}.condition")

    def _tool(self, raw: Mapping[str, Any], step_id: str, path: str) -> Draft:
        given = {"tool": raw.get("tool", ""), "arguments": raw.get("input", {})}
        parameters = READERS[StepType.TOOL_CALL].read(given, f"{path}.", self._problems)
        node = Node(
            step_id, StepType.TOOL_CALL, parameters=parameters, next=self._targets(raw, "next", path),
            task=read_terms(raw, f"{path}.", self._problems), **self._common(raw, step_id, path),
        )  # fmt: skip
        return Draft(node, path, "next", parameters_path=f"{path}.input")

    def _loop(self, raw: Mapping[str, Any], step_id: str, path: str) -> Draft:
        """Each turn is a chain of agents: the first is given `input`, which sees `${loop.item}` and `${loop.last}`."""
        if ("over" in raw) == ("condition" in raw):
            message = "say until when the loop goes on, or what it runs over: one of condition, over"
            self._problems.add(f"{path}.condition", "missing", message)
        agents = self._agents(raw, path, "name the agents of each turn, in order, each once")
        first = self._problems.expression(compile_template, raw.get("input", PREVIOUS), f"{path}.input", PREVIOUS)
        following = (*agents[1:], None)
        body = [
            Draft(
                Node(
                    f"agent-{number}", StepType.AGENT_EXECUTION, agent,
                    AgentParameters(agent, compile_template(PREVIOUS) if number > 1 else first),
                    next=() if following[number - 1] is None else (f"agent-{number + 1}",),
                    retry=read_retry(raw, f"{path}.", self._problems),
                ),
                path, parameters_path=f"{path}.input", agent_path=f"{path}.agents[{number - 1}]",
            )
            for number, agent in enumerate(agents, 1)
        ]  # fmt: skip
        outside = Outside(self._known_agents, frozenset(self._begins))
        parameters = loop_parameters(raw, body, f"{path}.", "condition", outside, self._problems)
        common = self._common(raw, step_id, path) | {"retry": Retry()}
        node = Node(
            step_id, StepType.LOOP, parameters=parameters, next=self._targets(raw, "next", path), **common
        )  # fmt: skip
        return Draft(node, path, "next", parameters_path=f"{path}.input")

    def _agents(self, raw: Mapping[str, Any], path: str, missing: str) -> tuple[str, ...]:
        agents = self._problems.texts(raw, "agents", f"{path}.")
        if not agents or len(set(agents)) < len(agents):
            self._problems.add(f"{path}.agents", "missing", missing)
        return tuple(dict.fromkeys(agents))

    def _parallel(self, raw: Mapping[str, Any], step_id: str, path: str) -> list[Draft]:
        agents = self._agents(raw, path, "name the agents that run side by side, each once")
        common, template = self._common(raw, step_id, path), self._input(raw, step_id, path)
        branches = {agent: f"{step_id}-{number}" for number, agent in enumerate(agents, 1)}
        begin = Node(
            _begin_of(step_id), StepType.PARALLEL, step_id, ParallelParameters(), next=tuple(branches.values())
        )
        gathered = {agent: f"{{{{steps['{branch}'].output}}}}" for agent, branch in branches.items()}
        end = Node(
            step_id, StepType.DATA_TRANSFORM, common["name"], TransformParameters(compile_template(gathered)),
            next=self._targets(raw, "next", path),
        )  # fmt: skip
        drafts = [
            Draft(
                Node(branch, StepType.AGENT_EXECUTION, parameters=AgentParameters(agent, template), next=(step_id,),
                     **(common | {"name": agent})),
                path, parameters_path=f"{path}.input", agent_path=f"{path}.agents[{number}]",
            )
            for number, (agent, branch) in enumerate(branches.items())
        ]  # fmt: skip
        return [Draft(begin, path, "agents"), *drafts, Draft(end, path, "next")]
