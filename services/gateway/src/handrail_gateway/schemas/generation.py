"""Workflows generated from a sentence, and made of what was generated."""

from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints, field_validator

from handrail_gateway.schemas.base import JsonObject, Request
from handrail_gateway.schemas.people import AGENT_NAME, AgentRequest
from handrail_gateway.schemas.workflows import Document, Workflow

Constraint = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000)]


class GenerateRequest(Request):
    prompt: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=10_000)] = Field(
        description="what should happen, in a few sentences",
        examples=["When a customer writes, classify the message, draft an answer and, after approval, send it."],
    )
    context: JsonObject = Field({}, description="what the model should know besides: names, addresses, examples")
    constraints: list[Constraint] = Field([], max_length=20, description="what it has to respect")
    max_repairs: int = Field(3, ge=0, le=5, description="how often it may correct what does not compile")


class AgentToCreate(AgentRequest):
    """As `PUT /agents/{name}` takes it, with its name."""

    agent: str = Field(min_length=1, max_length=200, pattern=AGENT_NAME)


class McpSuggestion(BaseModel):
    id: str
    description: str
    tools: list[str]


class Generated(BaseModel):
    """A draft: nothing of it is stored. It compiles, and its new names are free."""

    workflow: JsonObject = Field(description="a definition, in the dialect of steps")
    agents_to_create: list[AgentToCreate]
    existing_agents_used: list[str]
    mcps_suggested: list[McpSuggestion] = Field(
        description="servers that the workflow would need, and that are not there"
    )
    existing_mcps_used: list[str]
    explanation: str
    model: str = Field(description="that drafted it")
    repairs: int = Field(description="how often it had to correct itself")


class ApplyRequest(Request):
    """What `generate` gave, as it is or corrected. Only `workflow` and `agents_to_create` are looked at."""

    workflow: Document
    agents_to_create: list[AgentToCreate] = Field([], max_length=50)
    existing_agents_used: Any = None
    mcps_suggested: Any = None
    existing_mcps_used: Any = None
    explanation: Any = None
    model: Any = None
    repairs: Any = None

    @field_validator("agents_to_create")
    @classmethod
    def _each_once(cls, agents: list[AgentToCreate]) -> list[AgentToCreate]:
        names = [agent.agent for agent in agents]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"there twice: {', '.join(twice)}")
        return agents


class Applied(Workflow):
    """`agents` are the ones that it came with."""

    agents: list[str]
