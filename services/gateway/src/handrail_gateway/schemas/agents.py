"""Agents as they are shown, and as lists of agents are taken."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from handrail_gateway.schemas.base import JsonObject
from handrail_gateway.schemas.people import AGENT_NAME, AgentKind, AgentRequest

AgentStatus = Literal["online", "busy", "offline"]


class NewAgent(AgentRequest):
    """An agent as a list of agents shows it. What is computed from events is taken, and not kept."""

    id: str = Field(min_length=1, max_length=200, pattern=AGENT_NAME)
    kind: AgentKind = "scripted"
    status: Any = None
    success_rate: Any = None
    total_tasks: Any = None
    failed_tasks: Any = None
    last_seen: Any = None
    current_task_id: Any = None
    metrics: Any = None

    def registration(self) -> AgentRequest:
        return AgentRequest.model_validate(self.model_dump(include=set(AgentRequest.model_fields)))


NewAgents = Annotated[
    Annotated[NewAgent, Tag("agent")] | Annotated[list[NewAgent], Field(min_length=1, max_length=200), Tag("agents")],
    Discriminator(lambda body: "agents" if isinstance(body, list) else "agent"),
]
"""One, or a list of them."""


class AgentMetrics(BaseModel):
    avg_task_duration_seconds: float | None = Field(description="from request to answer")
    model_calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float = Field(description="where a price is known")


class AgentBreaker(BaseModel):
    """Of several runners, the breaker that keeps the agent out longest."""

    state: Literal["closed", "open", "half_open"]
    since: datetime | None
    failures: int
    retry_at: datetime | None


class AgentSummary(BaseModel):
    id: str
    agent: str = Field(description="the same as id")
    kind: str
    name: str
    description: str
    capabilities: list[str]
    shared: bool = Field(description="belongs to the platform, not to a tenant")
    registered_at: datetime
    status: AgentStatus = Field(description="offline: no runner that lives would ask it")
    success_rate: float | None
    total_tasks: int = Field(description="attempts that it answered")
    failed_tasks: int
    last_seen: datetime | None = Field(description="when it answered last")
    current_task_id: str | None = Field(description="the newest step run that it works on")
    metrics: AgentMetrics
    breaker: AgentBreaker
    problem: str = Field(description="why runners can't ask it")


class Agent(AgentSummary):
    config: JsonObject


class AgentPage(BaseModel):
    items: list[AgentSummary]
    next_cursor: str | None
