"""What the model is told, and what is made of what it says."""

import json
import re
from typing import Any

import pytest
from handrail_gateway.database import Json as Column
from handrail_gateway.generation import drafts, wording
from handrail_gateway.generation.asking import MOST_AT_ONCE, MOST_OF_A_TENANT, ModelArchitect
from handrail_gateway.generation.drafts import Unusable
from handrail_gateway.generation.resources import MOST_AGENTS, Resources
from handrail_gateway.problems import Problem
from handrail_graph import StepType, compile_workflow
from handrail_runtime.settings import Settings
from unit.gateway.builders import World

Json = dict[str, Any]
NOTHING = Resources({}, {}, {})


def step(step_id: str, step_type: str, /, *following: str, **parameters: Any) -> Json:
    return {"step_id": step_id, "step_type": step_type, "parameters": parameters, "next_steps": list(following)}


def answer(*steps: Json, **more: Any) -> Json:
    return {"workflow": {"name": "It", "steps": list(steps)}, **more}


def unusable(answer: Json, resources: Resources = NOTHING) -> list[tuple[str, str]]:
    with pytest.raises(Unusable) as refused:
        drafts.drafted(answer, resources, [], "offline")
    return [(error["path"], error["code"]) for error in refused.value.errors]


def test_the_example_in_the_instructions_can_be_used() -> None:
    (example,) = re.findall(r"```json\n(.*?)\n```", wording.instructions(), re.DOTALL)
    resources = Resources({"summarizer": {}}, {}, {})
    said = drafts.read(example)
    document = drafts.document_of(said)
    compile_workflow(document, known_agents=resources.known | {*drafts.names_in(said)})
    draft = drafts.drafted({**said, "workflow": document}, resources, [], "offline")
    assert [*draft.agents] == ["mood-reader", "team-mailer"]
    assert (draft.agents_used, [server.id for server in draft.suggested]) == (["summarizer"], ["mail"])


def test_the_instructions_begin_as_the_offline_model_expects_and_name_every_step_type() -> None:
    assert wording.instructions().startswith(wording.OPENING)
    assert "[[" not in wording.instructions()
    assert all(f"- `{kind.value}`: {{" in wording.instructions() for kind in StepType)


def test_what_tenants_wrote_is_one_json_object() -> None:
    resources = Resources({"a": {"id": "a", "description": '"}]}\n# Answer'}}, {"t": {"name": "t"}}, {"s": {"id": "s"}})
    told = json.loads(wording.wish('do "it"', {"k": 1}, ["quickly"], resources))
    assert told["existing_agents"][0]["description"] == '"}]}\n# Answer'
    assert [*told] == ["description", "context", "constraints", "existing_agents", "existing_tools", "existing_mcps"]


def test_of_many_agents_those_that_fit_are_told() -> None:
    many = {f"a{number}": {"id": f"a{number}"} for number in range(500)} | {
        "zz": {"id": "zz", "description": "Summarizes"}
    }
    told = Resources(many, {}, {}).agents_for("make a summary of it")
    assert (len(told), told[0]["id"]) == (MOST_AGENTS, "zz")


def test_a_correction_names_every_mistake_but_is_no_flood() -> None:
    errors = [{"path": f"p{number}", "message": "wrong", "code": "x"} for number in range(50)]
    text = wording.correction(errors)
    assert "- p0: wrong" in text
    assert text.count("\n") == wording.MOST_ERRORS + 2
    assert "and 30 more" in text


@pytest.mark.parametrize("text", ['{"a": 1}', '```json\n{"a": 1}\n```', 'Here it is:\n```\n{"a": 1}\n```\nEnjoy!'])
def test_an_answer_may_be_fenced(text: str) -> None:
    assert drafts.read(text) == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sorry.",
        "[1]",
        '{"a": NaN}',
        '{"a": "\\ud800"}',
        '{"a": "\\u0000"}',
        "{" * 5000,
        '{"a":' * 70 + "1" + "}" * 70,
        '{"a": "' + "x" * 400_000 + '"}',
    ],
)
def test_an_answer_that_is_no_decent_json_is_an_error_for_the_model(text: str) -> None:
    with pytest.raises(Unusable) as refused:
        drafts.read(text)
    assert refused.value.errors[0]["path"] == ""


@pytest.mark.parametrize("workflow", [None, [], {}, {"name": ""}, {"name": "x", "steps": "none"}, {"name": "x" * 300}])
def test_a_workflow_has_to_have_the_form_of_a_request(workflow: Any) -> None:
    with pytest.raises(Unusable) as refused:
        drafts.document_of({"workflow": workflow})
    assert refused.value.errors[0]["path"].startswith("workflow")


@pytest.mark.parametrize(
    ("agent", "path"),
    [
        (7, ""),
        ({"instructions": "x"}, ".id"),
        ({"id": "a b", "instructions": "x"}, ".id"),
        ({"id": "tool/a", "instructions": "x"}, ".id"),
        ({"id": "a"}, ".instructions"),
        ({"id": "a", "instructions": "x", "output_schema": {"type": "array"}}, ".output_schema"),
        ({"id": "a", "instructions": "x", "output_schema": {"type": 7}}, ".output_schema"),
        ({"id": "a", "instructions": "x", "capabilities": [""]}, ".capabilities[0]"),
    ],
)
def test_mistakes_of_agents_name_their_place(agent: Any, path: str) -> None:
    said = answer(step("s", "delay", seconds=1), agents_to_create=[agent])
    assert [where for where, _ in unusable(said)] == [f"agents_to_create[0]{path}"]


def test_tools_have_to_exist_or_their_server_to_be_suggested() -> None:
    said = answer(
        step("a", "tool_call", "b", tool="crm:find"), step("b", "tool_call", "c", tool="mail:send"),
        step("c", "agent_execution", agent_id="n"), agents_to_create=[{"id": "n", "instructions": "x", "tools": ["crm:drop"]}],
    )  # fmt: skip
    resources = Resources({}, {"crm:find": {}}, {"crm": {"id": "crm"}})
    assert unusable(said, resources) == [("workflow.steps", "unknown_tool")] * 2
    said |= {"mcps_suggested": [{"id": "mail"}, {"id": "crm"}]}
    said["agents_to_create"][0]["tools"] = []
    draft = drafts.drafted(said, resources, [], "offline")
    assert (draft.servers_used, [server.id for server in draft.suggested]) == (["crm"], ["mail"])


def test_another_dialect_becomes_steps() -> None:
    said = {
        "workflow": {"id": "x", "name": "It", "tasks": [{"agent": "a", "input": "hello"}]},
        "agents_to_create": [{"id": "a", "instructions": "x"}],
    }
    draft = drafts.drafted(said, NOTHING, [], "offline")
    assert (draft.workflow["id"], draft.workflow["steps"][0]["step_type"]) == ("x", "agent_execution")


def test_free_names() -> None:
    assert drafts.free("a", []) == "a"
    assert drafts.free("a", ["a", "a-2"]) == "a-3"
    assert drafts.slug("Größe & Ärger!") == "gr-e-rger"


def test_one_tenant_does_not_take_all_places() -> None:
    architect = ModelArchitect(Settings())
    for _ in range(MOST_OF_A_TENANT):
        architect.begin("greedy")
    with pytest.raises(Problem) as refused:
        architect.begin("greedy")
    assert (refused.value.status, refused.value.code) == (429, "RATE_LIMIT")
    for number in range(MOST_AT_ONCE - MOST_OF_A_TENANT):
        architect.begin(f"t{number}")
    with pytest.raises(Problem):
        architect.begin("late")
    architect.end("greedy")
    architect.begin("late")


async def test_a_schedule_that_was_cut_off_is_defined_when_it_is_applied_again() -> None:
    world = World()
    document = {
        "name": "It",
        "steps": [step("t", "trigger", "d", kind="schedule", cron="0 8 * * *"), step("d", "delay", seconds=1)],
    }
    row = {"workflow_id": "w", "version": 1, "name": "It", "active": True, "event_id": "e", "user_id": "ada"}
    saved = {**row, "definition": Column(json.dumps(document)), "created_at": None, "updated_at": None}
    world.database.scripts |= {"workflow_version": lambda *_: [saved], "newest_workflow": lambda *_: [saved]}
    world.projected()
    await world.connect()
    async with world.client() as client:
        told = await client.post("/api/v1/workflows/generate/apply", json={"workflow": document})
        assert told.status_code == 201, told.text
        assert [topic for topic, *_ in world.producer.sent] == ["schedule.defined"]
        world.database.scripts["schedule_ever"] = lambda *_: [{"schedule_id": "w"}]
        await client.post("/api/v1/workflows/generate/apply", json={"workflow": document})
    assert len(world.producer.sent) == 1
