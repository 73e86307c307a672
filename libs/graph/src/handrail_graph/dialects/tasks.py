"""Tasks: a chain of agents, each given what the one before it made (`{{previous_output}}`)."""

from collections.abc import Container, Mapping
from typing import Any

from handrail_graph.build import build, read_retry
from handrail_graph.dialects.common import SHOWN, document_concurrency, document_name, document_trigger, items
from handrail_graph.drafts import Draft
from handrail_graph.graph import AgentParameters, Graph, Node, StepType
from handrail_graph.parameters import PREVIOUS, agent_field, read_agent
from handrail_graph.problems import TEN_YEARS, Problems
from handrail_graph.templates import compile_template
from handrail_graph.terms import FIELDS, read_terms

DOCUMENT_FIELDS = ("name", "description", "tasks", "timeout_seconds", *SHOWN)
TASK_FIELDS = ("agent", "capabilities", "choose", "input", "name", "retry", "timeout_seconds", *FIELDS)


def recognises(document: Mapping[str, Any]) -> bool:
    return "tasks" in document


def compile_document(document: Mapping[str, Any], known_agents: Container[str] | None) -> Graph:
    problems = Problems()
    problems.unknown_fields(document, DOCUMENT_FIELDS, "")
    name = document_name(document, problems)
    raw = items(document, "tasks", 'give at least one task: {"agent": ..., "input": ...}', problems)
    drafts = [_task(task, index, len(raw), problems) for index, task in enumerate(raw)]
    return build(
        [draft for draft in drafts if draft is not None],
        name=name,
        description=problems.text(document, "description", "", most=1000),
        dialect="tasks",
        timeout_seconds=problems.number(document, "timeout_seconds", "", least=0.001, most=TEN_YEARS),
        known_agents=known_agents,
        problems=problems,
        trigger=document_trigger(document, problems),
        concurrency=document_concurrency(document, problems),
    )


def _task(raw: Any, index: int, count: int, problems: Problems) -> Draft | None:
    path = f"tasks[{index}]"
    if not isinstance(raw, Mapping):
        problems.add(path, "wrong_type", "a task is an object with 'agent' and 'input'")
        return None
    problems.unknown_fields(raw, TASK_FIELDS, path)
    missing = "name the agent that runs this task"
    agent, capabilities, choice = read_agent(raw, f"{path}.", problems, missing=missing, standard="agent")
    template = problems.expression(compile_template, raw.get("input", PREVIOUS), f"{path}.input", PREVIOUS)
    node = Node(
        id=f"step_{index + 1}",
        type=StepType.AGENT_EXECUTION,
        name=problems.text(raw, "name", f"{path}.", default=agent or f"step_{index + 1}"),
        parameters=AgentParameters(agent, template, capabilities=capabilities, choice=choice),
        next=(f"step_{index + 2}",) if index + 1 < count else (),
        retry=read_retry(raw, f"{path}.", problems),
        timeout_seconds=problems.number(raw, "timeout_seconds", f"{path}.", least=0.001, most=TEN_YEARS),
        task=read_terms(raw, f"{path}.", problems),
    )
    return Draft(node, path, parameters_path=f"{path}.input", agent_path=f"{path}.{agent_field(raw, 'agent')}")
