"""Puts the scheduler together."""

import asyncio

from handrail_contracts import topics
from handrail_contracts.envelope import Message
from handrail_contracts.workflows import WorkflowCompleted, WorkflowStarted
from handrail_runtime.machine.shell import Observer, Shell
from handrail_runtime.service import Health
from handrail_runtime.settings import Settings
from handrail_runtime.tables import TopicTable
from handrail_runtime.telemetry import WORKFLOW_ACTIVE, WORKFLOW_DURATION, WORKFLOW_EXECUTIONS, WORKFLOW_STARTS

from handrail_scheduler.core import SchedulerCore
from handrail_scheduler.definitions import Definitions

PORT = 8001


class Metrics(Observer):
    def fact(self, message: Message) -> None:
        if isinstance(message, WorkflowStarted):
            WORKFLOW_STARTS.labels(message.trigger.get("type", "api")).inc()
        if not isinstance(message, WorkflowCompleted):
            return
        WORKFLOW_EXECUTIONS.labels(message.event_type.removeprefix("workflow.")).inc()
        WORKFLOW_DURATION.observe(message.metadata.duration_seconds or 0.0)

    def gauge(self, live: dict[int, int]) -> None:
        WORKFLOW_ACTIVE.clear()
        for partition, count in live.items():
            WORKFLOW_ACTIVE.labels(partition).set(count)


async def main(settings: Settings, health: Health, stop: asyncio.Event) -> None:
    definitions = Definitions()
    table = TopicTable(settings, topics.WORKFLOW_DEFINED, definitions.add)
    try:
        await Shell(SchedulerCore(definitions, settings.tenant_concurrency), settings, health, table, Metrics()).run(
            stop
        )
    finally:
        await table.close()
