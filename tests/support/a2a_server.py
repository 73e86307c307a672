"""A remote agent with the official A2A server, over HTTP. It does what the first word that it is told says:

    echo     an artifact with what it was told      chunks   the words, one by one, as one artifact
    two      a text and an object, two artifacts    message  a message instead of a task
    fail, refuse, ask, login                        ends, or stops, in that state
    slow     nothing, until it is cancelled         steps    says that it works on it, then echo
    big      an artifact of 400 KB

Anything else is an echo. Two cards lead to it, `/streaming` and `/polling`; `/elsewhere` leads to another place.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from a2a.helpers import new_data_part, new_text_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    Message,
    Part,
    Task,
    TaskState,
    TaskStatus,
)
from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

MODES = ["text/plain", "application/json"]


@dataclass
class RemoteAgent(AgentExecutor):
    """What it was sent, and the tasks that it was told to cancel."""

    url: str = ""
    messages: list[Message] = field(default_factory=list)
    credentials: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    refuses: int = 0
    """HTTP status of the answer to everything, if it is not 0."""

    def card_url(self, name: str) -> str:
        return f"{self.url}/{name}/.well-known/agent-card.json"

    def told(self, word: str) -> list[Message]:
        return [message for message in self.messages if _text(message).startswith(word)]

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message and context.task_id and context.context_id
        self.messages.append(context.message)
        word, _, rest = _text(context.message).partition(" ")
        if word == "message":
            await event_queue.enqueue_event(new_text_message(rest, context_id=context.context_id))
            return
        status = TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
        await event_queue.enqueue_event(Task(id=context.task_id, context_id=context.context_id, status=status))
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        await self._work(word, rest, list(context.message.parts), updater)

    async def _work(self, word: str, rest: str, parts: list[Part], updater: TaskUpdater) -> None:
        said = new_text_message(rest)
        match word:
            case "fail":
                await updater.failed(said)
            case "refuse":
                await updater.reject(said)
            case "ask":
                await updater.requires_input(said)
            case "login":
                await updater.requires_auth(said)
            case "slow":
                await updater.start_work(said)
                await asyncio.sleep(3600)
            case "chunks":
                for number, chunk in enumerate(rest.split(" ")):
                    await updater.add_artifact([new_text_part(f"{chunk} ")], artifact_id="words", append=number > 0)
                await updater.complete()
            case "two":
                await updater.add_artifact([new_text_part(rest)])
                await updater.add_artifact([new_data_part({"words": len(rest.split())})])
                await updater.complete()
            case "big":
                await updater.add_artifact([new_text_part("x" * 400_000)])
                await updater.complete()
            case _:
                await updater.start_work(new_text_message("I am at it."))
                await updater.add_artifact(parts)
                await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id and context.context_id
        self.cancelled.append(context.task_id)
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()

    def noted(self, app: ASGIApp) -> ASGIApp:
        async def note(scope: Scope, receive: Receive, send: Send) -> None:
            credential = Request(scope).headers.get("authorization", "")
            self.credentials.append(credential)
            refused = Response(f"not with {credential}", self.refuses)
            await (refused if self.refuses else app)(scope, receive, send)

        return note


def _text(message: Message) -> str:
    return "".join(part.text for part in message.parts)


def _app(agent: RemoteAgent) -> ASGIApp:
    routes: list[Any] = []
    for name, streaming in (("streaming", True), ("polling", False), ("elsewhere", False)):
        place = "http://elsewhere.invalid" if name == "elsewhere" else f"{agent.url}/{name}"
        card = AgentCard(
            name=name,
            description="A remote agent",
            version="1",
            supported_interfaces=[AgentInterface(url=place, protocol_binding="JSONRPC", protocol_version="1.0")],
            capabilities=AgentCapabilities(streaming=streaming),
            default_input_modes=MODES,
            default_output_modes=MODES,
            skills=[AgentSkill(id="echo", name="echo", description="Echoes", tags=["test"])],
        )
        handler = DefaultRequestHandler(agent_executor=agent, task_store=InMemoryTaskStore(), agent_card=card)
        routes += create_agent_card_routes(card, card_url=f"/{name}/.well-known/agent-card.json")
        routes += create_jsonrpc_routes(handler, f"/{name}")
    return agent.noted(Starlette(routes=routes))


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # they are the test run's


@asynccontextmanager
async def remote_agent(port: int) -> AsyncIterator[RemoteAgent]:
    """Runs it in this process."""
    agent = RemoteAgent(f"http://127.0.0.1:{port}")
    config = uvicorn.Config(_app(agent), port=port, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        yield agent
    finally:
        server.should_exit = True
        await serving


def parts_in(message: Message) -> list[dict[str, Any]]:
    return [MessageToDict(part) for part in message.parts]
