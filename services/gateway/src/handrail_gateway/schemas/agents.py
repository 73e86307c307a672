"""Agents as they are shown, and as lists of agents are taken."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Discriminator, Field, Tag

from handrail_gateway.problems import ONE, SEVERAL
from handrail_gateway.schemas.base import JsonObject, Request
from handrail_gateway.schemas.people import AGENT_NAME, AgentHistory, AgentKind, AgentRequest

AgentStatus = Literal["online", "busy", "offline"]


class NewAgent(AgentRequest):
    """An agent as a list of agents shows it: one that says no kind works by itself. Figures count as its history."""

    id: str = Field(min_length=1, max_length=200, pattern=AGENT_NAME)
    kind: AgentKind = "external"
    status: AgentStatus | None = Field(None, description="of one that works by itself: what it says of itself")
    success_rate: float | None = Field(None, ge=0, le=1)
    total_tasks: int | None = Field(None, ge=0, le=10**12)
    failed_tasks: int | None = Field(None, ge=0, le=10**12)
    last_seen: AwareDatetime | None = None
    current_task_id: Any = Field(None, description="taken, and not kept: it follows from its tasks")
    metrics: JsonObject | None = None

    def registration(self) -> AgentRequest:
        body = self.model_dump(include=set(AgentRequest.model_fields))
        figures = self.model_dump(include=set(AgentHistory.model_fields), exclude_none=True)
        return AgentRequest.model_validate(body | ({"history": figures} if figures and self.history is None else {}))


class HeartbeatRequest(Request):
    """With `every_seconds` the agent promises to say it again that often: three missed beats, and it counts as offline."""

    status: AgentStatus = "online"
    every_seconds: float | None = Field(None, ge=1, le=86_400)


NewAgents = Annotated[
    Annotated[NewAgent, Tag(ONE)] | Annotated[list[NewAgent], Field(min_length=1, max_length=200), Tag(SEVERAL)],
    Discriminator(lambda body: SEVERAL if isinstance(body, list) else ONE),
]
"""One, or a list of them."""


class AgentMetrics(BaseModel):
    """And those that the agent has brought along under other names."""

    model_config = ConfigDict(extra="allow")

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
    status: AgentStatus = Field(description="offline: no runner that lives would ask it, or it says so itself")
    success_rate: float | None
    total_tasks: int = Field(description="attempts that it answered, with those of its history")
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
