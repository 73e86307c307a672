"""Queues: which executions of one concurrency key may run. Beside executions in the same journal, like schedules."""

import heapq
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
from handrail_contracts import topics
from handrail_contracts.admission import (
    QUEUE_PREFIX,
    Admission,
    AdmissionDecided,
    AdmissionReleased,
    AdmissionRequested,
    QueueAdmitted,
    QueueEntered,
    QueueEvent,
    QueueLeft,
    QueueRefused,
)
from handrail_contracts.envelope import tenant_of
from handrail_contracts.ids import derive
from handrail_contracts.journal import Record
from handrail_contracts.workflows import WorkflowStarted
from handrail_graph import Concurrency, Graph, user_input
from handrail_runtime.machine.core import Kind, Outgoing

from handrail_scheduler.cancelling import cancellation

PACKED = b"Q"
"""What the bytes of a packed queue begin with."""
LEFT_KEPT = 100
"""Executions that left lately: one of theirs that asks again, because its question was repeated, gets no place."""
PARKED_BELOW = 100


@dataclass(slots=True)
class Queue:
    """Changed by `evolve` alone. `running` and `waits` name executions with the events that brought them there.

    `line` is a heap of (minus priority, number, execution) with the next first; who went away meanwhile is still in it.
    """

    execution_id: str
    workflow_id: str = ""
    user_id: str = ""
    organization_id: str = ""
    project_id: str = ""
    limit: int = 1
    running: dict[str, int] = field(default_factory=dict)
    waits: dict[str, int] = field(default_factory=dict)
    line: list[list[Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    n: int = 0

    def pack(self) -> bytes:
        return PACKED + zlib.compress(orjson.dumps(self), 1)

    @staticmethod
    def unpack(data: bytes) -> "Queue":
        return Queue(**orjson.loads(zlib.decompress(data[1:])))

    def knows(self, execution_id: str) -> bool:
        return execution_id in self.waits or execution_id in self.running or execution_id in self.left


def admissions_of(graph: Graph, message: WorkflowStarted, tenant_limit: int) -> tuple[Admission, ...]:
    """What an execution has to ask for before it begins. Raises `ExpressionError` if its key can't be made.

    Its workflow's queue first: who waits there holds no place of the tenant's.
    """
    found = [] if graph.concurrency is None else [_of_workflow(graph.concurrency, message)]
    if tenant_limit:
        name = derive("tenant", message.organization_id, message.project_id)
        found.append(
            Admission(queue_id=QUEUE_PREFIX + name, limit=tenant_limit, priority=message.priority, while_working=True)
        )
    return tuple(found)


def _of_workflow(limits: Concurrency, message: WorkflowStarted) -> Admission:
    scope = {"input": message.input, "context": message.context, "user_input": user_input(message.input)}
    key = None if limits.key is None else limits.key.render(scope)
    whose = (message.organization_id, message.project_id, message.workflow_id)
    name = derive("queue", *whose, orjson.dumps(key, option=orjson.OPT_SORT_KEYS).decode())
    return Admission(
        queue_id=QUEUE_PREFIX + name,
        key=key,
        limit=limits.limit,
        on_conflict=limits.on_conflict,
        priority=message.priority,
    )


def decide(state: Queue, message: Any, emit: Callable[[Any], None]) -> None:
    match message:
        case AdmissionRequested() if not state.knows(message.requester_id):
            _enter(state, message, emit)
        case AdmissionReleased() if state.knows(message.requester_id) and message.requester_id not in state.left:
            emit(QueueLeft(n=state.n + 1, requester_id=message.requester_id))
            _admit(state, emit)
        case _:
            pass


def _enter(state: Queue, message: AdmissionRequested, emit: Callable[[Any], None]) -> None:
    wanted = message.admission
    whose = tenant_of(message)
    full = len(state.running) >= wanted.limit
    if full and wanted.on_conflict == "reject":
        whose_key = "of this workflow" if wanted.key is None else f"with the key {wanted.key!r}"
        count = len(state.running)
        reason = f"{count} execution{'s' * (count != 1)} {whose_key} run{'s' * (count == 1)} already, and no more may"
        emit(QueueRefused(n=state.n + 1, requester_id=message.requester_id, reason=reason, **whose))
        return
    cancelled = tuple(state.running)[: 1 + len(state.running) - wanted.limit] if full else ()
    emit(
        QueueEntered(
            n=state.n + 1, requester_id=message.requester_id, limit=wanted.limit, priority=wanted.priority,
            cancelled=cancelled if wanted.on_conflict == "cancel_old" else (), **whose,
        )
    )  # fmt: skip
    _admit(state, emit)


def _admit(state: Queue, emit: Callable[[Any], None]) -> None:
    while state.line and len(state.running) < state.limit:
        emit(QueueAdmitted(n=state.n + 1, requester_id=state.line[0][2]))


def evolve(state: Queue, event: QueueEvent, record: Record) -> None:
    state.n = event.n
    match event:
        case QueueEntered():
            state.workflow_id, state.limit, state.user_id = record.workflow_id, event.limit, event.user_id
            state.organization_id, state.project_id = event.organization_id, event.project_id
            state.waits[event.requester_id] = event.n
            heapq.heappush(state.line, [-event.priority, event.n, event.requester_id])
        case QueueRefused():
            state.workflow_id, state.user_id = record.workflow_id, event.user_id
            state.organization_id, state.project_id = event.organization_id, event.project_id
            _note_left(state, event.requester_id)
        case QueueAdmitted():
            state.waits.pop(event.requester_id, None)
            state.running[event.requester_id] = event.n
        case QueueLeft():
            state.waits.pop(event.requester_id, None)
            state.running.pop(event.requester_id, None)
            _note_left(state, event.requester_id)
    while state.line and state.waits.get(state.line[0][2]) != state.line[0][1]:
        heapq.heappop(state.line)


def _note_left(state: Queue, execution_id: str) -> None:
    state.left.append(execution_id)
    del state.left[:-LEFT_KEPT]


def react(state: Queue, event: QueueEvent, record: Record) -> Iterable[Outgoing]:
    """Facts: said once they are certain."""
    match event:
        case QueueEntered():
            return [_cancellation(state, run, event.requester_id, record) for run in event.cancelled]
        case QueueAdmitted():
            return (_answer(state, event.requester_id, record, admitted=True),)
        case QueueRefused():
            return (_answer(state, event.requester_id, record, admitted=False, reason=event.reason),)
        case _:
            return ()


def _answer(state: Queue, execution_id: str, record: Record, *, admitted: bool, reason: str = "") -> Outgoing:
    message = AdmissionDecided(
        event_id=derive(execution_id, "admission", state.execution_id, admitted),
        occurred_at=record.at,
        execution_id=execution_id,
        workflow_id=state.workflow_id,
        **tenant_of(state),
        queue_id=state.execution_id,
        admitted=admitted,
        reason=reason,
    )
    return Outgoing(Kind.FACT, topics.ADMISSION, execution_id, message)


def _cancellation(state: Queue, run: str, newer: str, record: Record) -> Outgoing:
    reason = f"execution {newer} of the same concurrency key took its place"
    return cancellation(
        state, run, state.workflow_id, record, event_id=derive(run, "cancelled for", newer), reason=reason
    )
