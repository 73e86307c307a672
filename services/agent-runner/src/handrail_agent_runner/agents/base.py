"""What an agent is to the runner."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from handrail_contracts.approvals import Suggestion
from handrail_contracts.codec import first_mistake
from handrail_contracts.envelope import ErrorInfo, JsonObject
from handrail_contracts.steps import AgentRegistered, ModelCall, StepRequested
from pydantic import BaseModel, ValidationError

from handrail_agent_runner.conversation import Conversation

InlineFunction = Callable[[Any, JsonObject], Any]


class Progress:
    """Tells something before the end: kind (`delta`, `tool_call`, ...) and data. Best effort.

    `model_calls` leave with the answer, whatever that is, or with the next turn of the `conversation`.
    """

    def __init__(self, tell: Callable[[str, JsonObject], None], conversation: Conversation | None = None) -> None:
        self._tell, self.conversation = tell, conversation
        self.model_calls: list[ModelCall] = []

    def __call__(self, kind: str, data: JsonObject) -> None:
        self._tell(kind, data)


class AgentFailure(Exception):
    """The attempt failed in a way that has a public code."""

    def __init__(self, code: str, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.info = ErrorInfo(code=code, message=message[:2000], retryable=retryable)


class Suggests(Exception):
    """The attempt ends here until a person has decided: on a call of a tool that asks first."""

    def __init__(self, suggestion: Suggestion, call_id: str) -> None:
        super().__init__(suggestion.action)
        self.suggestion, self.call_id = suggestion, call_id


class LeftOpen(Exception):
    """Nobody is asked here: the agent works by itself, and says what has become of its task (`PUT /api/v1/tasks/{id}`)."""


def refused(status: int, message: str) -> AgentFailure:
    """The failure of a server that answered with this status, which is no success."""
    if status == 429:
        return AgentFailure("RATE_LIMIT", message, retryable=True)
    if status == 408:
        return AgentFailure("TIMEOUT", message, retryable=True)
    if status < 500:
        return AgentFailure("VALIDATION_ERROR", message, retryable=False)
    return AgentFailure("AGENT_ERROR", message, retryable=True)


Config = TypeVar("Config", bound=BaseModel)


def config_of(registered: AgentRegistered, form: type[Config]) -> Config:
    """What the registration says. Raises `AgentFailure` if it is not of that form."""
    try:
        return form.model_validate(registered.config)
    except ValidationError as error:
        place, why = first_mistake(error)
        message = f"agent {registered.agent} can't be made: config.{place}: {why}"
        raise AgentFailure("VALIDATION_ERROR", message, retryable=False) from error


class Agent(Protocol):
    """Runs one attempt of a step. May be cancelled at any await. Raises `AgentFailure`, or anything: that is AGENT_ERROR."""

    @property
    def inline(self) -> InlineFunction | None:
        """A plain, quick function that may run on the loop itself, for agents that have nothing to wait for."""

    async def execute(self, request: StepRequested, progress: Progress) -> Any: ...
