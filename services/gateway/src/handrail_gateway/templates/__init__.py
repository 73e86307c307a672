"""Workflows to begin with: JSON files of this folder. Pure.

A file has `id`, `name`, `category`, `tags`, `description`, `parameters` (JSON Schema of an object, with defaults), `agents` by
their part in the workflow, `workflow` (a definition without a name) and `example` (an input that it runs on).
`[[parameters.NAME]]` and `[[agents.PART]]` are filled in when it is instantiated: alone in a text they keep the type of their
value.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from handrail_contracts.ids import derive
from jsonschema import Draft202012Validator

Json = dict[str, Any]

PLACE = re.compile(r"\[\[(parameters|agents)\.([a-z_]+)\]\]")


@dataclass(frozen=True, slots=True)
class Instance:
    """A template with its parameters filled in. `agents` are language models by the names that the workflow calls them by."""

    document: Json
    agents: dict[str, Json]


@cache
def templates() -> dict[str, Json]:
    """All of them by id, in order of their names."""
    folder = files(__name__)
    found = [json.loads(file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".json")]
    return {template["id"]: template for template in sorted(found, key=lambda template: str(template["name"]))}


def mistakes(template: Json, given: Json) -> list[Mapping[str, str]]:
    """What is wrong with these parameters; empty if nothing is."""
    errors = Draft202012Validator(template["parameters"]).iter_errors(given)
    return [
        {"path": ".".join(["parameters", *map(str, error.absolute_path)]), "message": error.message, "code": "invalid"}
        for error in errors
    ]


def instantiate(template: Json, given: Json, owner: str, name: str | None = None) -> Instance:
    """Fills in parameters that have no `mistakes`. The same owner and parameters give agents of the same names."""
    properties = template["parameters"]["properties"]
    parameters = {key: given.get(key, schema.get("default")) for key, schema in properties.items()}
    mark = derive(owner, template["id"], json.dumps(parameters, sort_keys=True))[:8]
    names = {part: f"{template['id']}-{part}-{mark}" for part in template["agents"]}
    scope = {"parameters": parameters, "agents": names}
    document = {"name": name or template["name"], **filled(template["workflow"], scope)}
    return Instance(document, {names[part]: filled(agent, scope) for part, agent in template["agents"].items()})


def filled(value: Any, scope: Mapping[str, Mapping[str, Any]]) -> Any:
    """The value with every place filled in. Raises `KeyError` for one that nothing fills."""
    if isinstance(value, dict):
        return {key: filled(inner, scope) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, scope) for inner in value]
    if not isinstance(value, str):
        return value
    whole = PLACE.fullmatch(value)
    if whole:
        return scope[whole[1]][whole[2]]
    return PLACE.sub(lambda found: _text(scope[found[1]][found[2]]), value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
