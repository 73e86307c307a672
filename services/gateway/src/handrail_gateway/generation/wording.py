"""What the model is told. Pure. Everything that tenants wrote goes into one JSON object, so it can't pass for our words."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from handrail_graph import PARAMETERS

if TYPE_CHECKING:  # the offline model reads this module, and needs nothing of a gateway
    from handrail_gateway.generation.resources import Resources

Json = dict[str, Any]

OPENING = "You are the workflow architect of Handrail"
"""What the instructions begin with."""
MOST_ERRORS = 20


@cache
def instructions() -> str:
    """The same for everybody, so that providers can keep it."""
    text = files(__package__).joinpath("wording.md").read_text("utf-8")
    schemas = "\n".join(f"- `{kind.value}`: {_compact(schema)}" for kind, schema in PARAMETERS.items())
    return text.replace("[[PARAMETERS]]", schemas)


def wish(prompt: str, context: Json, constraints: Sequence[str], resources: "Resources") -> str:
    return _compact(
        {
            "description": prompt,
            "context": context,
            "constraints": list(constraints),
            "existing_agents": resources.agents_for(prompt),
            "existing_tools": list(resources.tools.values()),
            "existing_mcps": list(resources.servers.values()),
        }
    )


def correction(errors: Sequence[Mapping[str, str]]) -> str:
    told = "\n".join(f"- {error['path'] or 'answer'}: {error['message']}" for error in errors[:MOST_ERRORS])
    more = f"\n- and {len(errors) - MOST_ERRORS} more" if len(errors) > MOST_ERRORS else ""
    return (
        f"This can't be used:\n{told}{more}\n"
        "Correct it. Agents that steps name have to exist or to be in `agents_to_create`. Answer with the whole object."
    )


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
