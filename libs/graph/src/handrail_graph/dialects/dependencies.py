"""Tasks that name what they depend on (`depends_on`): a graph with joins."""

from collections.abc import Container, Mapping
from typing import Any

from handrail_graph.build import build, read_retry
from handrail_graph.dialects.common import SHOWN, StepIds, document_concurrency, document_name, document_trigger, items
from handrail_graph.drafts import Draft
from handrail_graph.graph import AgentParameters, Graph, Node, StepType
from handrail_graph.parameters import PREVIOUS, agent_field, read_agent
from handrail_graph.problems import TEN_YEARS, Problems, closest, shown
from handrail_graph.suggestions import read_suggestion
from handrail_graph.templates import compile_template
from handrail_graph.terms import BROUGHT, FIELDS, TaskTerms, read_terms

SEEN_OF_WORKFLOW = ("status", "progress", "created_at", "updated_at", "agent_ids")
"""What a workflow is shown with in the same way."""
DOCUMENT_FIELDS = ("name", "description", "tasks", "timeout_seconds", *SHOWN, *SEEN_OF_WORKFLOW)
TASK_FIELDS = (
    "id",
    "agent_id",
    "agent",
    "capabilities",
    "choose",
    "name",
    "description",
    "depends_on",
    "input",
    "retry",
    "suggestion",
    "timeout_seconds",
)
SEEN_BY_PEOPLE = ("workflow_id", "status", "updated_at", "progress", *BROUGHT, *FIELDS)
"""What a task is shown with; but for the due date, it does not change how the workflow runs."""


def recognises(document: Mapping[str, Any]) -> bool:
    tasks = document.get("tasks")
    return isinstance(tasks, list) and any(isinstance(task, Mapping) and "depends_on" in task for task in tasks)


def compile_document(document: Mapping[str, Any], known_agents: Container[str] | None) -> Graph:
    problems = Problems()
    problems.unknown_fields(document, DOCUMENT_FIELDS, "")
    name = document_name(document, problems)
    raw = items(
        document, "tasks", 'give at least one task: {"id": ..., "agent_id": ..., "depends_on": [...]}', problems
    )
    ids = StepIds(problems)
    tasks: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for index, task in enumerate(raw):
        path = f"tasks[{index}]"
        if not isinstance(task, Mapping):
            problems.add(path, "wrong_type", "a task is an object with 'id', 'agent_id' and 'depends_on'")
        elif (task_id := ids.read(task, "id", path)) is not None:
            problems.unknown_fields(task, (*TASK_FIELDS, *SEEN_BY_PEOPLE), path)
            tasks[task_id] = (path, task)
    following: dict[str, list[str]] = {task_id: [] for task_id in tasks}
    for task_id, (path, task) in tasks.items():
        for index, before in enumerate(problems.texts(task, "depends_on", f"{path}.")):
            if before in following:
                following[before].append(task_id)
            else:
                where, hint = f"{path}.depends_on[{index}]", closest(before, tasks)
                problems.add(where, "missing_step", f"there is no task {shown(before)}{hint}")
    saved = known_agents is None
    drafts = [
        _task(task, task_id, path, tuple(following[task_id]), problems, saved)
        for task_id, (path, task) in tasks.items()
    ]
    return build(
        drafts,
        name=name,
        description=problems.text(document, "description", "", most=1000),
        dialect="dependencies",
        timeout_seconds=problems.number(document, "timeout_seconds", "", least=0.001, most=TEN_YEARS),
        known_agents=known_agents,
        problems=problems,
        trigger=document_trigger(document, problems),
        concurrency=document_concurrency(document, problems),
    )


def _task(
    raw: Mapping[str, Any], task_id: str, path: str, following: tuple[str, ...], problems: Problems, saved: bool
) -> Draft:
    agent, capabilities, choice = read_agent(raw, f"{path}.", problems, missing="name the agent that does this task")
    name = problems.text(raw, "name", f"{path}.", default=task_id)
    told = {
        "name": name,
        "description": problems.text(raw, "description", f"{path}.", most=10_000),
        "metadata": problems.mapping(raw, "metadata", f"{path}."),
        "previous_output": PREVIOUS,
    }
    template = problems.expression(compile_template, raw.get("input", told), f"{path}.input", PREVIOUS)
    suggestion = read_suggestion(raw.get("suggestion"), f"{path}.suggestion", problems)
    node = Node(
        id=task_id,
        type=StepType.AGENT_EXECUTION,
        name=name,
        parameters=AgentParameters(agent, template, suggestion=suggestion, capabilities=capabilities, choice=choice),
        next=following,
        retry=read_retry(raw, f"{path}.", problems),
        timeout_seconds=problems.number(raw, "timeout_seconds", f"{path}.", least=0.001, most=TEN_YEARS),
        task=_terms(raw, f"{path}.", problems, saved),
    )
    return Draft(node, path, next_path="id", parameters_path=f"{path}.input", agent_path=f"{path}.{agent_field(raw)}")


def _terms(raw: Mapping[str, Any], path: str, problems: Problems, saved: bool) -> TaskTerms | None:
    """Definitions that were saved when nobody read these fields still compile."""
    return read_terms(raw, path, Problems() if saved else problems)
