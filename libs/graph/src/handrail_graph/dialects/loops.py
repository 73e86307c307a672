"""Loops, for every dialect that has them: the body is a graph of its own."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from handrail_graph.build import build
from handrail_graph.drafts import Draft
from handrail_graph.graph import LoopParameters, ParallelParameters, Parameters
from handrail_graph.problems import DefinitionError, Problems
from handrail_graph.templates import compile_condition, compile_template

MOST_TURNS = 100_000
UNTIL_TURNS = 100
"""How many turns a loop with a condition may have unless it says otherwise."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What steps may name that are not beside them."""

    agents: Container[str] | None
    steps: frozenset[str]


def loop_parameters(
    raw: Mapping[str, Any], body: list[Draft], path: str, until_field: str, outside: Outside, problems: Problems
) -> Parameters:
    """`over`, the condition, and the limits. A loop that can't be read is a step all the same, so that what leads to it
    is not wrong as well.
    """
    over = problems.expression(compile_template, raw["over"], f"{path}over", []) if "over" in raw else None
    until = None
    if until_field in raw:
        text = problems.text(raw, until_field, path, most=4096)
        until = problems.expression(compile_condition, text or "true", f"{path}{until_field}", "true")
    parallel = problems.number(raw, "max_parallel", path, least=1, most=1000, whole=True)
    turns = problems.number(raw, "max_iterations", path, least=1, most=MOST_TURNS, whole=True)
    if problems.found:
        return ParallelParameters()
    try:
        graph = build(
            body, name="", description="", dialect="", timeout_seconds=None, known_agents=outside.agents,
            problems=problems, outer=outside.steps,
        )  # fmt: skip
    except DefinitionError:
        return ParallelParameters()
    return LoopParameters(
        graph,
        over,
        until,
        max_parallel=1 if parallel is None else int(parallel),
        max_turns=(MOST_TURNS if until is None else UNTIL_TURNS) if turns is None else int(turns),
    )
