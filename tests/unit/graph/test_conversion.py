"""Workflows said again in another dialect, and the schemas that forms are drawn from."""

from typing import Any

import pytest
from handrail_graph import COMMON, PARAMETERS, StepType, compile_workflow, convert
from handrail_graph.dialects.steps import LOOP_FIELDS, STEP_FIELDS
from handrail_graph.parameters import READERS
from simulation.graphs import random_workflow
from unit.graph.test_dialects import RESEARCH, TICKET


def same(document: dict[str, Any], other: dict[str, Any]) -> bool:
    one, two = compile_workflow(document), compile_workflow(other)
    return (one.nodes, one.order, one.incoming) == (two.nodes, two.order, two.incoming)


@pytest.mark.parametrize("seed", range(150))
def test_every_workflow_can_be_said_in_steps(seed: int) -> None:
    document = random_workflow(seed)
    converted = convert(compile_workflow(document), "steps")
    assert converted.document is not None
    assert same(document, converted.document)
    assert converted.lost == []


CHAIN = {"name": "c", "tasks": [{"agent": "a", "input": "{{input}}"}, {"agent": "b", "retry": {"max_attempts": 3}}]}


@pytest.mark.parametrize("document", [CHAIN, TICKET, RESEARCH])
def test_so_can_the_other_dialects(document: dict[str, Any]) -> None:
    converted = convert(compile_workflow(document), "steps")
    assert converted.document is not None
    assert same(document, converted.document)


@pytest.mark.parametrize("dialect", ["tasks", "dependencies", "definition"])
def test_a_chain_of_agents_can_be_said_in_every_dialect(dialect: str) -> None:
    converted = convert(compile_workflow(CHAIN), dialect)
    assert converted.document is not None
    assert same(CHAIN, converted.document), converted.document


@pytest.mark.parametrize(
    ("document", "dialect", "why"),
    [
        (RESEARCH, "tasks", "there is no word for"),
        (TICKET, "definition", None),
        (random_workflow(3), "definition", "no word for"),
        (
            {"name": "x", "steps": [{"step_id": "a", "step_type": "delay", "parameters": {"seconds": 1}}]},
            "tasks",
            "delay",
        ),
    ],
)
def test_what_can_not_be_said_is_told(document: dict[str, Any], dialect: str, why: str | None) -> None:
    converted = convert(compile_workflow(document), dialect)
    assert (converted.document is None) == (why is not None)
    assert why is None or any(why in text for text in converted.lost)


def test_what_is_lost_is_named() -> None:
    undo = {"step_id": "u", "step_type": "agent_execution", "parameters": {"agent_id": "a"}}
    policies = {"on_error": "wait", "compensate_with": "u"}
    step = {"step_id": "s", "step_type": "agent_execution", "parameters": {"agent_id": "a"}, **policies}
    converted = convert(compile_workflow({"name": "x", "steps": [step, undo]}), "dependencies")
    assert converted.lost == ["step s: on_error 'wait'", "step s: its compensation 'u'"]


@pytest.mark.parametrize("kind", list(StepType))
def test_a_type_has_a_schema_of_the_fields_that_it_reads(kind: StepType) -> None:
    read = LOOP_FIELDS if kind is StepType.LOOP else READERS[kind].fields
    assert set(PARAMETERS[kind]["properties"]) == set(read)


def test_the_common_schema_names_the_fields_of_a_step() -> None:
    assert set(COMMON["properties"]) == set(STEP_FIELDS)
