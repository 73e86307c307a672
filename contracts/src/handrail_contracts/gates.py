"""Who has to decide on a gate, in which order, how soon, and who is asked next."""

from hashlib import sha256
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field

from handrail_contracts.envelope import Identifier, JsonObject, Model

Priority = Literal["low", "medium", "high", "urgent"]
PRIORITIES: dict[str, int] = {"low": -1, "medium": 0, "high": 1, "urgent": 2}
"""As queues order them: the higher first."""
Seconds = Annotated[float, Field(gt=0, le=10 * 366 * 86_400)]
Person = Annotated[str, Field(min_length=1, max_length=320)]


class Escalation(Model):
    """Who is asked instead, so long after the gate was opened: named people, or whom the reviewers' pool chooses."""

    after_seconds: Seconds
    approvers: tuple[Person, ...] = Field((), max_length=100)
    specialties: tuple[Identifier, ...] = Field((), max_length=20)


class Attachment(Model):
    """What belongs to the question, by reference: its bytes stay where they are."""

    name: Identifier
    url: str = Field(min_length=1, max_length=4096)
    media_type: str = Field("", max_length=200)
    sha256: str = Field("", pattern="^([0-9a-f]{64})?$")
    size: int | None = Field(None, ge=0)


class GateRules(Model):
    """How a gate is decided. The defaults are one decision of anybody who may.

    `require`: `any`: the first decision counts; `all`, or so many of the approvers; `in_order`: all, one after the other. A
    rejection closes the gate once the approvals that are needed can't be had any more.
    `assign`: the pool of reviewers chooses one who has the `specialties`, is on duty and has least to do.
    `four_eyes`: whoever started the execution can't decide.
    """

    require: Literal["any", "all", "in_order"] | Annotated[int, Field(ge=1, le=100)] = "any"
    priority: Priority = "medium"
    specialties: tuple[Identifier, ...] = Field((), max_length=20)
    assign: bool = False
    four_eyes: bool = False
    remind_after_seconds: tuple[Seconds, ...] = Field((), max_length=20)
    escalation: tuple[Escalation, ...] = Field((), max_length=10)
    attachments: tuple[Attachment, ...] = Field((), max_length=50)
    notify: bool = Field(False, description="by e-mail, who is asked; who is assigned always is")
    callback: str = Field("", max_length=4096, description="called when the gate is decided, with a signature")


class Origin(Model):
    """From where a person has spoken."""

    via: str = Field("", max_length=50, description="api, link, mcp, ...")
    address: str = Field("", max_length=100)
    client: str = Field("", max_length=500, description="what the program calls itself")
    person: str = Field("", max_length=320, description="whose program it is, if it is one with a key of its own")


def digest_of(message: str, show: Any, rules: JsonObject, suggestion: JsonObject | None) -> str:
    """SHA-256 of what people are shown, as JSON with sorted keys: what they have decided on can be proved."""
    shown = {"message": message, "show": show, "attachments": rules.get("attachments", []), "suggestion": suggestion}
    return sha256(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)).hexdigest()
