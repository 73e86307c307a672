"""Every template is whole: its parameters have defaults, its places are filled, its workflow compiles, its agents can be made."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from handrail_contracts.agents import LlmConfig
from handrail_gateway.templates import PLACE, filled, instantiate, mistakes, templates
from handrail_gateway.templates.page import page
from handrail_graph import compile_workflow
from jsonschema import Draft202012Validator

Json = dict[str, Any]
IDS = (
    "code-review", "content-marketing", "customer-support", "it-incident", "legal-contract-review", "research-team",
    "sales-lead", "service-desk", "support-email",
)  # fmt: skip
each = pytest.mark.parametrize("template", templates().values(), ids=lambda template: template["id"])


def test_the_nine_are_there_by_name() -> None:
    assert sorted(templates()) == sorted(IDS)
    names = [template["name"] for template in templates().values()]
    assert names == sorted(names)
    stored = {file.name for file in files("handrail_gateway.templates").iterdir() if file.name.endswith(".json")}
    assert stored == {f"{template_id}.json" for template_id in IDS}


@each
def test_parameters_have_a_schema_and_defaults_that_fit(template: Json) -> None:
    Draft202012Validator.check_schema(template["parameters"])
    properties = template["parameters"]["properties"]
    assert mistakes(template, {name: schema["default"] for name, schema in properties.items()}) == []
    assert all(schema["description"] for schema in properties.values())


@each
def test_it_compiles_as_it_stands_and_leaves_no_place_open(template: Json) -> None:
    instance = instantiate(template, {}, "acme/p")
    compile_workflow(instance.document, known_agents=frozenset(instance.agents))
    assert not PLACE.search(json.dumps([instance.document, instance.agents]))
    assert instance.document["name"] == template["name"]


@each
def test_its_agents_can_be_made_and_are_all_used(template: Json) -> None:
    instance = instantiate(template, {"model": "openai:gpt-5-mini"}, "acme/p")
    for name, agent in instance.agents.items():
        config = LlmConfig.model_validate(agent["config"])
        assert config.model == "openai:gpt-5-mini"
        assert json.dumps(instance.document).count(f'"{name}"') >= 1


@each
def test_every_parameter_is_used(template: Json) -> None:
    text = json.dumps([template["workflow"], template["agents"]])
    used = {name for kind, name in PLACE.findall(text) if kind == "parameters"}
    assert used == set(template["parameters"]["properties"])


def test_agents_are_used_again_by_the_same_tenant_with_the_same_parameters() -> None:
    template = templates()["sales-lead"]
    first = instantiate(template, {}, "acme/p").agents.keys()
    assert instantiate(template, {"threshold": 1}, "acme/p", "other name").agents.keys() == first
    assert not instantiate(template, {"threshold": 2}, "acme/p").agents.keys() & first
    assert not instantiate(template, {}, "umbrella/p").agents.keys() & first


def test_a_place_alone_keeps_its_type() -> None:
    scope = {"parameters": {"n": 3, "list": [1]}, "agents": {}}
    given = {"a": "[[parameters.n]]", "b": "up to [[parameters.n]]", "c": ["[[parameters.list]]"], "d": 1}
    assert filled(given, scope) == {"a": 3, "b": "up to 3", "c": [[1]], "d": 1}
    with pytest.raises(KeyError):
        filled("[[parameters.other]]", scope)


def test_mistakes_name_the_parameter() -> None:
    found = mistakes(templates()["sales-lead"], {"threshold": "high", "treshold": 1})
    assert {entry["path"] for entry in found} == {"parameters.threshold", "parameters"}


def test_the_page_shows_the_templates_of_today() -> None:
    """`python -m handrail_gateway.templates.page > docs/guides/templates.md`"""
    written = Path(__file__).parents[3] / "docs/guides/templates.md"
    assert written.read_text("utf-8") == page()
