"""JSON Schema (2020-12) of every message in every version: what a writer has to say."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from handrail_contracts.codec import messages_of
from handrail_contracts.earlier import EARLIER
from handrail_contracts.topics import catalogue

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Published(GenerateJsonSchema):
    """Without titles that only repeat the field's name."""

    schema_dialect = DIALECT

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def generate(self, schema: Any, mode: JsonSchemaMode = "validation") -> Schema:
        made = super().generate(schema, mode)
        for part in (made, *made.get("$defs", {}).values()):
            part.pop("title", None)
            _require_constants(part)
        return made


def _require_constants(schema: Schema) -> None:
    """A field that can have one value only says what the message is: readers may fill it in, writers have to say it."""
    properties: Schema = schema.get("properties", {})
    constants = [
        name for name, field in properties.items() if "const" in field and field.pop("default", None) is not None
    ]
    required = {*schema.get("required", ()), *constants}
    if required:
        schema["required"] = [name for name in properties if name in required]


def newest_version(model: type[BaseModel]) -> int:
    version: int = model.model_fields["schema_version"].default
    return version


@cache
def versions() -> Mapping[tuple[str, int], type[BaseModel]]:
    """The model of every message and version, by name and number."""
    newest = {(model.__name__, newest_version(model)): model for topic in catalogue() for model in messages_of(topic)}
    return dict(sorted({**EARLIER, **newest}.items()))


def schema_of(name: str, version: int) -> Schema:
    """The published schema of one message in one version."""
    made = versions()[name, version].model_json_schema(schema_generator=_Published)
    about = {"$schema": DIALECT, "$id": f"urn:handrail:message:{name}:v{version}", "title": f"{name} v{version}"}
    return about | made


def file_name(name: str, version: int) -> str:
    return f"{name}.v{version}.json"


def versions_of(topic: str) -> Iterator[tuple[str, int]]:
    """Names and versions of the messages of a topic, in the catalogue's order, versions ascending."""
    for name in catalogue()[topic].messages:
        yield from (known for known in versions() if known[0] == name)
