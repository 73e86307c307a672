"""Steps that ask for capabilities instead of naming an agent, in every dialect that names agents."""

from typing import Any

import pytest
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
