"""Budgets."""

from datetime import datetime
from typing import Literal

from handrail_contracts.budgets import MOST, Limits, Period, Scope, Used
from pydantic import BaseModel, Field, field_validator

from handrail_gateway.schemas.base import Request


class BudgetRequest(Request):
    limits: Limits = Field(description="at most so much; what is absent is not limited")
    period: Period = Field(
        "total", description="when what was used is forgotten: never, or as the UTC day or month ends"
    )

    @field_validator("limits")
    @classmethod
    def _countable(cls, limits: Limits) -> Limits:
        if any(amount > MOST for amount in limits.model_dump(exclude_none=True).values()):
            raise ValueError(f"nothing of it may be more than {MOST}; leave out what is not limited")
        return limits


class BudgetSummary(BaseModel):
    scope: Scope
    name: str
    limits: Limits
    period: Period
    used: Used
    open: int = Field(description="attempts that may use it now")
    waiting: int = Field(description="attempts that wait, because nothing is left for them")
    set_by: str
    set_at: datetime


class BudgetPage(BaseModel):
    items: list[BudgetSummary]
    next_cursor: str | None


class BudgetUse(BaseModel):
    execution_id: str
    step_id: str | None
    run_id: str
    attempt: int
    state: Literal["open", "waits"]
    allowance: Limits | None
    reason: str | None
    since: datetime


class Budget(BudgetSummary):
    attempts: list[BudgetUse] = Field(description="open or waiting, the oldest first, 200 at most")
