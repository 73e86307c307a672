"""Definitions: the seeds' own examples compile; mistakes are found, all at once, where they are."""

from typing import Any

import pytest
from handrail_graph import DefinitionError, Retry, StepType, compile_workflow
from hypothesis import given
from hypothesis import strategies as st

PIPELINE = {
    "name": "Content Marketing Pipeline",
    "tasks": [
        {"agent": "writer", "input": {"topic": "AI in healthcare", "format": "blog_post"}},
        {"agent": "seo", "input": {"content": "{{previous_output}}", "target_keywords": ["AI healthcare"]}},
    ],
}
SUPPORT = {
    "name": "Customer Support Agent",
    "description": "Handle customer inquiries",
    "steps": [
        {"step_id": "trigger", "step_type": "trigger", "parameters": {"kind": "chat"}, "next_steps": ["agent"]},
        {
            "step_id": "agent",
            "step_type": "agent_execution",
            "parameters": {"agent_id": "agent-uuid", "max_iterations": 10, "timeout_seconds": 300},
            "next_steps": [],
        },
    ],
}


def test_tasks_are_a_chain() -> None:
    graph = compile_workflow(PIPELINE, known_agents={"writer", "seo"})
    assert graph.order == ("step_1", "step_2") and graph.entry == ("step_1",) and graph.sinks == ("step_2",)
    assert graph.nodes["step_2"].predecessors == ("step_1",)


def test_steps_are_a_graph() -> None:
    graph = compile_workflow(SUPPORT)
    agent = graph.nodes["agent"]
    assert agent.type is StepType.AGENT_EXECUTION and agent.timeout_seconds == 300


def step(step_id: str, **fields: Any) -> dict[str, Any]:
    return {"step_id": step_id, "step_type": "delay", "parameters": {"seconds": 1}, **fields}


def agent(**parameters: Any) -> dict[str, Any]:
    return {"step_id": "a", "step_type": "agent_execution", "parameters": {"agent_id": "writer", **parameters}}


def flow(*steps: Any, **fields: Any) -> dict[str, Any]:
    return {"name": "flow", "steps": list(steps), **fields}


MISTAKES = [
    ({"name": "x"}, "", "needs 'tasks'"),
    ({"name": "", "tasks": [{"agent": "writer"}]}, "name", "give the workflow a name"),
    ({"name": "x" * 1_000_000, "tasks": [{"agent": "writer"}]}, "", "bytes"),
    ({"name": "x" * 201, "tasks": [{"agent": "writer"}]}, "name", "200 characters"),
    ({"name": "x", "tasks": []}, "tasks", "at least one task"),
    ({"name": "x", "tasks": ["writer"]}, "tasks[0]", "object"),
    ({"name": "x", "tasks": [{"agent": "wirter"}]}, "tasks[0].agent", "did you mean 'writer'?"),
    ({"name": "x", "tasks": [{"agent": "writer", "inptu": 1}]}, "tasks[0].inptu", "did you mean 'input'?"),
    ({"name": "x", "tasks": [{"agent": "writer", "input": "{{ input."}]}, "tasks[0].input", "never closed"),
    (
        {"name": "x", "tasks": [{"agent": "writer", "retry": {"max_attempts": 0}}]},
        "tasks[0].retry.max_attempts",
        "from 1 to 100",
    ),
    ({"name": "x", "tasks": [{"agent": "writer", "timeout_seconds": -1}]}, "tasks[0].timeout_seconds", "must be from"),
    (flow(step("a", next_steps=["b"]), step("b", next_steps=["a"])), "steps[0]", "wait for each other: a -> b -> a"),
    (flow(step("a", next_steps=["bb"]), step("b1")), "steps[0].next_steps[0]", "there is no step 'bb'"),
    (flow(step("a"), step("a")), "steps[1].step_id", "has the id 'a' already"),
    (flow(step("no spaces")), "steps[0].step_id", "letters, digits"),
    (flow(step("a", step_type="dely")), "steps[0].step_type", "did you mean 'delay'?"),
    (flow(step("a", step_type="tool_call", parameters={})), "steps[0].parameters.tool", "name the tool"),
    (flow(step("a", step_type="sub_workflow", parameters={})), "steps[0].parameters.workflow_id", "name the workflow"),
    (
        flow(step("a", compensate_with="b"), step("c", next_steps=["b"]), step("b")),
        "steps[0].compensate_with",
        "can only undo",
    ),
    (flow(step("a", compensate_with="d")), "steps[0].compensate_with", "there is no step 'd'"),
    (flow(step("a", cancel_rest=True)), "steps[0].cancel_rest", "give it a join"),
    (flow(step("a", error_steps=["b"], on_error="wait"), step("b")), "steps[0].error_steps", "leave one of them out"),
    (
        flow(step("a", step_type="parallel", parameters={"error_policy": "x"})),
        "steps[0].parameters.error_policy",
        "one of fail_fast",
    ),
    (flow(step("a", parameters={"seconds": "soon {{"})), "steps[0].parameters.seconds", "never closed"),
    (flow(step("a", else_steps=["b"]), step("b")), "steps[0].else_steps", "only a condition"),
    (flow(agent(input="{{steps.later.output}}"), step("later")), "steps[0].parameters", "does not come before"),
    (flow(agent(input="{{steps.nowhere.output}}")), "steps[0].parameters", "names step 'nowhere'"),
    (flow(agent(agent_id=7)), "steps[0].parameters.agent_id", "must be text"),
    (
        flow(
            {"step_id": "c", "step_type": "condition", "parameters": {"condition": "1 +"}, "next_steps": ["a"]},
            step("a"),
        ),
        "steps[0].parameters.condition",
        "it ends too early",
    ),
    (
        flow({"step_id": "t", "step_type": "trigger"}, {"step_id": "u", "step_type": "trigger"}),
        "steps[1]",
        "one trigger",
    ),
    (flow({"step_id": "t", "step_type": "trigger", "next_steps": []}, step("lost")), "steps[1]", "nothing leads to"),
]


@pytest.mark.parametrize(("document", "path", "message"), MISTAKES, ids=[path or "document" for _, path, _ in MISTAKES])
def test_mistake_is_found_where_it_is(document: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        compile_workflow(document, known_agents={"writer"})
    found = [(problem.path, problem.message) for problem in caught.value.problems]
    assert any(where == path and message in text for where, text in found), found


def test_all_mistakes_at_once() -> None:
    with pytest.raises(DefinitionError) as caught:
        compile_workflow({"name": 3, "tasks": [{"agent": "x"}, {"agnt": "y"}]}, known_agents={"writer"})
    assert {problem.path for problem in caught.value.problems} >= {"name", "tasks[0].agent", "tasks[1].agnt"}


def test_five_thousand_steps() -> None:
    tasks = [{"agent": "writer", "input": f"{{{{steps.step_{n}.output}}}}" if n else 1} for n in range(5000)]
    assert len(compile_workflow({"name": "long", "tasks": tasks}).order) == 5000


@given(st.data())
def test_order_is_topological_or_a_cycle_is_named(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 8))
    edges = data.draw(st.sets(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), max_size=15))
    steps = [step(f"s{n}", next_steps=[f"s{b}" for a, b in sorted(edges) if a == n]) for n in range(size)]
    try:
        graph = compile_workflow(flow(*steps))
    except DefinitionError as error:
        assert {problem.code for problem in error.problems} == {"cycle"}
        return
    place = {step_id: index for index, step_id in enumerate(graph.order)}
    assert all(place[f"s{a}"] < place[f"s{b}"] for a, b in edges)


@given(st.integers(1, 200), st.floats(0, 0.999))
def test_back_off_grows_to_its_bound(attempt: int, fraction: float) -> None:
    retry = Retry(max_attempts=100, backoff_seconds=2, max_backoff_seconds=60, jitter=0.1)
    assert 0.9 * min(2 * 2.0 ** (attempt - 1), 60) <= retry.delay(attempt, fraction) <= 1.1 * 60
