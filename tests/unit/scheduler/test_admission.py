"""Concurrency limits: who may begin, who waits, who has to go."""

from typing import Any

from handrail_contracts import topics
from handrail_contracts.admission import AdmissionDecided, AdmissionReleased, AdmissionRequested
from handrail_contracts.codec import encode
from handrail_contracts.control import ExecutionControlled
from handrail_contracts.envelope import utc
from handrail_contracts.journal import Fences
from handrail_contracts.steps import AgentExecuted, StepRequested
from handrail_contracts.workflows import WorkflowDefined, WorkflowStarted
from handrail_runtime.machine.partition import Input, PartitionMachine
from handrail_scheduler.core import SchedulerCore
from handrail_scheduler.definitions import Definitions
from unit.stories import BEGAN, Story

HANDED_ON = (AdmissionRequested, AdmissionReleased, AdmissionDecided)


class Crowd(Story):
    """Executions of one workflow with a concurrency limit; what they and their queue say to each other is handed on."""

    def __init__(self, *, tenant_limit: int = 0, **concurrency: Any) -> None:
        definition: dict[str, Any] = {"name": "w", "tasks": [{"agent": "a"}]}
        if concurrency:
            definition["concurrency"] = concurrency
        definitions = Definitions()
        definitions.add(
            WorkflowDefined(
                event_id="w", occurred_at=utc(BEGAN), workflow_id="w", version=1, name="w", definition=definition
            )
        )
        super().__init__(PartitionMachine(SchedulerCore(definitions, tenant_limit), 0, 1, Fences({})))
        self._handed_on = 0

    def start(self, execution_id: str, given: Any = None, priority: int = 0) -> None:
        message = WorkflowStarted(
            event_id=execution_id, occurred_at=utc(self.now), execution_id=execution_id, workflow_id="w", input=given,
            priority=priority,
        )  # fmt: skip
        self._hand_on(topics.WORKFLOW_STARTED, message)

    def finish(self, execution_id: str) -> None:
        request = next(r for r in self.said if isinstance(r, StepRequested) and r.execution_id == execution_id)
        answer = AgentExecuted(
            event_id="x", occurred_at=utc(self.now), execution_id=execution_id, workflow_id="w", step_id=request.step_id,
            run_id=request.run_id, attempt=1, agent="a", status="completed",
        )  # fmt: skip
        self._hand_on(topics.AGENT_EXECUTED, answer)

    def cancel(self, execution_id: str) -> None:
        message = ExecutionControlled(
            event_id=f"cancel {execution_id}", occurred_at=utc(self.now), execution_id=execution_id, workflow_id="w",
            action="cancel",
        )  # fmt: skip
        self._hand_on(topics.EXECUTION_CONTROLLED, message)

    def _hand_on(self, topic: str, message: Any) -> None:
        """Twice, as facts may come."""
        for _ in range(2):
            offset = self.machine.positions[topic]
            self.machine.handle(Input(topic, offset, message.execution_id.encode(), encode(message), ()), self.now)
            self.settle()
        while self._handed_on < len(self.said):
            said = self.said[self._handed_on]
            self._handed_on += 1
            if isinstance(said, HANDED_ON):
                self._hand_on(topics.ADMISSION, said)
            elif isinstance(said, ExecutionControlled):
                self._hand_on(topics.EXECUTION_CONTROLLED, said)

    def begun(self) -> list[str]:
        return [message.execution_id for message in self.said if isinstance(message, StepRequested)]


def test_no_more_begin_than_may_run_and_the_next_when_one_ends() -> None:
    crowd = Crowd(limit=2)
    for name in "abcd":
        crowd.start(name)
    assert crowd.begun() == ["a", "b"]
    crowd.finish("b")
    assert crowd.begun() == ["a", "b", "c"]
    crowd.finish("a")
    assert crowd.begun() == ["a", "b", "c", "d"]


def test_each_key_has_its_own_queue() -> None:
    crowd = Crowd(limit=1, key="{{input.customer}}")
    crowd.start("a", {"customer": 1})
    crowd.start("b", {"customer": 1})
    crowd.start("c", {"customer": 2})
    assert crowd.begun() == ["a", "c"]


def test_the_higher_priority_begins_first() -> None:
    crowd = Crowd(limit=1)
    crowd.start("a")
    for name, priority in (("low", -5), ("normal", 0), ("high", 9), ("normal2", 0)):
        crowd.start(name, priority=priority)
    for name in ("a", "high", "normal", "normal2"):
        crowd.finish(name)
    assert crowd.begun() == ["a", "high", "normal", "normal2", "low"]


def test_one_that_waits_can_be_cancelled_and_takes_no_place() -> None:
    crowd = Crowd(limit=1)
    for name in "abc":
        crowd.start(name)
    crowd.cancel("b")
    crowd.finish("a")
    assert crowd.begun() == ["a", "c"]


def test_the_old_one_goes_when_the_new_one_takes_its_place() -> None:
    crowd = Crowd(limit=1, on_conflict="cancel_old")
    crowd.start("a")
    crowd.start("b")
    assert crowd.begun() == ["a", "b"]
    ended = [event["type"] for event in crowd.events if event["type"].startswith("execution.c")]
    assert ended == ["execution.cancelled"]


def test_or_the_new_one_is_refused_and_told_why() -> None:
    crowd = Crowd(limit=1, key="{{input}}", on_conflict="reject")
    crowd.start("a", "ACME")
    crowd.start("b", "ACME")
    [failed] = [event for event in crowd.events if event["type"] == "execution.failed"]
    assert failed["error"]["code"] == "CONCURRENCY_LIMIT"
    assert failed["error"]["message"] == "1 execution with the key 'ACME' runs already, and no more may"
    crowd.finish("a")
    crowd.start("c", "ACME")
    assert crowd.begun() == ["a", "c"]


def test_a_key_that_is_not_there_is_told() -> None:
    crowd = Crowd(limit=1, key="{{input.customer}}")
    crowd.start("a", {})
    assert "the concurrency key can't be made: input.customer does not exist" in crowd.events[-1]["error"]["message"]


def test_a_tenant_shares_its_places_and_waits_for_them_after_its_workflows_own() -> None:
    crowd = Crowd(tenant_limit=2, limit=1, key="{{input}}")
    for name, key in (("a", 1), ("b", 1), ("c", 2), ("d", 3)):
        crowd.start(name, key)
    assert crowd.begun() == ["a", "c"]
    crowd.finish("a")
    assert crowd.begun() == ["a", "c", "d"], "b was still in its workflow's queue when a place came free"
    crowd.finish("c")
    assert crowd.begun() == ["a", "c", "d", "b"]


def test_a_crowd_that_waits_is_let_in_one_by_one() -> None:
    crowd = Crowd(tenant_limit=1)
    names = [f"n{number}" for number in range(200)]
    for name in names:
        crowd.start(name)
    crowd.cancel("n50")
    for name in names:
        if name != "n50":
            crowd.finish(name)
    assert crowd.begun() == [name for name in names if name != "n50"]
