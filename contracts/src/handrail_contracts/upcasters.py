"""How messages of earlier versions become messages of today: one function per message type and version step.

A released upcaster is never edited. `contracts/examples` keeps messages of every version for ever, and a test reads
them all.
"""

from collections.abc import Callable, Mapping
from typing import Any

from handrail_contracts.ids import derive

Raw = dict[str, Any]


def _lifecycle_v1_to_v2(raw: Raw) -> Raw:
    """Version 1 is the lifecycle event of the first platform: no execution, so it gets one that belongs to its content.

    One that names its execution keeps it: the id is the caller's choice.
    """
    run = raw.get("execution_id") or derive(raw.get("workflow_id"), raw.get("user_id"), raw.get("timestamp"))
    upcast = dict(raw, schema_version=2, execution_id=run, occurred_at=raw.get("timestamp"))
    upcast["event_id"] = derive(run, raw.get("event_type"))
    if raw.get("event_type") == "workflow.started":
        upcast["input"] = raw.get("input")
    else:
        upcast["workflow_version"] = 1
    return upcast


UPCASTERS: Mapping[tuple[str, int], Callable[[Raw], Raw]] = {
    ("workflow.started", 1): _lifecycle_v1_to_v2,
    ("workflow.completed", 1): _lifecycle_v1_to_v2,
    ("workflow.failed", 1): _lifecycle_v1_to_v2,
    ("workflow.cancelled", 1): _lifecycle_v1_to_v2,
    ("workflow.timeout", 1): _lifecycle_v1_to_v2,
}


def upcast(raw: Raw) -> Raw:
    """The message in its newest version; unchanged where no step leads on from its version."""
    while True:
        step = UPCASTERS.get((str(raw.get("event_type")), raw.get("schema_version", 1)))
        if step is None:
            return raw
        raw = step(raw)
