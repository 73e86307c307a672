"""Events of the world outside: which workflows they start. Each is written down beside executions, and then forgotten."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from handrail_contracts import topics
from handrail_contracts.envelope import tenant_of, utc
from handrail_contracts.ids import derive
from handrail_contracts.journal import Record
from handrail_contracts.schedule_events import EventMatched
from handrail_contracts.triggers import EventReceived
from handrail_contracts.workflows import WorkflowStarted
from handrail_graph import ExpressionError, TriggerParameters
from handrail_runtime.machine.core import Kind, Outgoing

from handrail_scheduler.definitions import Definitions


@dataclass(slots=True)
class Happening:
    """An event that was received; after what it starts was decided there is nothing left to remember."""

    execution_id: str
    workflow_id: str = ""
    n: int = 0


def decide(
    state: Happening, message: EventReceived, definitions: Definitions, now: float, emit: Callable[[Any], None]
) -> None:
    scope = {"input": message.data, "now": utc(now).isoformat()}
    found = {
        workflow_id: version
        for workflow_id, version, trigger in definitions.started_by_events(message)
        if _is_meant(trigger, message, scope)
    }
    if found:
        emit(
            EventMatched(
                n=state.n + 1,
                event_type=message.type,
                source=message.source,
                data=message.data,
                **tenant_of(message),
                started={workflow_id: derive(message.event_id, workflow_id) for workflow_id in found},
                versions=found,
            )
        )


def _is_meant(trigger: TriggerParameters, message: EventReceived, scope: dict[str, Any]) -> bool:
    """A condition that can't be evaluated on this event does not hold."""
    if trigger.event != message.type or (trigger.source and trigger.source != message.source):
        return False
    try:
        return trigger.condition is None or trigger.condition.evaluate(scope)
    except ExpressionError:
        return False


def react(event: EventMatched, record: Record) -> Iterable[Outgoing]:
    for workflow_id, execution_id in event.started.items():
        message = WorkflowStarted(
            event_id=derive(execution_id, topics.WORKFLOW_STARTED),
            occurred_at=record.at,
            execution_id=execution_id,
            workflow_id=workflow_id,
            workflow_version=event.versions[workflow_id],
            **tenant_of(event),
            input=event.data,
            trigger={"type": "event", "event": event.event_type, "source": event.source},
        )
        yield Outgoing(Kind.FACT, topics.WORKFLOW_STARTED, execution_id, message)
