"""The service desk."""

from datetime import datetime
from typing import Annotated, Literal

from handrail_contracts.gates import Priority
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from handrail_gateway.schemas.base import Request

Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
CustomerId = Annotated[str, StringConstraints(min_length=1, max_length=150)]


SHOWN = ConfigDict(json_schema_serialization_defaults_required=True)
"""Of what is taken with defaults, and shown whole."""


class Tier(BaseModel):
    model_config = SHOWN

    name: Word
    agents: int = Field(1, ge=1, le=50)
    specialties: list[Word] = Field([], max_length=50, description="dealt out to its agents in turn")


class Route(BaseModel):
    """An inquiry with one of the keywords in it is about that topic, and best for who has the specialty."""

    topic: Word
    keywords: list[Word] = Field(min_length=1, max_length=100)
    specialty: str = Field("", max_length=100)


class Sla(BaseModel):
    first_answer_seconds: float = Field(60, gt=0, le=31_536_000)
    resolution_seconds: float = Field(86_400, gt=0, le=31_536_000)


class Human(BaseModel):
    timeout_hours: float = Field(72, gt=0, le=87_600)
    notify: bool = True


class DeskRequest(Request):
    tiers: list[Tier] = Field(
        [
            Tier(name="Frontline", agents=3, specialties=["account", "shipping", "billing"]),
            Tier(name="Specialist", agents=2, specialties=["technical", "billing"]),
            Tier(name="Expert", agents=1),
        ],
        min_length=1,
        max_length=10,
    )
    strategy: Literal["least_loaded", "round_robin"] = "least_loaded"
    confidence_threshold: float = Field(0.7, ge=0, le=1, description="below it, the next tier is asked")
    routing: list[Route] = Field(
        [
            Route(topic="billing", keywords=["invoice", "refund", "payment", "charge", "bill"], specialty="billing"),
            Route(topic="account", keywords=["account", "login", "password", "e-mail"], specialty="account"),
            Route(topic="shipping", keywords=["delivery", "parcel", "shipping", "order"], specialty="shipping"),
            Route(topic="technical", keywords=["error", "crash", "api", "integration", "bug"], specialty="technical"),
            Route(topic="legal", keywords=["legal", "lawsuit", "contract", "gdpr"], specialty="legal"),
        ],
        max_length=200,
    )
    classifier: bool = Field(True, description="whether an agent finds the topic where no rule does")
    model: str = Field("offline:desk", min_length=1, max_length=200)
    instructions: str = Field("", max_length=10_000, description="what all agents of the desk are told")
    sla: Sla = Sla()
    history: int = Field(10, ge=0, le=50, description="earlier inquiries of the customer that agents see")
    human: Human = Human()

    @model_validator(mode="after")
    def _distinct(self) -> "DeskRequest":
        names = [tier.name.lower() for tier in self.tiers]
        if len(set(names)) < len(names) or "person" in names:
            raise ValueError("tiers need names of their own; the last resort is called person already")
        return self


class DeskAgent(BaseModel):
    id: str
    name: str
    tier: str
    specialties: list[str]


class Desk(DeskRequest):
    model_config = SHOWN

    name: str
    workflow_id: str
    version: int = Field(description="0: it is as every desk at first, and made with its first inquiry")
    agents: list[DeskAgent]
    updated_at: datetime | None


class InquiryRequest(Request):
    customer_id: CustomerId
    inquiry: str = Field(min_length=1, max_length=20_000)
    topic: str | None = Field(None, max_length=100, description="found by the desk if absent")
    priority: Priority = "medium"
    escalate: bool = Field(False, description="to a person at once")
    session_id: CustomerId | None = Field(None, description="what belongs together; the customer if absent")
    callback_url: str | None = Field(None, max_length=4096, pattern="^https?://")
    wait_seconds: float = Field(0, ge=0, le=60, description="how long to wait for the answer")


InquiryStatus = Literal["open", "waiting", "answered", "failed"]


class InquirySla(BaseModel):
    first_answer_due: datetime
    resolution_due: datetime
    breached: list[Literal["first_answer", "resolution"]]


class Inquiry(BaseModel):
    id: str
    customer_id: str
    inquiry: str
    topic: str
    priority: Priority
    status: InquiryStatus
    response: str = Field(description="empty until it is answered")
    agent: str = Field(description="who has it, or has answered")
    tier: str
    escalated: bool
    escalations: list[str] = Field(description="the tiers that passed it on")
    reviewer: str
    confidence: float | None
    error: str
    created_at: datetime
    answered_at: datetime | None
    sla: InquirySla


class InquiryPage(BaseModel):
    items: list[Inquiry]
    next_cursor: str | None


class EscalationAnswer(Request):
    response: str = Field(min_length=1, max_length=10_000)


class AgentLoad(BaseModel):
    id: str
    name: str
    tier: str
    open: int
    answered: int
    average_seconds: float | None


class DeskStats(BaseModel):
    open: int
    waiting: int
    answered: int
    failed: int
    escalated: int
    breached: int
    agents: list[AgentLoad]
