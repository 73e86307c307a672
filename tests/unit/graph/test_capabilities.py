"""Steps that ask for capabilities instead of naming an agent, in every dialect that names agents."""

from typing import Any

import pytest
from handrail_contracts.steps import Choice
from handrail_graph import AgentParameters, DefinitionError, compile_workflow, convert
from unit.graph.test_conversion import same

WANTED = ["draft", "german"]
KNOWN = {"ann": ["draft"], "bob": ["draft", "german"], "tool/x": ["sing"]}
Json = dict[str, Any]


def document(dialect: str, **said: Any) -> Json:
    match dialect:
        case "steps":
            return {"name": "w", "steps": [{"step_id": "s", "step_type": "agent_execution", "parameters": said}]}
        case "tasks":
            return {"name": "w", "tasks": [said]}
        case "dependencies":
            return {"name": "w", "tasks": [{"id": "t", "depends_on": [], **said}]}
        case _:
            return {"name": "w", "entry_step": "e", "steps": [{"id": "e", "type": "agent", **said}]}


PLACES = {
    "steps": "steps[0].parameters.capabilities",
    "tasks": "tasks[0].capabilities",
    "dependencies": "tasks[0].capabilities",
    "definition": "steps[0].capabilities",
}
each_dialect = pytest.mark.parametrize("dialect", PLACES)


@each_dialect
def test_a_step_may_ask_for_capabilities(dialect: str) -> None:
    graph = compile_workflow(document(dialect, capabilities=WANTED), known_agents=KNOWN)
    [node] = graph.nodes.values()
    assert isinstance(node.parameters, AgentParameters)
    assert (node.parameters.agent, node.parameters.capabilities) == ("", ("draft", "german"))
    assert graph.agents == frozenset()


@each_dialect
@pytest.mark.parametrize("other", PLACES)
def test_it_can_be_said_in_every_other_dialect(dialect: str, other: str) -> None:
    given = document(dialect, capabilities=WANTED)
    converted = convert(compile_workflow(given), other)
    assert converted.document is not None
    [node] = compile_workflow(converted.document).nodes.values()
    assert isinstance(node.parameters, AgentParameters)
    assert node.parameters.capabilities == ("draft", "german")
    if other == "steps":
        assert same(given, converted.document)


@each_dialect
@pytest.mark.parametrize("other", PLACES)
@pytest.mark.parametrize(
    ("said", "choice"),
    [
        (None, None),
        ({}, Choice()),
        ("round_robin", Choice(strategy="round_robin")),
        ({"prefer": "topic"}, Choice(prefer="topic")),
        ({"strategy": "round_robin", "prefer": "topic"}, Choice(strategy="round_robin", prefer="topic")),
    ],
)
def test_how_one_is_chosen_is_said_in_every_dialect(dialect: str, other: str, said: Any, choice: Choice | None) -> None:
    given = document(dialect, capabilities=WANTED, choose=said, input={"topic": "{{input.topic}}"})
    converted = convert(compile_workflow(given, known_agents=KNOWN), other)
    assert converted.document is not None
    for graph in (compile_workflow(given), compile_workflow(converted.document)):
        [node] = graph.nodes.values()
        assert isinstance(node.parameters, AgentParameters)
        assert node.parameters.choice == choice


@each_dialect
@pytest.mark.parametrize(
    ("said", "place", "code", "message"),
    [
        ({"choose": "random"}, "", "wrong_value", "must be one of least_loaded, round_robin, not 'random'"),
        ({"choose": {"strategy": "x"}}, ".strategy", "wrong_value", "must be one of least_loaded, round_robin"),
        ({"choose": {"prefers": "x"}}, ".prefers", "unknown_field", "did you mean 'prefer'?"),
        ({"choose": {"prefer": ["x"]}}, ".prefer", "wrong_type", "must be text, not a list"),
        ({"choose": 7}, "", "wrong_type", "must be an object"),
        (
            {"choose": {"prefer": "topc"}, "input": {"topic": 1}},
            ".prefer",
            "wrong_value",
            "the input has no field 'topc'; did you mean 'topic'?",
        ),
        ({"choose": "round_robin", "agent": "ann", "capabilities": None}, "", "misplaced", "asked for by capabilities"),
    ],
)
def test_a_choice_that_is_wrong_is_told_with_its_place(
    dialect: str, said: Json, place: str, code: str, message: str
) -> None:
    said = {name: value for name, value in ({"capabilities": ["draft"]} | said).items() if value is not None}
    with pytest.raises(DefinitionError) as refused:
        compile_workflow(document(dialect, **said), known_agents=KNOWN)
    [problem] = refused.value.problems
    assert (problem.path, problem.code) == (PLACES[dialect].replace("capabilities", "choose") + place, code)
    assert message in problem.message


@each_dialect
@pytest.mark.parametrize(
    ("said", "code", "message"),
    [
        ({"capabilities": ["draft"], "agent": "ann"}, "misplaced", "leave one of them out"),
        ({"capabilities": []}, "missing", "name what the agent has to be able to"),
        ({"capabilities": ["draft", " "]}, "missing", "name what the agent has to be able to"),
        ({"capabilities": {"draft": 1}}, "wrong_type", "must be a list"),
        ({"capabilities": ["drafd"]}, "no_capable_agent", "no agent has 'drafd'; did you mean 'draft'?"),
        ({"capabilities": ["draft", "sing"]}, "no_capable_agent", "no agent has 'sing'; register one"),
        ({"capabilities": ["german", "french"]}, "no_capable_agent", "no agent has 'french'; register one"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(dialect: str, said: Json, code: str, message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        compile_workflow(document(dialect, **said), known_agents=KNOWN)
    problem = refused.value.problems[0]
    assert (problem.path, problem.code) == (PLACES[dialect], code)
    assert message in problem.message


def test_capabilities_of_different_agents_do_not_add_up() -> None:
    known = {"ann": ["draft"], "bob": ["german"]}
    with pytest.raises(DefinitionError, match="no agent has all of draft, german; register one"):
        compile_workflow(document("tasks", capabilities=WANTED), known_agents=known)


def test_names_without_capabilities_check_names_alone() -> None:
    compile_workflow(document("tasks", capabilities=["anything"]), known_agents={"ann"})
