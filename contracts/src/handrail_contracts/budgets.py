"""What agents may use: executions ask a budget before an attempt begins, and tell it afterwards what the attempt has used."""

from typing import Literal

from pydantic import AwareDatetime, Field

from handrail_contracts.envelope import ExecutionMessage, Identifier, Message, Model
from handrail_contracts.ids import derive

BUDGET_PREFIX = "budget:"

Scope = Literal["execution", "workflow", "agent", "tenant"]
Period = Literal["total", "day", "month"]
DIMENSIONS = ("tokens", "cost_usd", "calls", "seconds")
MOST = 10**15
"""More than anybody uses, and what every reader of JSON can count."""


class Used(Model):
    """What was used: tokens in and out, US dollars, model calls, seconds of attempts."""

    tokens: int = Field(0, ge=0)
    cost_usd: float = Field(0, ge=0)
    calls: int = Field(0, ge=0)
    seconds: float = Field(0, ge=0)


class Limits(Model):
    """At most so much; what is absent is not limited."""

    tokens: int | None = Field(None, ge=0)
    cost_usd: float | None = Field(None, ge=0)
    calls: int | None = Field(None, ge=0)
    seconds: float | None = Field(None, ge=0)


def budget_id(scope: Scope, name: str, organization_id: str, project_id: str) -> str:
    return f"{BUDGET_PREFIX}{scope}:{derive('budget', organization_id, project_id, scope, name)}"


class BudgetSet(Message):
    """What a budget allows from now on; the latest message of one counts. A tenant's own has no `name`."""

    event_type: Literal["budget.set"] = "budget.set"
    schema_version: Literal[1] = 1
    budget_id: Identifier
    scope: Scope
    name: str = ""
    limits: Limits
    period: Period = Field(
        "total", description="when what was used is forgotten: never, or as the UTC day or month ends"
    )
    removed: bool = False


class BudgetAsked(ExecutionMessage):
    """`execution_id` is the budget's. May this attempt begin, and what may it use? `limits` hold if nobody has set others."""

    event_type: Literal["budget.asked"] = "budget.asked"
    schema_version: Literal[1] = 1
    requester_id: Identifier
    step_id: Identifier
    run_id: Identifier
    attempt: int = Field(ge=1)
    scope: Scope
    name: str = ""
    limits: Limits | None = None


class BudgetAnswered(ExecutionMessage):
    """To the execution: what the attempt may use; or, with a `reason`, that it waits until there is something left."""

    event_type: Literal["budget.answered"] = "budget.answered"
    schema_version: Literal[1] = 1
    budget_id: Identifier
    step_id: Identifier
    run_id: Identifier
    attempt: int = Field(ge=1)
    allowance: Limits | None = None
    reason: str = ""


class BudgetReturned(ExecutionMessage):
    """`execution_id` is the budget's. The attempt has ended, or is not wanted any more; that is what it has used."""

    event_type: Literal["budget.returned"] = "budget.returned"
    schema_version: Literal[1] = 1
    requester_id: Identifier
    run_id: Identifier
    attempt: int = Field(ge=1)
    used: Used = Used()


class BudgetRaised(ExecutionMessage):
    """`execution_id` is the budget's. Its limits were changed: whoever waits is looked at again."""

    event_type: Literal["budget.raised"] = "budget.raised"
    schema_version: Literal[1] = 1


class BudgetEvent(Model):
    n: int = Field(ge=1)


class BudgetReserved(BudgetEvent):
    """An attempt may use that much. `limits` and `period` are those that held then."""

    type: Literal["budget.reserved"] = "budget.reserved"
    requester_id: str
    step_id: str
    run_id: str
    attempt: int
    allowance: Limits
    limits: Limits
    period: Period
    scope: Scope
    name: str
    user_id: str
    organization_id: str
    project_id: str


class BudgetExhausted(BudgetEvent):
    """An attempt waits, because nothing is left for it."""

    type: Literal["budget.exhausted"] = "budget.exhausted"
    requester_id: str
    step_id: str
    run_id: str
    attempt: int
    reason: str
    limits: Limits
    own_limits: Limits | None = None
    look_again: AwareDatetime
    period: Period
    scope: Scope
    name: str
    user_id: str
    organization_id: str
    project_id: str


class BudgetLookedAgain(BudgetEvent):
    """Nothing was left for those who wait; they are looked at again then."""

    type: Literal["budget.looked_again"] = "budget.looked_again"
    look_again: AwareDatetime


class BudgetSettled(BudgetEvent):
    """What an attempt has used counts; what was reserved for it does not any more."""

    type: Literal["budget.settled"] = "budget.settled"
    requester_id: str
    run_id: str
    attempt: int
    used: Used


class BudgetRenewed(BudgetEvent):
    """A new day or month: nothing is used of it."""

    type: Literal["budget.renewed"] = "budget.renewed"
    period_start: str


AnyBudgetEvent = BudgetReserved | BudgetExhausted | BudgetLookedAgain | BudgetSettled | BudgetRenewed
