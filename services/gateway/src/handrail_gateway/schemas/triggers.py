"""Schedules, webhooks, events."""

from datetime import datetime
from typing import Any

from handrail_contracts.triggers import Missed, Overlap
from pydantic import AwareDatetime, BaseModel, Field

from handrail_gateway.schemas.base import JsonObject, Request


class ScheduleRequest(Request):
    workflow_id: str = Field(min_length=1, max_length=200)
    workflow_version: int | None = Field(None, ge=1, le=2**31 - 1)
    cron: str = Field("", max_length=200)
    timezone: str = Field("UTC", max_length=100)
    every_seconds: float | None = Field(None, ge=1, le=10 * 366 * 86_400)
    start_at: AwareDatetime | None = None
    end_at: AwareDatetime | None = None
    input: Any = None
    context: JsonObject = {}
    overlap: Overlap = "skip"
    missed: Missed = "run_once"
    paused: bool = False
    note: str = Field("", max_length=1000)


class Schedule(BaseModel):
    id: str
    workflow_id: str
    workflow_version: int | None
    timetable: JsonObject
    input: Any
    context: JsonObject | None
    overlap: Overlap
    missed: Missed
    paused: bool
    note: str
    updated_at: datetime
    next_due: datetime | None
    last_due: datetime | None
    last_outcome: str | None
    last_execution_id: str | None
    last_reason: str | None
    fired: int
    skipped: int


class SchedulePage(BaseModel):
    items: list[Schedule]
    next_cursor: str | None


class Upcoming(BaseModel):
    due: list[datetime]


class EventRequest(Request):
    type: str = Field(min_length=1, max_length=200)
    source: str = Field("", max_length=200)
    data: Any = None
    event_id: str | None = Field(None, min_length=1, max_length=150, description="the same id starts nothing twice")


class EventAccepted(BaseModel):
    event_id: str


class Webhook(BaseModel):
    """`secret` signs: `HMAC-SHA256(secret, "<t>." + body)` in `X-Handrail-Signature: t=<t>,v1=<hex>`, or as GitHub does."""

    url: str
    secret: str
