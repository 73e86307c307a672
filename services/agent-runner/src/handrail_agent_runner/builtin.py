"""Two agents for trying things out and for the benchmark."""

from typing import Any

from handrail_contracts.envelope import JsonObject

from handrail_agent_runner.agents.python import inline


@inline
def noop(input: Any, context: JsonObject) -> Any:
    """Does nothing, at once."""
    return None


@inline
def echo(input: Any, context: JsonObject) -> Any:
    """Answers with its input."""
    return input
