"""Language models by name, for whoever asks one. pydantic-ai (the extra `models`) is imported when the first is wanted."""

import os
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from handrail_contracts.agents import OFFLINE

from handrail_runtime.errors import RuntimeFault
from handrail_runtime.secrets import SecretRefused, masked, secret
from handrail_runtime.settings import Settings

if TYPE_CHECKING:  # see load_library
    from openai import AsyncOpenAI
    from pydantic_ai.models import Model

NO_KEY = "none"


class ModelUnusable(RuntimeFault):
    """A model that can't be reached as it is described: somebody has to change a setting or a registration."""


@cache
def load_library() -> None:
    """Takes a second or two: in a thread, so that others go on."""
    import_module("pydantic_ai.direct")
    import_module("pydantic_ai.models.openai")


def model_of(
    name: str,
    settings: Settings,
    clients: "list[AsyncOpenAI]",
    *,
    base_url: str | None = None,
    api_key_env: str | None = None,
    trusted: bool = False,
) -> "Model":
    """`provider:name`, or `offline`. Adds the client that it makes, if any, to `clients`. Raises `ModelUnusable`.

    `trusted`: the operator's own, who may name any variable.
    """
    from openai import AsyncOpenAI
    from pydantic_ai.models import infer_model
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    key = NO_KEY
    if base_url is None and (name == OFFLINE or name.startswith(f"{OFFLINE}:")):
        base_url, name = settings.offline_model_url, name.removeprefix(f"{OFFLINE}:")
    if api_key_env is not None:
        try:
            key = secret(api_key_env, base_url or "", settings, trusted=trusted)
        except SecretRefused as error:
            raise ModelUnusable(f"model {name} needs a key: {error}") from error
    if base_url is not None:
        # whoever asks decides on repeating, and records that it does; the client must not on its own
        client = AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0)
        clients.append(client)
        return OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))
    try:
        return infer_model(name)
    except Exception as error:
        raise ModelUnusable(f"model {name!r} can't be used: {error}") from error


def schema_mistake(schema: Mapping[str, Any] | None) -> str:
    """Why an answer can't be asked for in that form (JSON Schema); empty if it can."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    if schema is None:
        return ""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return str(error.message)[:500]
    return "" if schema.get("type") == "object" else "its type has to be object"


def without_keys(text: str, *names: str | None) -> str:
    """A provider may repeat the key that it refuses: nobody else is told. `names`: more variables that hold one."""
    return masked(text, (value for name, value in os.environ.items() if name.endswith("_KEY") or name in names))
