"""A recorded execution gone through again: event by event as it was, or under another version with its recorded answers.

Nothing here talks to anybody: agents, tools, gates and timers give what the recording says that they gave.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from handrail_contracts.codec import decode, encode
from handrail_contracts.envelope import ErrorInfo, utc
from handrail_contracts.execution_events import ExecutionRecord, ExecutionStarted
from handrail_contracts.ids import derive
from handrail_contracts.journal import Fences
from handrail_contracts.steps import AgentExecuted, StepRequested
from handrail_contracts.topics import AGENT_EXECUTED, EXECUTION_EVENTS, WORKFLOW_STARTED
from handrail_contracts.workflows import Origin, WorkflowDefined, WorkflowStarted
from handrail_runtime.machine.partition import Input, PartitionMachine

from handrail_scheduler.core import SchedulerCore
from handrail_scheduler.definitions import Definitions
from handrail_scheduler.state import Execution

FORMAT = "handrail-execution/1"
REMOTE = ("agent", "approval", "timer", "signal", "workflow", "person")


class NotARecording(Exception):
    """The file is no export of an execution."""


@dataclass(slots=True)
class Recording:
    execution_id: str
    workflow_id: str
    definitions: Definitions
    records: list[ExecutionRecord]

    @staticmethod
    def read(raw: Mapping[str, Any]) -> "Recording":
        """An export of the gateway. Raises `NotARecording`."""
        if raw.get("format") != FORMAT:
            raise NotARecording(f"it is no export of an execution ({FORMAT})")
        definitions = Definitions()
        for version, document in raw["definitions"].items():
            definitions.add(_defined(raw["workflow_id"], int(version), document))
        records = [
            ExecutionRecord.model_validate(
                {
                    "at": r["at"],
                    "execution_id": raw["execution_id"],
                    "workflow_id": raw["workflow_id"],
                    "events": r["events"],
                }
            )
            for r in raw["records"]
        ]
        return Recording(raw["execution_id"], raw["workflow_id"], definitions, records)

    def replay(self) -> Iterator[tuple[ExecutionRecord, Any, Execution]]:
        """Each event with its record and the state after it; the state is the same object all along."""
        core, state = SchedulerCore(self.definitions), Execution(self.execution_id)
        for record in self.records:
            for event in record.events:
                core.evolve(state, event, record)
                yield record, event, state

    @property
    def beginning(self) -> ExecutionStarted | None:
        first = self.records[0].events[0] if self.records else None
        return first if isinstance(first, ExecutionStarted) else None


def _defined(workflow_id: str, version: int, document: dict[str, Any]) -> WorkflowDefined:
    return WorkflowDefined(
        event_id=f"{workflow_id}@{version}", occurred_at=utc(0), workflow_id=workflow_id, version=version,
        name=str(document.get("name", "")), definition=document,
    )  # fmt: skip


@dataclass(slots=True)
class Course:
    """What an execution did: the steps that began with their inputs, how they and it ended."""

    begun: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, ErrorInfo] = field(default_factory=dict)
    calls: int = 0
    seconds: float = 0.0
    end: str = "open"
    result: Any = None

    def take(self, record: ExecutionRecord) -> None:
        for event in record.events:
            match event.type:
                case "step.started":
                    self.begun.setdefault(event.step_id, event.input)
                    self.calls += event.waits_for == "agent"
                case "step.completed":
                    self.outputs[event.step_id] = event.output
                case "step.failed":
                    self.errors[event.step_id] = event.error
                case "execution.completed":
                    self.end, self.result = "completed", event.result
                case "execution.failed" | "execution.cancelled" | "execution.timed_out":
                    self.end = event.type.removeprefix("execution.")


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where the other version first does something else, and what that means for the whole."""

    execution_id: str
    step_id: str | None
    what: str | None
    steps: int
    calls: int
    end: tuple[str, str]

    @property
    def same(self) -> bool:
        return self.what is None


def shadow(recording: Recording, document: dict[str, Any]) -> Divergence:
    """Runs the recorded input through another definition; what a step gave is what it gave in the recording."""
    before = Course()
    for record in recording.records:
        before.take(record)
    after = _run(recording, before, document)
    step_id, what = _first_difference(before, after)
    return Divergence(
        recording.execution_id, step_id, what, len(after.begun) - len(before.begun), after.calls - before.calls,
        (before.end, after.end),
    )  # fmt: skip


def _run(recording: Recording, before: Course, document: dict[str, Any]) -> Course:
    began = recording.beginning
    assert began is not None
    definitions = Definitions()
    definitions.add(_defined(recording.workflow_id, 1, document))
    machine: PartitionMachine[Any] = PartitionMachine(SchedulerCore(definitions), 0, 1, Fences({}))
    machine.fold(0, *machine.claim("shadow"))
    machine.claimed(0)
    remote = {
        e.step_id for r in recording.records for e in r.events if e.type == "step.started" and e.waits_for in REMOTE
    }
    stubs = {step_id: output for step_id, output in before.outputs.items() if step_id in remote}
    now = recording.records[0].at.timestamp()
    message = WorkflowStarted(
        event_id=recording.execution_id, occurred_at=utc(now), execution_id=recording.execution_id,
        workflow_id=recording.workflow_id, workflow_version=1, input=began.input, context=began.context,
        origin=Origin(execution_id=recording.execution_id, stubs=stubs),
    )  # fmt: skip
    machine.handle(Input(WORKFLOW_STARTED, 0, None, encode(message), ()), now)
    course, asked = Course(), 0
    while requests := _settle(machine, course):
        for request in requests:
            error = before.errors.get(request.step_id)
            if error is not None:
                answer = _failed(request, error, now)
                machine.handle(Input(AGENT_EXECUTED, asked, None, encode(answer), ()), now)
                asked += 1
    course.calls = sum(step_id in remote_calls(recording) for step_id in course.begun) + _unknown(course, before)
    return course


def remote_calls(recording: Recording) -> set[str]:
    """The steps that asked an agent or a tool."""
    return {
        e.step_id for r in recording.records for e in r.events if e.type == "step.started" and e.waits_for == "agent"
    }


def _unknown(course: Course, before: Course) -> int:
    """Steps that the recording knows nothing of, and that ask somebody."""
    return sum(step_id not in before.begun and step_id not in course.outputs for step_id in course.begun)


def _settle(machine: PartitionMachine[Any], course: Course) -> list[StepRequested]:
    requests: list[StepRequested] = []
    for append in machine.take_appends():
        course.take(decode(EXECUTION_EVENTS, append.value))
        requests += [c.message for c in machine.acknowledged(append.seq) if isinstance(c.message, StepRequested)]
        machine.read_back(append.seq + 1, append.headers)
    return requests


def _failed(request: StepRequested, error: ErrorInfo, now: float) -> AgentExecuted:
    return AgentExecuted(
        event_id=derive(request.event_id, "recorded"), occurred_at=utc(now), execution_id=request.execution_id,
        workflow_id=request.workflow_id, step_id=request.step_id, run_id=request.run_id, attempt=request.attempt,
        agent=request.agent, status="failed", error=error.model_copy(update={"retryable": False}),
    )  # fmt: skip


def _first_difference(before: Course, after: Course) -> tuple[str | None, str | None]:
    for step_id, given in after.begun.items():
        if step_id not in before.begun:
            return step_id, "begins, and did not before"
        if given != before.begun[step_id]:
            return step_id, "begins with another input"
    for step_id in before.begun:
        if step_id not in after.begun:
            return step_id, "no longer begins"
    for step_id, output in before.outputs.items():
        if after.outputs.get(step_id) != output:
            return step_id, "gives another output"
    if before.end != after.end:
        return None, f"it ends as {after.end} instead of {before.end}"
    if before.result != after.result:
        return None, "its result is another one"
    return None, None
