"""Reviewers, and how gates get one: a gate asks its tenant's pool, the pool assigns, and the gate gives back."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from handrail_contracts.envelope import ExecutionMessage, Identifier, Model
from handrail_contracts.gates import Person
from handrail_contracts.ids import derive

POOL_PREFIX = "reviewers:"


def pool_id(organization_id: str, project_id: str) -> str:
    """Whose story in the journal of approvals the pool of a tenant is."""
    return POOL_PREFIX + derive("reviewers", organization_id, project_id)


Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$")]


class WorkingHours(Model):
    """`days` are 1 (Monday) to 7; from `start` to before `end` on `timezone`'s clock: the next day's, if `end` is not later."""

    timezone: str = Field("UTC", max_length=100)
    days: tuple[Annotated[int, Field(ge=1, le=7)], ...] = (1, 2, 3, 4, 5)
    start: Clock = "09:00"
    end: Clock = "17:00"


class Absence(Model):
    """Out of office. The substitute may decide meanwhile what the reviewer may."""

    start: AwareDatetime
    end: AwareDatetime
    substitute: str = Field("", max_length=320)


class Reviewer(Model):
    """A person who is asked. `capacity` is how many gates may be assigned at one time."""

    reviewer_id: Person
    name: str = Field("", max_length=255)
    email: str = Field("", max_length=320)
    specialties: tuple[Identifier, ...] = Field((), max_length=100)
    capacity: int = Field(10, ge=0, le=10_000)
    hours: WorkingHours | None = Field(None, description="always on duty without them")
    absences: tuple[Absence, ...] = Field((), max_length=50)


class ReviewerDefined(ExecutionMessage):
    """A reviewer as they are from now on. `execution_id` is the pool's; the latest word counts."""

    event_type: Literal["reviewer.defined"] = "reviewer.defined"
    schema_version: Literal[1] = 1
    reviewer: Reviewer
    removed: bool = False


class ReviewAsked(ExecutionMessage):
    """To a pool: somebody for a gate. `ask` tells one question of a gate from its next."""

    event_type: Literal["review.asked"] = "review.asked"
    schema_version: Literal[1] = 1
    requester_id: Identifier = Field(description="the gate's execution")
    requester_workflow_id: Identifier
    approval_id: Identifier
    ask: int = Field(ge=1)
    specialties: tuple[Identifier, ...] = ()
    priority: int = 0
    exclude: tuple[str, ...] = ()


class ReviewReleased(ExecutionMessage):
    """To a pool: whoever was assigned by that question, or waits for it, is free."""

    event_type: Literal["review.released"] = "review.released"
    schema_version: Literal[1] = 1
    approval_id: Identifier
    ask: int = Field(ge=1)


class ReviewAssigned(ExecutionMessage):
    """To a gate: who is to decide."""

    event_type: Literal["review.assigned"] = "review.assigned"
    schema_version: Literal[1] = 1
    approval_id: Identifier
    ask: int = Field(ge=1)
    reviewer_id: Person


class PoolEvent(Model):
    n: int = Field(ge=1)


class ReviewerSet(PoolEvent):
    type: Literal["reviewer.set"] = "reviewer.set"
    organization_id: str
    project_id: str
    by: str
    reviewer: Reviewer
    removed: bool = False


class ReviewQueued(PoolEvent):
    """A gate asked; it waits until somebody is assigned."""

    type: Literal["review.queued"] = "review.queued"
    organization_id: str
    project_id: str
    requester_id: str
    requester_workflow_id: str
    approval_id: str
    ask: int
    specialties: tuple[str, ...] = ()
    priority: int = 0
    exclude: tuple[str, ...] = ()


class ReviewGiven(PoolEvent):
    """The gate's question is answered: the reviewer has it."""

    type: Literal["review.given"] = "review.given"
    approval_id: str
    ask: int
    reviewer_id: str
    requester_id: str
    requester_workflow_id: str


class ReviewEnded(PoolEvent):
    type: Literal["review.ended"] = "review.ended"
    approval_id: str
    ask: int


class PoolLookedAgain(PoolEvent):
    """Somebody came on duty, or may have: `next_look` is when the pool looks at its queue again."""

    type: Literal["pool.looked_again"] = "pool.looked_again"
    next_look: AwareDatetime | None = None


AnyPoolEvent = ReviewerSet | ReviewQueued | ReviewGiven | ReviewEnded | PoolLookedAgain
