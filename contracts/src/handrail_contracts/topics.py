"""The catalogue: which topics there are, what they are for, and which messages they carry.

The YAML files under `contracts/topics` are the source; a wheel carries them as `handrail_contracts/_topics`.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, field_validator

WORKFLOW_DEFINED = "workflow.defined"
WORKFLOW_STARTED = "workflow.started"
STEP_REQUESTED = "step.requested"
STEP_PROGRESSED = "step.progressed"
AGENT_EXECUTED = "agent.executed"
AGENT_REGISTERED = "agent.registered"
RUNNER_STATUS = "runner.status"
API_KEY_DEFINED = "api_key.defined"
API_KEY_USED = "api_key.used"
EXECUTION_CONTROLLED = "execution.controlled"
SCHEDULE_DEFINED = "schedule.defined"
EVENT_RECEIVED = "event.received"
ADMISSION = "admission"
CHILD_ENDED = "child.ended"
EXECUTION_EVENTS = "execution.events"
EXECUTION_SNAPSHOTS = "execution.snapshots"
APPROVAL_REQUESTED = "approval.requested"
APPROVAL_SUBMITTED = "approval.submitted"
APPROVAL_EVENTS = "approval.events"
APPROVAL_SNAPSHOTS = "approval.snapshots"
APPROVAL_DECIDED = "approval.decided"
REVIEWER_DEFINED = "reviewer.defined"
REVIEWS = "reviews"
NOTIFICATION_REQUESTED = "notification.requested"
NOTIFICATION_DELIVERED = "notification.delivered"
SUGGESTION_CREATED = "suggestion_created"
SUGGESTION_REVISION_REQUESTED = "suggestion.revision_requested"
COMMENT_ADDED = "comment.added"
WORKFLOW_COMPLETED = "workflow.completed"
FENCES = "handrail.fences"
DEAD_LETTERS = "dead_letters"

EXECUTION_PARTITIONS = 12
"""Partitions of every topic that concerns an execution. Changing it on a live installation would tear stories apart."""

_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class TopicSpec(BaseModel):
    """One topic. `retention_ms` is -1 for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str
    purpose: str
    role: Literal["event", "command", "journal", "snapshot", "fence"]
    key: str
    partitions: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    messages: tuple[str, ...]
    cleanup_policy: Literal["delete", "compact"]
    retention_ms: int
    max_message_bytes: int
    dead_letter: Literal["dead_letters", "none"]
    config: Mapping[str, str] = {}
    retention_note: str = ""

    @field_validator("partitions", mode="before")
    @classmethod
    def _partitions(cls, value: object) -> object:
        return EXECUTION_PARTITIONS if value == "execution" else value


def _retention_ms(text: str) -> int:
    return -1 if text == "forever" else int(text[:-1]) * _UNITS[text[-1]]


def _folder() -> Path:
    packaged = Path(__file__).parent / "_topics"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "topics"


@cache
def catalogue() -> Mapping[str, TopicSpec]:
    """Every topic by name, in alphabetical order."""
    specs = {}
    for path in sorted(_folder().glob("*.yaml")):
        raw = yaml.safe_load(path.read_text("utf-8"))
        raw["retention_ms"] = _retention_ms(raw.pop("retention"))
        specs[raw["name"]] = TopicSpec.model_validate(raw)
    if not specs:
        raise FileNotFoundError(f"no topic is described under {_folder()}: is the installation whole?")
    return specs
