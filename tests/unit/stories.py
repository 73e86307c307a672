"""Given, when, then for the pure cores: messages go in, events and messages come out, time is what the story says."""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson
from handrail_approvals.core import ApprovalsCore
from handrail_contracts import topics
from handrail_contracts.codec import encode
from handrail_contracts.control import ExecutionControlled
from handrail_contracts.envelope import ErrorInfo, utc
from handrail_contracts.journal import COMMAND_HEADER, Fences
from handrail_contracts.steps import AgentExecuted, StepRequested
from handrail_contracts.workflows import WorkflowDefined, WorkflowStarted
from handrail_runtime.machine.partition import Input, PartitionMachine, Rejected
from handrail_scheduler.core import SchedulerCore
from handrail_scheduler.definitions import Definitions

BEGAN = 1_800_000_000.0
EXECUTION = str(uuid4())


@dataclass
class Story:
    """One partition of a service that owns it, and everything it said so far."""

    machine: PartitionMachine[Any]
    now: float = BEGAN
    events: list[dict[str, Any]] = field(default_factory=list)
    said: list[Any] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    journal: list[dict[str, Any]] = field(default_factory=list)
    """Every record, the claim first: headers and value."""

    def __post_init__(self) -> None:
        headers, value = self.machine.claim("story")
        self.machine.fold(0, headers, value)
        assert self.machine.claimed(0)
        self._keep(headers, value)

    def _keep(self, headers: Any, value: bytes) -> None:
        said = [[name, text.decode()] for name, text in headers]
        self.journal.append({"headers": said, "value": orjson.loads(value)})

    def put(self, topic: str, message: Any, headers: Any = ()) -> list[str]:
        """The types of the events that the message led to."""
        offset = self.machine.positions[topic]
        self.machine.handle(Input(topic, offset, EXECUTION.encode(), encode(message), tuple(headers)), self.now)
        return self.settle()

    def wait(self, seconds: float) -> list[str]:
        self.now += seconds
        self.machine.fire_timers(self.now)
        return self.settle()

    def settle(self) -> list[str]:
        new: list[dict[str, Any]] = []
        for append in self.machine.take_appends():
            new += orjson.loads(append.value).get("events", [])
            self.said += [command.message for command in self.machine.acknowledged(append.seq)]
            self.said += [fact.message for fact in self.machine.read_back(len(self.journal), append.headers)]
            self._keep(append.headers, append.value)
        self.rejected += self.machine.take_set_aside()[0]
        self.events += new
        return [event["type"] for event in new]


class Workflow(Story):
    """An execution of one workflow, started with this input."""

    def __init__(
        self, *steps: dict[str, Any], input: Any = None, parent: Any = None, origin: Any = None, **document: Any
    ) -> None:
        self.definitions, self.versions = Definitions(), 0
        self.workflow = self.define(*steps, **document).model_dump(mode="json")
        super().__init__(PartitionMachine(SchedulerCore(self.definitions), 0, 1, Fences({})))
        started = WorkflowStarted(
            event_id=EXECUTION,
            occurred_at=utc(BEGAN),
            execution_id=EXECUTION,
            workflow_id="w",
            input=input,
            parent=parent,
            origin=origin,
        )
        self.put(topics.WORKFLOW_STARTED, started)

    def define(self, *steps: dict[str, Any], **document: Any) -> WorkflowDefined:
        """The next version of the workflow."""
        self.versions += 1
        definition = {"name": "w", **({"steps": list(steps)} if steps else {}), **document}
        defined = WorkflowDefined(
            event_id=f"w@{self.versions}",
            occurred_at=utc(BEGAN),
            workflow_id="w",
            version=self.versions,
            name="w",
            definition=definition,
        )
        self.definitions.add(defined)
        return defined

    def requests(self) -> list[StepRequested]:
        return [message for message in self.said if isinstance(message, StepRequested)]

    def answer(self, step: str, output: Any = None, *, error: ErrorInfo | None = None, attempt: int = 0) -> list[str]:
        """For the latest attempt of the step, unless told otherwise."""
        request = [request for request in self.requests() if request.step_id == step][-1]
        message = AgentExecuted(
            event_id=str(uuid4()), occurred_at=utc(self.now), execution_id=EXECUTION, workflow_id="w", step_id=step,
            run_id=request.run_id, attempt=attempt or request.attempt, agent=request.agent,
            status="failed" if error else "completed", output=output, error=error,
        )  # fmt: skip
        return self.put(topics.AGENT_EXECUTED, message)

    def control(self, action: Any, **fields: Any) -> list[str]:
        message = ExecutionControlled(
            event_id=str(uuid4()),
            occurred_at=utc(self.now),
            execution_id=EXECUTION,
            workflow_id="w",
            action=action,
            **fields,
        )
        return self.put(topics.EXECUTION_CONTROLLED, message)

    def cancel(self) -> list[str]:
        return self.control("cancel")

    def begun(self) -> list[str]:
        """Steps in the order in which they began."""
        return [event["step_id"] for event in self.events if event["type"] == "step.started"]


class Gatekeeper(Story):
    """The approvals service before any gate."""

    def __init__(self) -> None:
        super().__init__(PartitionMachine(ApprovalsCore(), 0, 1, Fences({})))

    def command(self, topic: str, message: Any) -> list[str]:
        return self.put(topic, message, [(COMMAND_HEADER, b"scheduler/0/0")])


def agent(step_id: str, *following: str, **options: Any) -> dict[str, Any]:
    return {
        "step_id": step_id,
        "step_type": "agent_execution",
        "parameters": {"agent_id": "a", **options.pop("parameters", {})},
        "next_steps": list(following),
        **options,
    }
