"""Tasks that depend on each other, and definitions with an entry step: the seeds' own words."""

from typing import Any

import pytest
from handrail_graph import AgentParameters, DefinitionError, StepType, compile_workflow
from unit.stories import Workflow

TICKET: dict[str, Any] = {
    "name": "Customer Support Automation",
    "tasks": [
        {"id": "task-001", "workflow_id": "wf-001-csa", "name": "Analyze Support Ticket", "agent_id": "agent-001-ta",
         "status": "pending", "priority": "high", "metadata": {"ticket": "{{input.ticket}}"}},
        {"id": "task-002", "name": "Draft Response", "agent_id": "agent-002-er", "depends_on": "task-001"},
        {"id": "task-003", "name": "Evaluate Escalation Need", "agent_id": "agent-003-em",
         "due_date": "2026-02-09T20:00:00Z", "depends_on": ["task-001", "task-002"]},
    ],
}  # fmt: skip
RESEARCH: dict[str, Any] = {
    "name": "Research",
    "entry_step": "gather",
    "steps": [
        {"id": "gather", "type": "parallel", "agents": ["web", "papers"], "input": {"q": "${user_input}"}, "next": "enough"},
        {"id": "enough", "type": "conditional", "condition": "${steps.gather.output.web.found} > 3",
         "then": "write", "else": "ask"},
        {"id": "ask", "type": "agent", "agent_id": "librarian", "input": "Find more for ${user_input}", "next": "write"},
        {"id": "write", "type": "agent", "agent_id": "writer", "input": "${steps.gather.output}"},
    ],
}  # fmt: skip


def story(document: dict[str, Any], given: Any) -> Workflow:
    return Workflow(**{name: value for name, value in document.items() if name != "name"}, input=given)


def test_tasks_wait_for_what_they_depend_on() -> None:
    told = story(TICKET, {"ticket": 7})
    first = told.requests()[0].input
    assert (first["name"], first["metadata"]) == ("Analyze Support Ticket", {"ticket": 7})
    told.answer("task-001", "angry")
    assert told.requests()[-1].input["previous_output"] == "angry"
    told.answer("task-002", "sorry")
    assert told.requests()[-1].input["previous_output"] == {"task-001": "angry", "task-002": "sorry"}
    assert told.answer("task-003", "no need")[-1] == "execution.completed"


@pytest.mark.parametrize(("found", "steps"), [(5, ["write"]), (1, ["ask", "write"])])
def test_a_definition_runs_from_its_entry_step(found: int, steps: list[str]) -> None:
    told = story(RESEARCH, {"message": "bees"})
    assert [(request.agent, request.input) for request in told.requests()] == [
        ("web", {"q": "bees"}), ("papers", {"q": "bees"}),
    ]  # fmt: skip
    told.answer("gather-1", {"found": found})
    told.answer("gather-2", {"found": 0})
    for step in steps:
        request = told.requests()[-1]
        assert request.step_id == step
        told.answer(step, "text")
    assert told.requests()[-1].input == {"web": {"found": found}, "papers": {"found": 0}}
    if found == 1:
        assert told.requests()[-2].input == "Find more for bees"
    assert told.events[-1]["type"] == "execution.completed"


def test_input_without_a_message_is_what_the_user_said() -> None:
    assert story(RESEARCH, "wasps").requests()[0].input == {"q": "wasps"}


def mistaken(document: dict[str, Any], *place: Any, value: Any) -> dict[str, Any]:
    """A copy of the document with another value at that place."""
    if not place:
        return value  # type: ignore[no-any-return]
    copy: Any = document.copy()
    copy[place[0]] = mistaken(copy[place[0]], *place[1:], value=value)
    return copy  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("document", "path", "message"),
    [
        (mistaken(TICKET, "tasks", 1, value={"id": "b", "agent_id": "a", "depends_on": "task-01"}), "tasks[1].depends_on[0]",
         "there is no task 'task-01'; did you mean 'task-001'?"),
        (mistaken(TICKET, "tasks", 0, value={"id": "task-001", "agent_id": "a", "depends_on": "task-003"}), "tasks[0]",
         "these steps wait for each other: task-001 -> task-002 -> task-003 -> task-001"),
        (mistaken(TICKET, "tasks", 1, value={"id": "task-001", "agent_id": "a"}), "tasks[1].id", "has the id 'task-001' already"),
        (mistaken(TICKET, "tasks", 1, value={"id": "task-002"}), "tasks[1].agent_id", "name the agent that does this task"),
        (mistaken(RESEARCH, "entry_step", value="gathr"), "entry_step", "there is no step 'gathr'; did you mean 'gather'?"),
        (mistaken(RESEARCH, "entry_step", value="ask"), "steps[0]", "nothing leads from 'ask' to this step"),
        (mistaken(RESEARCH, "steps", 1, "then", value="publish"), "steps[1].then[0]", "there is no step 'publish'"),
        (mistaken(RESEARCH, "steps", 0, "agents", value=[]), "steps[0].agents", "name the agents that run side by side"),
        (mistaken(RESEARCH, "steps", 3, "type", value="tol"), "steps[3].type", "there are agent, parallel"),
        (mistaken(RESEARCH, "steps", 3, "type", value="tool"), "steps[3].tool", "name the tool"),
        (mistaken(RESEARCH, "steps", 3, "type", value="loop"), "steps[3].condition", "say until when the loop goes on"),
        (mistaken(RESEARCH, "steps", 1, "condition", value="${user_input} >"), "steps[1].condition", "it ends too early"),
    ],
)  # fmt: skip
def test_a_mistake_is_found_where_it_is(document: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        compile_workflow(document)
    found = [(problem.path, problem.message) for problem in caught.value.problems]
    assert any(where == path and message in text for where, text in found), found


def test_what_is_wrong_in_a_loop_does_not_hide_what_is_wrong_beside_it() -> None:
    body = {"step_id": "a", "step_type": "agent_execution", "parameters": {"agent_id": "x"}, "next_steps": ["gone"]}
    loop = {"step_id": "each", "step_type": "loop", "parameters": {"over": [1], "steps": [body]}}
    signal = {"step_id": "wait", "step_type": "signal", "parameters": {}, "next_steps": ["each"]}
    with pytest.raises(DefinitionError) as caught:
        compile_workflow({"name": "x", "steps": [loop, signal]})
    assert [problem.path for problem in caught.value.problems] == [
        "steps[0].parameters.steps[0].next_steps[0]", "steps[1].parameters.name",
    ]  # fmt: skip


def test_unknown_agents_are_named_with_their_place() -> None:
    with pytest.raises(DefinitionError) as caught:
        compile_workflow(RESEARCH, known_agents={"web", "papers", "writer"})
    assert [problem.path for problem in caught.value.problems] == ["steps[2].agent_id"]


def test_a_parallel_step_is_its_agents_between_a_begin_and_a_gathering() -> None:
    graph = compile_workflow(RESEARCH)
    assert graph.entry == ("gather-begin",)
    kinds = {step_id: node.type for step_id, node in graph.nodes.items()}
    assert kinds["gather-begin"] is StepType.PARALLEL
    assert kinds["gather"] is StepType.DATA_TRANSFORM
    assert {n.parameters.agent for n in graph.nodes.values() if isinstance(n.parameters, AgentParameters)} == {
        "web", "papers", "librarian", "writer",
    }  # fmt: skip
