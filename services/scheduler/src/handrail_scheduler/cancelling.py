"""How one state has another execution cancelled: a child, the run before, the older of a key."""

from typing import Any

from handrail_contracts import topics
from handrail_contracts.control import ExecutionControlled
from handrail_contracts.envelope import tenant_of
from handrail_contracts.journal import Record
from handrail_runtime.machine.core import Kind, Outgoing


def cancellation(
    state: Any, execution_id: str, workflow_id: str, record: Record, *, event_id: str, reason: str, parent_id: str = ""
) -> Outgoing:
    """On behalf of the state's tenant. With `parent_id` it counts even before the execution has begun."""
    message = ExecutionControlled(
        event_id=event_id,
        occurred_at=record.at,
        execution_id=execution_id,
        workflow_id=workflow_id,
        **tenant_of(state),
        action="cancel",
        reason=reason,
        parent_id=parent_id,
    )
    return Outgoing(Kind.FACT, topics.EXECUTION_CONTROLLED, execution_id, message)
