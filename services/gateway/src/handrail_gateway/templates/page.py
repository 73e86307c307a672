"""Writes the page of templates with a picture of each: `python -m handrail_gateway.templates.page > docs/guides/templates.md`."""

import json
from collections.abc import Iterator
from typing import Any

from handrail_gateway.templates import instantiate, templates

Json = dict[str, Any]

SHAPES = {
    "trigger": ("([", "])"),
    "condition": ("{", "}"),
    "switch": ("{", "}"),
    "parallel": ("{{", "}}"),
    "human_approval": ("[/", "/]"),
    "data_transform": ("(", ")"),
}
HEAD = """# Templates

Workflows to begin with. Each runs offline as it stands, on the [offline model](agents.md#without-a-provider);
`--set model=openai:gpt-5-mini` gives it a real one.

```sh
handrail templates list
handrail templates show sales-lead
handrail templates run customer-support --set company=ACME --approve
```

Over HTTP: `GET /workflows/templates`, `GET /workflows/templates/{id}`, `POST /workflows/templates/{id}/instantiate` with
`{"name", "parameters"}`. What it makes is a workflow of yours, to be changed like any other, and agents of the kind `llm`, named
after the template, its parameters and the tenant: the same parameters use the same agents again. A new template is a JSON file in
`services/gateway/src/handrail_gateway/templates`. In the pictures, slanted boxes are people and diamonds are decisions."""


def page() -> str:
    return "\n".join([HEAD, *(line for template in templates().values() for line in _section(template))]) + "\n"


def _section(template: Json) -> Iterator[str]:
    yield f"\n## {template['name']}\n\n`{template['id']}`: {template['description']}\n\n```mermaid\nflowchart TD"
    steps = instantiate(template, {}, "")
    yield from _drawn(steps.document["steps"], "  ", "s_")  # some words, such as style, are Mermaid's own
    yield "```\n\n| parameter | default | |\n|---|---|---|"
    for name, schema in template["parameters"]["properties"].items():
        yield f"| `{name}` | `{json.dumps(schema['default'])}` | {schema['description']} |"


def _drawn(steps: list[Json], indent: str, inside: str) -> Iterator[str]:
    for step in steps:
        identifier, name = inside + step["step_id"], step["step_id"].replace("_", " ")
        if step["step_type"] == "loop":
            told = "until" if "until" in step["parameters"] else "for each"
            yield f'{indent}subgraph {identifier}["{name}: {told}"]'
            yield from _drawn(step["parameters"]["steps"], indent + "  ", f"{identifier}_")
            yield f"{indent}end"
        else:
            left, right = SHAPES.get(step["step_type"], ("[", "]"))
            yield f'{indent}{identifier}{left}"{name}"{right}'
    for step in steps:
        for target, label in _edges(step):
            yield f"{indent}{inside}{step['step_id']} -->{f'|{label}|' if label else ''} {inside}{target}"


def _edges(step: Json) -> Iterator[tuple[str, str]]:
    decides = step["step_type"] == "condition"
    for target in step.get("next_steps", []):
        yield target, "yes" if decides else ""
    for number, case in enumerate(step["parameters"].get("cases", []), 1):
        for target in case["next_steps"]:
            yield target, f"case {number}"
    for target in step.get("else_steps", []):
        yield target, "no" if decides else "else"


if __name__ == "__main__":
    print(page(), end="")
