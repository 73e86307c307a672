"""What a dialect reads: steps with the places in the document that they came from."""

from dataclasses import dataclass

from handrail_graph.graph import Node


@dataclass(frozen=True, slots=True)
class Draft:
    """A step with the place in the document that it came from. `next_path` is where its references stand."""

    node: Node
    path: str
    next_path: str = "next_steps"
    otherwise_path: str = "else_steps"
    case_path: str = "parameters.cases[{}].next_steps"
    parameters_path: str = ""
    agent_path: str = ""
