"""One attempt of a step as a task of a remote A2A agent. Imports the SDK: only `a2a` imports this, when it is needed."""

import asyncio
from collections.abc import AsyncIterator, Container, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager
from functools import cached_property
from typing import Any
from uuid import uuid4

import httpx
import structlog
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.client.errors import A2AClientError
from a2a.types import (
    AgentCard,
    Artifact,
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    StreamResponse,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
)
from a2a.utils.constants import AGENT_CARD_WELL_KNOWN_PATH, TransportProtocol
from a2a.utils.errors import A2AError, InternalError, InvalidAgentResponseError, InvalidParamsError, TaskNotFoundError
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from handrail_contracts.agents import A2aConfig
from handrail_contracts.parts import DEPTH, parts_of, text_of, value_of
from handrail_contracts.steps import StepRequested
from handrail_contracts.tracing import traceparent
from handrail_runtime.secrets import masked
from handrail_runtime.settings import Settings

from handrail_agent_runner.agents.base import AgentFailure, Progress, refused
from handrail_agent_runner.agents.guarded import GuardedTransport

log = structlog.get_logger()

BINDINGS = [TransportProtocol.JSONRPC.value, TransportProtocol.HTTP_JSON.value]
FIRST_POLL, LONGEST_POLL = 0.25, 5.0
LOST_POLLS = 8
"""So many answers in a row may be missing before the attempt gives up."""
PASSING = (A2AClientError, InternalError)
"""What may happen on the way without anything happening to the task."""
CANCEL_SECONDS = 5.0
TOLD_CHARACTERS = 20_000
"""Of one piece of progress."""
SPARE = 16
"""How often the largest output fits into one answer: histories and escapes come with it."""

UNDER_WAY = (TaskState.TASK_STATE_UNSPECIFIED, TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING)
DEAD = (TaskState.TASK_STATE_FAILED, TaskState.TASK_STATE_CANCELED, TaskState.TASK_STATE_REJECTED)
ENDED = (TaskState.TASK_STATE_COMPLETED, *DEAD)
MEANINGS = {
    TaskState.TASK_STATE_FAILED: ("AGENT_ERROR", "failed", True),
    TaskState.TASK_STATE_CANCELED: ("AGENT_ERROR", "was cancelled by somebody else", False),
    TaskState.TASK_STATE_REJECTED: ("VALIDATION_ERROR", "was refused", False),
    TaskState.TASK_STATE_INPUT_REQUIRED: ("AGENT_ERROR", "asks for an input, which a step can't give", False),
    TaskState.TASK_STATE_AUTH_REQUIRED: ("AGENT_ERROR", "asks for a credential, which a step can't give", False),
}
"""Code, words and whether another attempt may help, of the states in which a task comes to nothing."""


class Remote:
    """An agent elsewhere. Its card is read for every attempt, so it may move."""

    def __init__(self, name: str, config: A2aConfig, settings: Settings, secret: str) -> None:
        self._name, self._config, self._secret = name, config, secret
        self._limit, self._private = settings.result_limit_bytes, settings.allow_private_networks

    async def execute(self, request: StepRequested, progress: Progress) -> Any:
        try:
            async with asyncio.timeout(self._config.timeout_seconds), self._http(request) as http:
                return await self._ask(http, request, progress)
        except TimeoutError as error:
            message = f"agent {self._name} took longer than {self._config.timeout_seconds:g} s"
            raise AgentFailure("TIMEOUT", message, retryable=True) from error
        except (A2AError, ParseError, ValueError, httpx.HTTPError) as error:
            raise self._scrubbed(failure_of(self._name, error)) from error
        except AgentFailure as failure:
            raise self._scrubbed(failure) from failure

    @cached_property
    def _transport(self) -> GuardedTransport:
        return GuardedTransport(self._private, SPARE * self._limit)

    @asynccontextmanager
    async def _http(self, request: StepRequested) -> AsyncIterator[httpx.AsyncClient]:
        headers = {self._config.header: self._secret} if self._secret else {}
        headers |= {
            "accept-encoding": "identity",
            "traceparent": traceparent(request.execution_id, request.event_id),
        }
        timeout = httpx.Timeout(self._config.timeout_seconds, connect=5.0)
        async with httpx.AsyncClient(
            transport=self._transport, headers=headers, timeout=timeout, follow_redirects=False, trust_env=False
        ) as http:
            yield http

    async def _ask(self, http: httpx.AsyncClient, request: StepRequested, progress: Progress) -> Any:
        """Sends the step's input, under the first of its ids whose task is not dead already."""
        client = self._client(http, await self._card(http))
        parts = [ParseDict(part, Part()) for part in parts_of(request.input)]
        for message_id, dead in message_ids(request):
            task = _Task(client, progress, self._name, self._limit, self._config.wait_for_input)
            message = Message(
                message_id=message_id,
                context_id=request.session_id or "",
                role=Role.ROLE_USER,
                parts=parts,
                metadata={DEPTH: _depth(request) + 1},
            )
            try:
                return await task.run(message, dead)
            except _CameToNothing:
                continue
        raise AssertionError("no task of the last id can be dead already")

    async def _card(self, http: httpx.AsyncClient) -> AgentCard:
        url = httpx.URL(self._config.card_url)
        path = AGENT_CARD_WELL_KNOWN_PATH if url.path == "/" else "/"
        return await A2ACardResolver(http, self._config.card_url).get_agent_card(relative_card_path=path)

    def _client(self, http: httpx.AsyncClient, card: AgentCard) -> Client:
        """Raises `AgentFailure` if the card leads only elsewhere, and there is a credential: that is for the card's place."""
        own, interfaces = _origin(self._config.card_url), list(card.supported_interfaces)
        near = [interface for interface in interfaces if not self._secret or _origin(interface.url) == own]
        if interfaces and not near:
            message = (
                f"the card of agent {self._name} leads to {interfaces[0].url}, but its credential is for {own} only"
            )
            raise AgentFailure("VALIDATION_ERROR", message, retryable=False)
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(near)
        config = ClientConfig(httpx_client=http, supported_protocol_bindings=BINDINGS, polling=True)
        return ClientFactory(config).create(card)

    def _scrubbed(self, failure: AgentFailure) -> AgentFailure:
        """A server may repeat the credential that it refuses: nobody else is told."""
        message = masked(failure.info.message, self._secret.split())
        return AgentFailure(failure.info.code, message, retryable=failure.info.retryable)


class _CameToNothing(Exception):
    """The id is used up: its task has ended without a result before, or had another input."""


class _Task:
    """What is known of the remote task, and what came of it."""

    def __init__(self, client: Client, progress: Progress, name: str, limit: int, waits: bool) -> None:
        self._client, self._progress, self._name, self._limit = client, progress, name, limit
        self._waits = waits
        self._id = ""
        self._status = TaskStatus()
        self._artifacts: dict[str, Artifact] = {}
        self._answer: Message | None = None
        self._size = 0

    async def run(self, message: Message, dead: Container[int]) -> Any:
        """The output. Raises `_CameToNothing` if the first that is heard of the task is one of the states `dead`."""
        try:
            await self._follow(message, dead)
            await self._poll()
        except InvalidParamsError as error:
            if dead:  # an id that was used before for another input
                raise _CameToNothing from error
            raise
        finally:
            await self._cancel_if_open()
        return self._output()

    async def _follow(self, message: Message, dead: Container[int]) -> None:
        """Until the task is over, or the stream is: then the task goes on without it."""
        events = self._client.send_message(SendMessageRequest(message=message))
        try:
            async with aclosing(events) as stream:  # type: ignore[type-var]
                async for event in stream:
                    first = not self._id
                    self._take(event)
                    if first and self._status.state in dead:
                        raise _CameToNothing
                    if self._over:
                        return
        except PASSING:
            if not self._id:
                raise
        if not (self._id or self._answer):
            raise InvalidAgentResponseError("it answered with neither a task nor a message")

    async def _poll(self) -> None:
        pause, lost = FIRST_POLL, 0
        while not self._over:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL)
            try:
                self._take_task(await self._client.get_task(GetTaskRequest(id=self._id)))
                lost = 0
            except PASSING:
                lost += 1
                if lost == LOST_POLLS:
                    raise

    # --- what it says -------------------------------------------------------------------------------------------------

    @property
    def _completed(self) -> bool:
        return self._status.state == TaskState.TASK_STATE_COMPLETED

    @property
    def _over(self) -> bool:
        state = self._status.state
        waiting = self._waits and state == TaskState.TASK_STATE_INPUT_REQUIRED
        return self._answer is not None or not (state in UNDER_WAY or waiting)

    def _take(self, event: StreamResponse) -> None:
        match event.WhichOneof("payload"):
            case "message":
                self._answer = event.message
            case "task":
                self._take_task(event.task)
            case "status_update":
                self._take_status(event.status_update.task_id, event.status_update.status)
            case "artifact_update":
                self._take_artifact(event.artifact_update)

    def _take_task(self, task: Task) -> None:
        self._artifacts = {artifact.artifact_id: artifact for artifact in task.artifacts}
        self._size = 0
        self._weigh(task.artifacts)
        self._take_status(task.id, task.status)

    def _take_status(self, task_id: str, status: TaskStatus) -> None:
        self._id = self._id or task_id
        if status == self._status:
            return
        self._status = status
        state = TaskState.Name(status.state).removeprefix("TASK_STATE_").lower()
        message = text_of(_json(status.message.parts))[:TOLD_CHARACTERS]
        self._progress("progress", {"state": state, **({"message": message} if message else {})})

    def _take_artifact(self, update: TaskArtifactUpdateEvent) -> None:
        self._id = self._id or update.task_id
        known = self._artifacts.get(update.artifact.artifact_id)
        self._weigh([update.artifact])
        if update.append and known is not None:
            known.parts.extend(update.artifact.parts)
        else:
            self._artifacts[update.artifact.artifact_id] = update.artifact
        text = text_of(_json(update.artifact.parts))
        for start in range(0, len(text), TOLD_CHARACTERS):
            self._progress("delta", {"content": text[start : start + TOLD_CHARACTERS]})

    def _weigh(self, artifacts: Iterable[Artifact]) -> None:
        self._size += sum(artifact.ByteSize() for artifact in artifacts)
        if self._size > self._limit:
            message = (
                f"the answer of agent {self._name} is larger than {self._limit} bytes; pass large data by reference"
            )
            raise AgentFailure("RESULT_TOO_LARGE", message, retryable=False)

    # --- what comes of it ---------------------------------------------------------------------------------------------

    def _output(self) -> Any:
        if self._answer is not None:
            return value_of(_json(self._answer.parts))
        if self._completed:
            values = [value_of(_json(artifact.parts)) for artifact in self._artifacts.values()]
            return values if len(values) > 1 else values[0] if values else value_of(_json(self._status.message.parts))
        code, words, retryable = MEANINGS[self._status.state]
        said = text_of(_json(self._status.message.parts))
        message = f"the task {self._id} of agent {self._name} {words}{f': {said}' if said else ''}"
        raise AgentFailure(code, message, retryable=retryable)

    async def _cancel_if_open(self) -> None:
        """Nobody waits for it any more, so it need not go on; best effort."""
        if not self._id or self._answer is not None or self._status.state in ENDED:
            return
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                await self._client.cancel_task(CancelTaskRequest(id=self._id))
        except Exception as error:
            log.warning("remote_task_left_open", agent=self._name, task=self._id, error=str(error) or repr(error))


def message_ids(request: StepRequested) -> list[tuple[str, Container[int]]]:
    """What the message may be called, in the order in which it is tried, each with the states that send on to the next.

    The id of the attempt before: its task may have gone on unheard. This attempt's own, by which a runner that takes it
    over finds its task. A new one, for when that was cancelled as its runner stopped. Servers that don't know ids of
    messages begin a task at the first.
    """
    own = _id_of(request.run_id, request.attempt)
    before = [(_id_of(request.run_id, request.attempt - 1), DEAD)] if request.attempt > 1 else []
    return [*before, (own, (TaskState.TASK_STATE_CANCELED,)), (f"{own}:{uuid4()}", ())]


def _id_of(run_id: str, attempt: int) -> str:
    return run_id if attempt == 1 else f"{run_id}:{attempt}"


def _depth(request: StepRequested) -> int:
    depth = request.context.get(DEPTH)
    return depth if isinstance(depth, int) else 0


def failure_of(name: str, error: Exception) -> AgentFailure:
    """What went wrong on the way or at the other end, in our codes."""
    causes = list(_causes(error))
    response = next((cause.response for cause in causes if isinstance(cause, httpx.HTTPStatusError)), None)
    if response is not None:
        said = response.text[:300] if response.is_stream_consumed else ""
        return refused(response.status_code, f"agent {name} answered {response.status_code}: {said}")
    if any(isinstance(cause, httpx.TimeoutException) for cause in causes):
        return AgentFailure("TIMEOUT", f"agent {name} did not answer in time", retryable=True)
    message = f"agent {name}: {error or type(error).__name__}"
    lost = any(isinstance(cause, httpx.TransportError) for cause in causes)
    if lost or isinstance(error, InternalError | InvalidAgentResponseError | TaskNotFoundError):
        return AgentFailure("AGENT_ERROR", message, retryable=True)
    unwilling = isinstance(error, A2AError) and not isinstance(error, A2AClientError)
    return AgentFailure("VALIDATION_ERROR" if unwilling else "AGENT_ERROR", message, retryable=False)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _json(parts: Iterable[Part]) -> list[dict[str, Any]]:
    return [MessageToDict(part) for part in parts]


def _origin(url: str) -> str:
    parsed = httpx.URL(url)
    return str(parsed.copy_with(raw_path=b"/", fragment=None)).rstrip("/")
