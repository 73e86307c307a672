"""The ways to write a workflow. Each dialect is one pure module; a new one gets a line in `DIALECTS`."""

import json
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from typing import Any

from handrail_graph.dialects import definition, dependencies, steps, tasks
from handrail_graph.dialects.common import document_budget, document_trigger
from handrail_graph.graph import Graph, StepType, TriggerParameters
from handrail_graph.parameters import read_trigger
from handrail_graph.problems import DefinitionError, Problem, Problems

MAX_BYTES = 900 * 1024
MAX_DEPTH = 32

Compile = Callable[[Mapping[str, Any], Container[str] | None], Graph]
DIALECTS: tuple[tuple[str, Callable[[Mapping[str, Any]], bool], Compile], ...] = (
    ("dependencies", dependencies.recognises, dependencies.compile_document),
    ("tasks", tasks.recognises, tasks.compile_document),
    ("definition", definition.recognises, definition.compile_document),
    ("steps", steps.recognises, steps.compile_document),
)


def compile_workflow(document: Mapping[str, Any], *, known_agents: Container[str] | None = None) -> Graph:
    """The graph of a definition in any dialect. Raises `DefinitionError` with all that is wrong with it.

    Without `known_agents` every agent name is taken as it is; with a mapping of names to capabilities, steps that ask for
    capabilities are checked, too.
    """
    _check_bounds(document)
    for _, recognises, compile_document in DIALECTS:
        if recognises(document):
            graph, problems = compile_document(document, known_agents), Problems()
            budget = document_budget(document, problems)
            problems.raise_if_any()
            return graph if budget is None else replace(graph, budget=budget)
    raise DefinitionError((_unknown_dialect(document),))


def may_have_trigger(document: Mapping[str, Any]) -> bool:
    """Whether it is worth a closer look: a trigger beside the steps, or one among them."""
    return "trigger" in document or _trigger_step(document) is not None


def trigger_of(document: Mapping[str, Any]) -> TriggerParameters | None:
    """How a workflow that compiles starts, read without compiling the rest; None if it says nothing."""
    problems, step = Problems(), _trigger_step(document)
    inside = None if step is None else read_trigger(step.get("parameters") or {}, "", problems)
    trigger = inside or document_trigger(document, problems)
    return None if problems.found else trigger


def _trigger_step(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    steps = document.get("steps")
    among = steps if isinstance(steps, list) else ()
    return next((s for s in among if isinstance(s, dict) and s.get("step_type") == StepType.TRIGGER), None)


def _check_bounds(document: Mapping[str, Any]) -> None:
    if _depth_exceeds(document, MAX_DEPTH):
        raise DefinitionError((Problem("", f"a definition may be nested {MAX_DEPTH} levels deep", "too_deep"),))
    size = len(json.dumps(document, default=str))
    if size > MAX_BYTES:
        message = f"a definition may have {MAX_BYTES} bytes; this one has {size}"
        raise DefinitionError((Problem("", message, "too_large"),))


def _depth_exceeds(value: Any, limit: int) -> bool:
    stack = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if depth > limit:
            return True
        children = item.values() if isinstance(item, Mapping) else item if isinstance(item, list) else ()
        stack.extend((child, depth + 1) for child in children)
    return False


def _unknown_dialect(document: Mapping[str, Any]) -> Problem:
    if "entry_step" in document:
        return Problem("entry_step", "definitions with entry_step are not supported yet", "unsupported_dialect")
    tasks_given = document.get("tasks")
    if isinstance(tasks_given, list) and any(
        isinstance(task, Mapping) and "depends_on" in task for task in tasks_given
    ):
        return Problem("tasks", "tasks with depends_on are not supported yet", "unsupported_dialect")
    message = "a workflow needs 'tasks' (a chain of agents) or 'steps' (a graph); see docs/guides/definitions.md"
    return Problem("", message, "unknown_dialect")
