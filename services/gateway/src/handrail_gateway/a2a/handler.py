"""The protocol's methods over the gateway's own functions."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import structlog
from a2a.server.context import ServerCallContext
from a2a.server.events import Event
from a2a.server.request_handlers.request_handler import RequestHandler, validate_request_params
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
from handrail_contracts.codec import first_mistake
from handrail_contracts.parts import DEEPEST_CALLS, DEPTH, value_of
from handrail_graph import trigger_of
from pydantic import ValidationError

from handrail_gateway import executions
from handrail_gateway.a2a.tasks import begun, task_of
from handrail_gateway.a2a.watching import Asked, Watch
from handrail_gateway.answers import parsed
from handrail_gateway.controls import filter_arguments, steer
from handrail_gateway.database import Row
from handrail_gateway.idempotency import request_id
from handrail_gateway.identity.caller import Permission
from handrail_gateway.identity.rights import require
from handrail_gateway.paging import decode_cursor, page
from handrail_gateway.problems import Problem
from handrail_gateway.schemas import ControlRequest, ExecuteRequest, Filter
from handrail_gateway.steering import check
from handrail_gateway.streaming import START, TERMINAL

log = structlog.get_logger()

CANCEL_SECONDS = 5.0
"""How long a cancellation may take before the answer says that it is under way."""
PAGE = 50


class Workflows(RequestHandler):
    """A task is an execution: nothing is kept here, and nothing is decided that the API would not decide so."""

    # --- messages -----------------------------------------------------------------------------------------------------

    @validate_request_params
    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Task | Message:
        with _in_protocol():
            validate_history_length(params.configuration)
            watch = await _started(_asked(context, Permission.OPERATE), params.message)
            if not params.configuration.return_immediately:
                await watch.to_the_end()
            return apply_history_length(_task(await watch.row()), params.configuration)

    @validate_request_params
    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        with _in_protocol():
            watch = await _started(_asked(context, Permission.OPERATE), params.message)
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
            asked = _asked(context, Permission.OPERATE)
            row = await asked.execution(params.id)
            if row["status"] != "cancelled":
                check("cancel", row)
                request = request_id(asked.caller, f"executions/{params.id}/cancel/", None)
                body = ControlRequest(reason="asked for by A2A")
                await steer(asked.gateway, asked.caller, row, "cancel", body, request, None)
                watch = asked.from_now_on(row)
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
            if row["status"] in TERMINAL:
                raise UnsupportedOperationError(f"the task has ended: {row['status']}")
            yield _task(row)
            async for event in asked.from_now_on(row).events():
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


# --- executions -------------------------------------------------------------------------------------------------------


async def _started(asked: Asked, message: Message) -> Watch:
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
        trigger={"kind": "a2a", "message_id": key},
        input=given,
        session_id=message.context_id or execution_id,
        context=_depth(message),
    )
    accepted = await executions.start(asked.gateway, asked.caller, asked.workflow_id, body, key)
    ids = {"execution_id": execution_id, "session_id": body.session_id}
    since = asked.gateway.now() if accepted["started_at"] is None else accepted["started_at"].timestamp()
    return Watch(asked, ids, START, since, ended=accepted["status"] in TERMINAL)


def _depth(message: Message) -> dict[str, Any]:
    """What the execution's context says of the agents that have called one another to get here."""
    depth = MessageToDict(message.metadata).get(DEPTH)
    if not isinstance(depth, float) or depth <= 0:
        return {}
    if depth > DEEPEST_CALLS:
        raise InvalidParamsError(
            f"agents call one another more than {DEEPEST_CALLS} deep: does a workflow call itself?"
        )
    return {DEPTH: int(depth)}


# --- the protocol's forms ---------------------------------------------------------------------------------------------


def _asked(context: ServerCallContext, needed: Permission = Permission.READ) -> Asked:
    """The route let in whoever may read; what changes something needs more, whichever binding it came by."""
    found: Asked = context.state["asked"]
    require(found.caller, needed)
    return found


def _task(row: Row) -> Task:
    return ParseDict(task_of(row), Task())


@contextmanager
def _in_protocol() -> Iterator[None]:
    """Problems leave as the protocol's errors, with their code in its data."""
    try:
        yield
    except Problem as problem:
        raise _error_of(problem) from problem
    except ValidationError as error:
        place, why = first_mistake(error)
        raise InvalidParamsError(f"{place}: {why}") from error
    except A2AError:
        raise
    except Exception as error:
        log.error("request_failed", path="a2a", error=repr(error))
        raise InternalError("The gateway failed on this request; its log says why.") from error


def _error_of(problem: Problem) -> A2AError:
    kinds = {
        403: UnsupportedOperationError,
        404: TaskNotFoundError,
        409: TaskNotCancelableError,
        413: InvalidParamsError,
        422: InvalidParamsError,
    }
    kind = kinds.get(problem.status, InternalError)
    return kind(problem.detail, data={"code": problem.code})
