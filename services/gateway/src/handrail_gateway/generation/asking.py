"""Asking the generator's language model: one call, no tools, no retries. The library is imported at the first call."""

import asyncio
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol

import structlog
from handrail_runtime.models import ModelUnusable, load_library, model_of, without_keys
from handrail_runtime.settings import Settings

from handrail_gateway.problems import Problem, unavailable

if TYPE_CHECKING:  # see load_library
    from openai import AsyncOpenAI
    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.models import Model

log = structlog.get_logger()

Said = tuple[Literal["user", "assistant"], str]
MOST_AT_ONCE, MOST_OF_A_TENANT = 8, 2


class Architect(Protocol):
    """Who drafts workflows."""

    @property
    def model(self) -> str: ...

    def begin(self, tenant: object) -> None:
        """Counts a generation that begins; raises a 429 `Problem` if too many are under way."""

    def end(self, tenant: object) -> None: ...

    async def ask(self, instructions: str, said: Sequence[Said]) -> str:
        """What it answers. Raises a `Problem` if it does not."""

    async def close(self) -> None: ...


class ModelArchitect:
    """The model of the setting `generator_model`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients: list[AsyncOpenAI] = []
        self._busy: list[object] = []

    @property
    def model(self) -> str:
        return self._settings.generator_model

    @cached_property
    def _model(self) -> "Model":
        return model_of(self.model, self._settings, self._clients)

    def begin(self, tenant: object) -> None:
        if len(self._busy) >= MOST_AT_ONCE or self._busy.count(tenant) >= MOST_OF_A_TENANT:
            detail = f"{len(self._busy)} workflows are being generated, {self._busy.count(tenant)} of them yours; try again soon."
            raise Problem(429, "RATE_LIMIT", detail, headers={"Retry-After": "5"})
        self._busy.append(tenant)

    def end(self, tenant: object) -> None:
        self._busy.remove(tenant)

    async def ask(self, instructions: str, said: Sequence[Said]) -> str:
        await asyncio.to_thread(load_library)
        from pydantic_ai.direct import model_request

        try:
            async with asyncio.timeout(self._settings.generator_timeout_seconds):
                response = await model_request(self._model, _messages(instructions, said))
        except Exception as error:
            raise self._failure(error) from error
        usage = response.usage
        log.info("model_asked", model=self.model, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
        return response.text or ""

    def _failure(self, error: Exception) -> Problem:
        from pydantic_ai.exceptions import ModelHTTPError

        log.warning("model_failed", model=self.model, error=without_keys(str(error))[:500])
        nothing = "Nothing was generated"
        if isinstance(error, ModelUnusable):
            return Problem(
                502, "AGENT_ERROR", f"{without_keys(str(error))}. {nothing}; HANDRAIL_GENERATOR_MODEL names it."
            )
        if isinstance(error, TimeoutError):
            seconds = f"{self._settings.generator_timeout_seconds:g}"
            detail = (
                f"The model {self.model} did not answer within {seconds} s. {nothing}; try again, or say less at once."
            )
            return Problem(504, "TIMEOUT", detail)
        if not isinstance(error, ModelHTTPError):
            why = type(error).__name__
            detail = f"The model {self.model} does not answer: {why}. {nothing}; HANDRAIL_GENERATOR_MODEL names it."
            return unavailable("AGENT_ERROR", detail, 10)
        told = without_keys(str(error.body))[:300]
        if error.status_code == 429 or error.status_code >= 500:
            code = "RATE_LIMIT" if error.status_code == 429 else "AGENT_ERROR"
            return unavailable(code, f"The model {self.model} answers {error.status_code}: {told}. {nothing}.", 10)
        detail = (
            f"The model {self.model} refuses with {error.status_code}: {told}. {nothing}; its key or name may be wrong."
        )
        return Problem(502, "AGENT_ERROR", detail)

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


def _messages(instructions: str, said: Sequence[Said]) -> "list[ModelMessage]":
    from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart

    return [
        ModelRequest(parts=[UserPromptPart(text)], instructions=instructions)
        if who == "user"
        else ModelResponse(parts=[TextPart(text)])
        for who, text in said
    ]
