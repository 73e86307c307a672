"""The SDK's server side over the gateway's own functions. Imports the SDK: only the router imports this, when it is needed."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import orjson
from a2a.server.context import ServerCallContext
from a2a.server.events import Event
from a2a.server.request_handlers.request_handler import RequestHandler, validate_request_params
from a2a.server.routes.common import ServerCallContextBuilder
from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
from a2a.server.routes.rest_dispatcher import RestDispatcher
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTaskPushNotificationConfigsResponse,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskPushNotificationConfig,
)
from a2a.utils.errors import (
    A2AError,
    ExtendedAgentCardNotConfiguredError,
    InternalError,
    InvalidParamsError,
    PushNotificationNotSupportedError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from a2a.utils.task import apply_history_length, validate_history_length, validate_page_size
from google.protobuf.json_format import MessageToDict, ParseDict
from handrail_contracts.parts import value_of
from handrail_graph import trigger_of
from pydantic import ValidationError
from starlette.requests import Request

from handrail_gateway import executions
from handrail_gateway.a2a.tasks import ENDED, INPUT_REQUIRED, begun, events_of, status_event, task_of
from handrail_gateway.answers import parsed
from handrail_gateway.auth import Caller
from handrail_gateway.controls import filter_arguments, steer
from handrail_gateway.database import Row
from handrail_gateway.gate import caller_of
from handrail_gateway.gateway import Gateway
from handrail_gateway.idempotency import request_id
from handrail_gateway.paging import decode_cursor, page
from handrail_gateway.problems import Problem
from handrail_gateway.schemas import ControlRequest, ExecuteRequest, Filter
from handrail_gateway.sse import ExecutionStream, Position
from handrail_gateway.steering import check
from handrail_gateway.streaming import START, Frame

CANCEL_SECONDS = 5.0
"""How long a cancellation may take before the answer says that it is under way."""
LOOK_AGAIN_SECONDS, LOOKS = 0.03, 150
ALL = 2**31
"""Beyond every frame of an event."""
PAGE = 50


@dataclass(frozen=True, slots=True)
class Asked:
    """By whom, of which workflow (a row of its newest version)."""

    gateway: Gateway
    caller: Caller
    workflow: Row

    @property
    def workflow_id(self) -> str:
        return str(self.workflow["workflow_id"])

    async def execution(self, execution_id: str) -> Row:
        """With its steps. Raises `TaskNotFoundError` for one of another workflow or tenant, too."""
        found = await executions.find(self.gateway, self.caller, execution_id, "execution_with_steps")
        if found["workflow_id"] != self.workflow_id:
            raise TaskNotFoundError
        return found


class Asking(ServerCallContextBuilder):
    def build(self, request: Request) -> ServerCallContext:
        asked = Asked(request.app.state.gateway, caller_of(request.scope), request.state.workflow)
        return ServerCallContext(state={"headers": dict(request.headers), "asked": asked})


class Workflows(RequestHandler):
    """A task is an execution: nothing is kept here, and nothing is decided that the API would not decide so."""

    # --- messages -----------------------------------------------------------------------------------------------------

    @validate_request_params
    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Task | Message:
        with _in_protocol():
            validate_history_length(params.configuration)
            watch = await _started(_asked(context), params.message)
            if not params.configuration.return_immediately:
                await watch.to_the_end()
            return apply_history_length(_task(await watch.row()), params.configuration)

    @validate_request_params
    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        with _in_protocol():
            watch = await _started(_asked(context), params.message)
            if watch.ended:
                yield apply_history_length(_task(await watch.row()), params.configuration)
                return
            yield ParseDict(begun(watch.ids), Task())
            async for event in watch.events():
                yield event

    # --- tasks --------------------------------------------------------------------------------------------------------

    @validate_request_params
    async def on_get_task(self, params: GetTaskRequest, context: ServerCallContext) -> Task | None:
        with _in_protocol():
            validate_history_length(params)
            return apply_history_length(_task(await _asked(context).execution(params.id)), params)

    @validate_request_params
    async def on_list_tasks(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        """Latest first. By context only: the API lists by status, and by much else."""
        if params.status or params.HasField("status_timestamp_after"):
            raise UnsupportedOperationError("tasks are listed by context only; see GET /api/v1/executions for more")
        size = params.page_size if params.HasField("page_size") else PAGE
        validate_page_size(size)
        with _in_protocol():
            asked = _asked(context)
            after = decode_cursor(params.page_token or None, datetime, str)
            wanted = Filter(workflow_id=asked.workflow_id, session_id=params.context_id or None)
            whose, arguments = (asked.caller.organization_id, asked.caller.project_id, None), filter_arguments(wanted)
            database = asked.gateway.database
            rows = await database.fetch("search_executions", *whose, *after, size + 1, *arguments)
            total = await database.row("count_executions", *whose, *arguments)
            kept, token = page(rows, size, lambda row: (row["started_at"], row["execution_id"]))
            tasks = [_task(await asked.execution(row["execution_id"])) for row in kept]
            return ListTasksResponse(
                tasks=[apply_history_length(task, params) for task in tasks],
                next_page_token=token or "",
                page_size=size,
                total_size=0 if total is None else total["count"],
            )

    @validate_request_params
    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> Task | None:
        with _in_protocol():
            asked = _asked(context)
            row = await asked.execution(params.id)
            if row["status"] != "cancelled":
                check("cancel", row)
                request = request_id(asked.caller, f"executions/{params.id}/cancel/", None)
                body = ControlRequest(reason="asked for by A2A")
                await steer(asked.gateway, asked.caller, row, "cancel", body, request, None)
                watch = Watch(asked, row, (row["last_n"] or 0, ALL), through_input=True)
                await watch.to_the_end(CANCEL_SECONDS)
                row = await watch.row()
            return _task(row)

    @validate_request_params
    async def on_subscribe_to_task(
        self, params: SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        with _in_protocol():
            asked = _asked(context)
            row = await asked.execution(params.id)
            if row["status"] in ENDED:
                raise UnsupportedOperationError(f"the task has ended: {row['status']}")
            yield _task(row)
            async for event in Watch(asked, row, (row["last_n"] or 0, ALL), through_input=True).events():
                yield event

    # --- what there is none of ----------------------------------------------------------------------------------------

    async def on_create_task_push_notification_config(
        self, params: TaskPushNotificationConfig, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        raise PushNotificationNotSupportedError

    async def on_get_task_push_notification_config(
        self, params: GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        raise PushNotificationNotSupportedError

    async def on_list_task_push_notification_configs(
        self, params: ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> ListTaskPushNotificationConfigsResponse:
        raise PushNotificationNotSupportedError

    async def on_delete_task_push_notification_config(
        self, params: DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        raise PushNotificationNotSupportedError

    async def on_get_extended_agent_card(
        self, params: GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> AgentCard:
        raise ExtendedAgentCardNotConfiguredError


JSON_RPC = JsonRpcDispatcher(Workflows(), Asking())
REST = RestDispatcher(Workflows(), Asking())


# --- executions -------------------------------------------------------------------------------------------------------


async def _started(asked: Asked, message: Message) -> "Watch":
    """The message's execution: its id is the idempotency key, so one that comes again finds what it began before."""
    if message.task_id:
        row = await asked.execution(message.task_id)
        raise UnsupportedOperationError(
            f"a task takes no further message; this one is {row['status']}. "
            "Approvals are decided at /api/v1/approvals, signals sent to /api/v1/executions/{id}/signals/{name}"
        )
    key = message.message_id
    execution_id = request_id(asked.caller, f"workflows/{asked.workflow_id}/execute", key)
    given = value_of(MessageToDict(part) for part in message.parts)
    trigger = trigger_of(parsed(asked.workflow["definition"]))
    if isinstance(given, str) and trigger is not None and trigger.kind == "chat":
        given = {"current_message": given}
    body = ExecuteRequest(
        trigger={"kind": "a2a", "message_id": key}, input=given, session_id=message.context_id or execution_id
    )
    accepted = await executions.start(asked.gateway, asked.caller, asked.workflow_id, body, key)
    ids = {"execution_id": execution_id, "session_id": body.session_id}
    return Watch(asked, ids, START, ended=accepted["status"] in ENDED)


@dataclass(slots=True)
class Watch:
    """What happens to an execution after `position`, to its end, or until somebody's input is required.

    It may stop before, as any stream: when the client is too slow, its token expires, or the gateway stops.
    """

    asked: Asked
    ids: Row
    position: Position
    through_input: bool = False
    ended: bool = False

    async def events(self) -> AsyncGenerator[Event, None]:
        gateway, execution_id = self.asked.gateway, self.ids["execution_id"]
        stream = ExecutionStream(
            gateway.database, gateway.positions, gateway.tail, self.asked.caller, execution_id, self.position
        )
        async with aclosing(stream.frames()) as frames:
            async for frame in frames:
                self.position = stream.position
                for found in await self._said(frame):
                    yield _event(found)
                    if not self.through_input and _state(found) == INPUT_REQUIRED:
                        return

    async def to_the_end(self, seconds: float | None = None) -> None:
        """Returns when there is nothing more to wait for, or the time is over."""
        if self.ended:
            return
        try:
            async with asyncio.timeout(seconds), aclosing(self.events()) as events:
                async for _ in events:
                    pass
        except TimeoutError:
            pass

    async def row(self) -> Row:
        """The execution with its steps when the read models have what was watched, or as it is when that takes too long."""
        found = await self.asked.execution(self.ids["execution_id"])
        for _ in range(LOOKS):
            if (found["last_n"] or 0) >= self.position[0]:
                break
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            found = await self.asked.execution(self.ids["execution_id"])
        return found

    async def _said(self, frame: Frame) -> list[dict[str, Any]]:
        data = orjson.loads(frame.data)
        if frame.event == "status" and data["status"] == "waiting":
            now = await self.row()
            return [] if now["status"] in ENDED else [status_event(now)]
        if frame.event == "complete":
            await self.row()  # who hears of the end finds it when he asks
        return events_of(self.ids, frame.event, data, str(uuid4()))


# --- the protocol's forms ---------------------------------------------------------------------------------------------


def _asked(context: ServerCallContext) -> Asked:
    found: Asked = context.state["asked"]
    return found


def _task(row: Row) -> Task:
    return ParseDict(task_of(row), Task())


def _event(found: dict[str, Any]) -> Event:
    response = ParseDict(found, StreamResponse())
    event: Event = getattr(response, response.WhichOneof("payload") or "")
    return event


def _state(found: dict[str, Any]) -> Any:
    return found["statusUpdate"]["status"]["state"] if "statusUpdate" in found else None


@contextmanager
def _in_protocol() -> Iterator[None]:
    """Problems leave as the protocol's errors, with their code in its data."""
    try:
        yield
    except Problem as problem:
        raise _error_of(problem) from problem
    except ValidationError as error:
        raise InvalidParamsError(str(error.errors()[0]["msg"])) from error


def _error_of(problem: Problem) -> A2AError:
    kinds = {404: TaskNotFoundError, 409: TaskNotCancelableError, 413: InvalidParamsError, 422: InvalidParamsError}
    kind = kinds.get(problem.status, InternalError)
    return kind(problem.detail, data={"code": problem.code})
