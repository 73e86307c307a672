"""What the model says, read as a workflow and agents. Pure. Nothing is believed: what can be computed is, the rest is checked."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Annotated, Any

import orjson
from handrail_graph import Graph, LoopParameters, Node, ToolParameters, compile_workflow, convert
from handrail_runtime.models import schema_mistake
from pydantic import BaseModel, Field, StringConstraints, ValidationError, field_validator

from handrail_gateway.gate import check_value
from handrail_gateway.generation.resources import Resources
from handrail_gateway.problems import Problem, path_of
from handrail_gateway.schemas import AGENT_NAME, AgentRequest, Document

Json = dict[str, Any]
Error = Mapping[str, str]

MOST_AGENTS, MOST_SUGGESTED = 50, 20
MOST_BYTES = 400_000
_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n?```", re.DOTALL)
_PLAIN = re.compile(r"[^a-z0-9]+")

AgentName = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=AGENT_NAME)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Unusable(Exception):
    """`errors` are for the model and, if it can't do better, for the person who asked."""

    def __init__(self, errors: Sequence[Error]) -> None:
        super().__init__(errors)
        self.errors = errors


class DraftedAgent(BaseModel):
    """As a model describes it. Other fields are left out: where an agent runs, and with which key, is not a model's to say."""

    id: AgentName
    name: str = Field("", max_length=255)
    description: str = Field("", max_length=2_000)
    capabilities: list[Word] = Field([], max_length=20)
    instructions: str = Field(min_length=1, max_length=20_000)
    tools: list[Word] = Field([], max_length=20)
    output_schema: Json | None = None

    @field_validator("output_schema")
    @classmethod
    def _is_of_an_object(cls, schema: Json | None) -> Json | None:
        if schema and (mistake := schema_mistake(schema)):
            raise ValueError(mistake)
        return schema or None

    def registration(self, model: str) -> AgentRequest:
        config = {
            "model": model,
            "instructions": self.instructions,
            "tools": self.tools,
            "output_schema": self.output_schema,
        }
        return AgentRequest(
            kind="llm",
            name=self.name,
            description=self.description,
            capabilities=self.capabilities,
            config={name: value for name, value in config.items() if value},
        )


class SuggestedServer(BaseModel):
    id: AgentName
    description: str = Field("", max_length=2_000)
    tools: list[Word] = Field([], max_length=50)


@dataclass(frozen=True, slots=True)
class Draft:
    """A workflow that compiles with the agents that exist and those that it brings. `suggested` servers it names, but lacks."""

    workflow: Json
    agents: Mapping[str, AgentRequest]
    agents_used: list[str]
    suggested: list[SuggestedServer]
    servers_used: list[str]
    explanation: str


def read(text: str) -> Json:
    """The object that an answer holds, fenced or not. Raises `Unusable`."""
    if len(text) > MOST_BYTES:
        raise Unusable(
            [_error("", f"an answer may have {MOST_BYTES} characters; this one has {len(text)}", "too_large")]
        )
    fenced = _FENCED.search(text)
    try:
        found = orjson.loads(fenced[1] if fenced else text)
        check_value(found, nul="\\u0000" in text)
    except orjson.JSONDecodeError as error:
        raise Unusable([_error("", f"the answer is no JSON: {error}", "no_json")]) from error
    except Problem as problem:
        raise Unusable([_error("", problem.detail.replace("The body", "The answer"), "wrong_value")]) from problem
    if not isinstance(found, dict):
        raise Unusable([_error("", "the answer has to be one JSON object", "wrong_type")])
    return found


def drafted(answer: Json, resources: Resources, errors: Sequence[Error], model: str) -> Draft:
    """`errors`: what the compiler finds. Raises `Unusable` with them, and all others."""
    errors = [*errors]
    agents = _agents(answer, resources, errors)
    suggested = _suggested(answer, resources)
    if errors:
        raise Unusable(errors)
    graph = compile_workflow(answer["workflow"])
    tools = {*_tools(graph), *(tool for agent in agents.values() for tool in agent.tools)}
    errors += _unknown_tools(tools, resources, suggested)
    if errors:
        raise Unusable(errors)
    explanation = answer.get("explanation")
    return Draft(
        workflow=answer["workflow"] if graph.dialect == "steps" else _as_steps(graph, answer["workflow"]),
        agents={name: agent.registration(model) for name, agent in agents.items() if name in graph.agents},
        agents_used=sorted(name for name in graph.agents if name in resources.agents and name not in agents),
        suggested=suggested,
        servers_used=sorted({_server(tool) for tool in tools} & {*resources.servers}),
        explanation=explanation[:2_000] if isinstance(explanation, str) else "",
    )


def document_of(answer: Json) -> Json:
    """The answer's workflow, in the form of a request. Raises `Unusable`."""
    try:
        return Document.model_validate(answer.get("workflow")).document()
    except ValidationError as error:
        raise Unusable(list(_told(error, "workflow"))) from error


def names_in(answer: Json) -> list[str]:
    """Names of the agents that it would create, as far as they are names."""
    listed = answer.get("agents_to_create")
    names = [entry.get("id") for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    return [name for name in names if isinstance(name, str) and re.fullmatch(AGENT_NAME, name)]


def _agents(answer: Json, resources: Resources, errors: list[Error]) -> dict[str, DraftedAgent]:
    listed = answer.get("agents_to_create") or []
    if not isinstance(listed, list) or len(listed) > MOST_AGENTS:
        errors.append(_error("agents_to_create", f"has to be a list of at most {MOST_AGENTS} agents", "wrong_type"))
        return {}
    found: dict[str, DraftedAgent] = {}
    for place, entry in enumerate(listed):
        where = f"agents_to_create[{place}]"
        try:
            agent = DraftedAgent.model_validate(entry)
        except ValidationError as error:
            errors += _told(error, where)
            continue
        if agent.id in found:
            errors.append(_error(f"{where}.id", f"{agent.id!r} is there twice", "duplicate_id"))
        found[agent.id] = agent
    return found


def _suggested(answer: Json, resources: Resources) -> list[SuggestedServer]:
    """Those that make sense: a suggestion is for people to read, so a bad one is left out."""
    found: dict[str, SuggestedServer] = {}
    listed = answer.get("mcps_suggested")
    for entry in listed[:MOST_SUGGESTED] if isinstance(listed, list) else ():
        try:
            server = SuggestedServer.model_validate(entry)
        except ValidationError:
            continue
        if server.id not in resources.servers:
            found[server.id] = server
    return list(found.values())


def _unknown_tools(tools: Iterable[str], resources: Resources, suggested: Sequence[SuggestedServer]) -> Iterator[Error]:
    coming = {server.id for server in suggested}
    for tool in sorted(tools):
        if tool not in resources.tools and _server(tool) not in coming:
            there = ", ".join(sorted(resources.tools)[:50]) or "none"
            hint = "; suggest its server in mcps_suggested" if _server(tool) else ""
            yield _error("workflow.steps", f"there is no tool {tool!r}; there are: {there}{hint}", "unknown_tool")


def _server(tool: str) -> str:
    return tool.partition(":")[0] if ":" in tool else ""


def _nodes(graph: Graph) -> Iterator[Node]:
    for step_id in graph.nodes:
        node = graph.nodes[step_id]
        yield node
        if isinstance(node.parameters, LoopParameters):
            yield from _nodes(node.parameters.body)


def _tools(graph: Graph) -> Iterator[str]:
    for node in _nodes(graph):
        if isinstance(node.parameters, ToolParameters):
            yield node.parameters.tool


def _as_steps(graph: Graph, document: Json) -> Json:
    converted = convert(graph, "steps").document
    assert converted is not None, "steps can say everything"
    return {**converted, **{name: document[name] for name in ("id", "category", "tags") if name in document}}


# --- names ----------------------------------------------------------------------------------------------------------


def candidates(name: str) -> list[str]:
    """What it may be called, best first."""
    return [name, *(f"{name}-{number}" for number in range(2, 20))]


def free(name: str, taken: Iterable[str]) -> str:
    """The first that is not taken; past the candidates, whatever comes."""
    gone = set(taken)
    return next(choice for number in count(1) if (choice := name if number == 1 else f"{name}-{number}") not in gone)


def slug(text: object) -> str:
    return _PLAIN.sub("-", str(text or "").lower())[:60].strip("-") or "workflow"


def renamed(steps: list[Json], names: Mapping[str, str]) -> list[Json]:
    """The steps, in loops too, with agents under their new names."""
    return [_renamed(step, names) for step in steps]


def _renamed(step: Json, names: Mapping[str, str]) -> Json:
    parameters = dict(step.get("parameters") or {})
    if step["step_type"] == "agent_execution":
        field = "agent_id" if "agent_id" in parameters else "agent"
        parameters[field] = names.get(parameters[field], parameters[field])
    if step["step_type"] == "loop":
        parameters["steps"] = renamed(parameters["steps"], names)
    return {**step, "parameters": parameters}


# --- errors ---------------------------------------------------------------------------------------------------------


def _error(path: str, message: str, code: str) -> Error:
    return {"path": path, "message": message, "code": code}


def _told(error: ValidationError, where: str) -> Iterator[Error]:
    for found in error.errors(include_url=False, include_input=False):
        place = path_of(("body", *found["loc"]))
        yield _error(f"{where}.{place}" if place else where, found["msg"], found["type"])
