"""Budgets: reserved before an attempt, settled after it; who waits goes on where it stood once somebody raises them."""

from typing import Any
from uuid import uuid4

import orjson
import pytest
from handrail_contracts import topics
from handrail_contracts.budgets import (
    BudgetAnswered,
    BudgetAsked,
    BudgetRaised,
    BudgetReturned,
    BudgetSet,
    Limits,
    budget_id,
)
from handrail_contracts.codec import encode
from handrail_contracts.control import ExecutionControlled
from handrail_contracts.envelope import ErrorInfo, utc
from handrail_contracts.journal import Fences
from handrail_contracts.steps import AgentAdvanced, AgentExecuted, ModelCall, StepRequested, ToolAsked
from handrail_contracts.workflows import WorkflowDefined, WorkflowStarted
from handrail_runtime.machine.core import Instead, Kind, Missing
from handrail_runtime.machine.partition import Input, PartitionMachine
from handrail_scheduler.core import SchedulerCore
from handrail_scheduler.definitions import Definitions
from handrail_scheduler.liveness import stuck
from handrail_scheduler.state import Status
from unit.stories import BEGAN, Story

HANDED_ON = (BudgetAsked, BudgetAnswered, BudgetReturned)
SPENT = ErrorInfo(code="BUDGET_SPENT", message="used up")
BROKEN = ErrorInfo(code="AGENT_ERROR", message="it broke", retryable=True)


class Spending(Story):
    """Executions of a workflow of one agent's step, and budgets; what they say to each other is handed on, twice."""

    def __init__(self, budget: Any = None, **step: Any) -> None:
        steps = [{"step_id": "a", "step_type": "agent_execution", "parameters": {"agent_id": "writer"}, **step}]
        definition = {"name": "w", "steps": steps, **({} if budget is None else {"budget": budget})}
        self.definitions = Definitions()
        self.definitions.add(
            WorkflowDefined(
                event_id="w", occurred_at=utc(BEGAN), workflow_id="w", version=1, name="w", definition=definition
            )
        )
        super().__init__(PartitionMachine(SchedulerCore(self.definitions), 0, 1, Fences({})))
        self._handed_on = 0

    def set(self, scope: Any, name: str = "", period: Any = "total", **limits: Any) -> str:
        identifier = budget_id(scope, name, "", "")
        message = BudgetSet(
            event_id=str(uuid4()), occurred_at=utc(self.now), budget_id=identifier, scope=scope, name=name,
            limits=Limits(**limits), period=period,
        )  # fmt: skip
        self.definitions.add(message)
        raised = BudgetRaised(
            event_id=str(uuid4()), occurred_at=utc(self.now), execution_id=identifier, workflow_id=scope
        )
        self._hand_on(topics.ADMISSION, raised)
        return identifier

    def start(self, execution_id: str) -> None:
        message = WorkflowStarted(
            event_id=execution_id, occurred_at=utc(self.now), execution_id=execution_id, workflow_id="w"
        )
        self._hand_on(topics.WORKFLOW_STARTED, message)

    def requests(self, execution_id: str) -> list[StepRequested]:
        return [m for m in self.said if isinstance(m, StepRequested) and m.execution_id == execution_id]

    def answer(self, execution_id: str, *, error: ErrorInfo | None = None, tokens: int = 0, calls: int = 1) -> None:
        request = self.requests(execution_id)[-1]
        used = tuple(ModelCall(model="m", input_tokens=tokens // calls, seconds=1) for _ in range(calls))
        message = AgentExecuted(
            event_id=str(uuid4()), occurred_at=utc(self.now), execution_id=execution_id, workflow_id="w", step_id="a",
            run_id=request.run_id, attempt=request.attempt, agent="writer", status="failed" if error else "completed",
            output=None if error else "done", error=error, model_calls=used,
        )  # fmt: skip
        self._hand_on(topics.AGENT_EXECUTED, message)

    def advance(self, request: StepRequested, call_id: str) -> None:
        message = AgentAdvanced(
            event_id=str(uuid4()), occurred_at=utc(self.now), execution_id=request.execution_id, workflow_id="w",
            step_id="a", run_id=request.run_id, attempt=request.attempt, agent="writer", turn=0, holder="h",
            said={}, asked=(ToolAsked(call_id=call_id, tool="t", repeatable=False),),
        )  # fmt: skip
        self._hand_on(topics.AGENT_EXECUTED, message)

    def cancel(self, execution_id: str) -> None:
        self.control(execution_id, "cancel")

    def control(self, execution_id: str, action: Any, **fields: Any) -> None:
        message = ExecutionControlled(
            event_id=str(uuid4()),
            occurred_at=utc(self.now),
            execution_id=execution_id,
            workflow_id="w",
            action=action,
            **fields,
        )
        self._hand_on(topics.EXECUTION_CONTROLLED, message)

    def pass_time(self, seconds: float) -> None:
        self.wait(seconds)
        self._hand_on_rest()

    def _hand_on(self, topic: str, message: Any) -> None:
        for _ in range(2):
            self._input(topic, message)
        self._hand_on_rest()

    def _hand_on_rest(self) -> None:
        while self._handed_on < len(self.said):
            message = self.said[self._handed_on]
            self._handed_on += 1
            if isinstance(message, HANDED_ON):
                for _ in range(2):
                    self._input(topics.ADMISSION, message)

    def _input(self, topic: str, message: Any) -> None:
        key = message.execution_id.encode()
        offset = self.machine.positions[topic]
        given = Input(topic, offset, key, encode(message), ())
        try:
            self.machine.handle(given, self.now)
        except Missing:
            self.machine.handle(given, self.now, Instead.MISSING)
        self.settle()

    def status(self, execution_id: str) -> str:
        told = [event for record in self.journal for event in _events(record, execution_id)]
        return str(told[-1]["type"])


def _events(record: Any, execution_id: str) -> list[Any]:
    value = record["value"]
    return list(value.get("events", ())) if value.get("execution_id") == execution_id else []


def test_after_a_rewind_an_attempt_that_was_forgiven_before_is_not_forgiven_again() -> None:
    story = Spending(retry={"max_attempts": 2, "backoff_seconds": 1})
    story.set("agent", "writer", tokens=100_000)
    story.start("one")
    story.answer("one", error=SPENT, tokens=10_000)
    story.control("one", "rewind", step_id="a")
    story.answer("one", error=BROKEN)
    story.pass_time(60)
    story.answer("one", error=BROKEN)
    assert story.status("one") == "execution.failed"


def test_what_a_crash_has_repeated_counts_once() -> None:
    story = Spending()
    name = story.set("agent", "writer", tokens=100_000)
    story.start("one")
    story.answer("one", tokens=4_000)
    for message in [message for message in story.said if isinstance(message, BudgetAsked | BudgetReturned)]:
        story._input(topics.ADMISSION, message)
    state = story.machine.core.unpack(story.machine.states[name])
    assert (state.spent["tokens"], state.open) == (4_000, {})


def test_a_fold_asks_nobody_to_begin_what_has_ended() -> None:
    story = Spending()
    story.set("agent", "writer", tokens=100_000)
    story.start("one")
    story.answer("one", tokens=4_000)
    fresh: PartitionMachine[Any] = PartitionMachine(SchedulerCore(story.definitions), 0, 1, Fences({}))
    for offset, entry in enumerate(story.journal):
        headers = [(name, text.encode()) for name, text in entry["headers"]]
        fresh.fold(offset, headers, orjson.dumps(entry["value"]))
    assert not [told for told in fresh.undelivered() if told.kind is Kind.REQUEST]


def test_a_limit_beyond_all_counting_can_be_kept() -> None:
    story = Spending()
    name = story.set("agent", "writer", tokens=10**30)
    story.start("one")
    state = story.machine.states[name]
    assert story.machine.core.unpack(story.machine.core.pack(state)) == state


def test_raised_in_a_pause_nothing_begins_before_it_is_over() -> None:
    story = Spending()
    story.set("agent", "writer", tokens=10)
    story.start("one")
    story.answer("one", tokens=20)
    story.start("two")
    story.control("two", "pause")
    name = story.set("agent", "writer", tokens=1000)
    assert not story.requests("two")
    assert not story.machine.core.unpack(story.machine.states[name]).open
    story.control("two", "resume")
    assert len(story.requests("two")) == 1
    story.answer("two", error=BROKEN)
    assert story.status("two") == "execution.failed", "its only attempt"


def test_without_budgets_nobody_is_asked() -> None:
    story = Spending()
    story.start("one")
    assert len(story.requests("one")) == 1
    assert story.requests("one")[0].allowance is None


def test_an_attempt_gets_a_part_and_what_it_used_counts() -> None:
    story = Spending()
    story.set("agent", "writer", tokens=100_000)
    story.start("one")
    [request] = story.requests("one")
    assert request.allowance == Limits(tokens=10_000)
    story.answer("one", tokens=4_000)
    assert story.status("one") == "execution.completed"
    [settled] = [event for event in story.events if event["type"] == "budget.settled"]
    assert (settled["used"]["tokens"], settled["used"]["calls"]) == (4_000, 1)


def test_all_its_budgets_are_asked_the_narrowest_first_and_the_least_counts() -> None:
    story = Spending(budget={"calls": 30})
    story.set("tenant", cost_usd=5)
    story.set("workflow", "w", tokens=50_000, calls=20)
    story.start("one")
    asked = [m.scope for m in story.said if isinstance(m, BudgetAsked)]
    assert asked == ["execution", "workflow", "tenant"]
    assert story.requests("one")[0].allowance == Limits(tokens=5_000, calls=2, cost_usd=0.5)


def test_spent_it_waits_with_a_named_blocker_until_somebody_raises_it_and_goes_on_where_it_stood() -> None:
    story = Spending()
    story.set("agent", "writer", tokens=1_000)
    story.start("one")
    story.answer("one", error=SPENT, tokens=1_200)
    [waits] = [event for event in story.events if event["type"] == "budget.awaited"]
    assert waits["reason"] == "the budget of agent writer is spent: 1200 of 1000 tokens are used"
    state = _state(story, "one")
    assert (stuck(state), state.status) == (None, Status.WAITING)
    story.set("agent", "writer", tokens=5_000)
    first, second = story.requests("one")
    assert (second.run_id, second.attempt) == (first.run_id, 2)
    assert second.allowance == Limits(tokens=1_000)
    story.answer("one", tokens=10)
    assert story.status("one") == "execution.completed"


def test_an_attempt_that_has_used_its_part_gets_the_next_one_and_none_of_them_failed() -> None:
    story = Spending(retry={"max_attempts": 2, "backoff_seconds": 1})
    story.set("agent", "writer", tokens=100_000)
    story.start("one")
    for _ in range(3):
        story.answer("one", error=SPENT, tokens=10_000)
    assert len(story.requests("one")) == 4
    story.answer("one", error=BROKEN)
    assert story.status("one") == "step.retry_scheduled"
    story.pass_time(10)
    assert len(story.requests("one")) == 5
    story.answer("one", error=BROKEN)
    assert story.status("one") == "execution.failed"


def test_what_others_have_reserved_is_not_there_and_comes_back_in_order() -> None:
    story = Spending()
    story.set("tenant", calls=2)
    for name in ("one", "two", "three", "four"):
        story.start(name)
    assert [len(story.requests(name)) for name in ("one", "two", "three", "four")] == [1, 1, 0, 0]
    [reason, _] = [event["reason"] for event in story.events if event["type"] == "budget.awaited"]
    assert reason.endswith("0 of 2 model calls are used, and the rest is reserved for 2 attempts")
    story.cancel("two")
    assert len(story.requests("three")) == 1
    assert not story.requests("four")
    story.cancel("three")
    assert len(story.requests("four")) == 1


def test_one_that_waits_and_is_cancelled_waits_no_more() -> None:
    story = Spending()
    story.set("tenant", calls=1)
    story.start("one")
    story.start("two")
    story.cancel("two")
    story.answer("one")
    story.set("tenant", calls=5)
    assert not story.requests("two")
    budget = _state(story, budget_id("tenant", "", "", ""))
    assert (budget.open, budget.waits, budget.spent["calls"]) == ({}, {}, 1)


@pytest.mark.parametrize(("period", "seconds"), [("day", 86_400), ("month", 32 * 86_400)])
def test_a_new_day_or_month_begins_with_nothing_used(period: str, seconds: float) -> None:
    story = Spending()
    story.set("tenant", period=period, tokens=1_000)
    story.start("one")
    story.answer("one", tokens=2_000)
    story.start("two")
    assert not story.requests("two")
    for _ in range(12):
        story.pass_time(seconds / 10)
    assert len(story.requests("two")) == 1


def test_a_question_that_is_repeated_after_the_end_gets_nothing_and_counts_nothing() -> None:
    story = Spending()
    identifier = story.set("tenant", calls=5)
    story.start("one")
    story.answer("one", tokens=10)
    for message in [message for message in story.said if isinstance(message, BudgetAsked | BudgetReturned)]:
        story._input(topics.ADMISSION, message)
    budget = _state(story, identifier)
    assert (budget.open, budget.spent["calls"], budget.spent["tokens"]) == ({}, 1, 10)


def test_after_a_rewind_a_step_is_tried_as_often_as_before() -> None:
    story = Spending(retry={"max_attempts": 2, "backoff_seconds": 1})
    story.set("agent", "writer", tokens=100_000)
    story.start("one")
    story.answer("one", error=SPENT, tokens=10)
    story.control("one", "rewind", step_id="a")
    story.answer("one", error=BROKEN)
    story.pass_time(10)
    story.answer("one", error=BROKEN)
    assert story.status("one") == "execution.failed"


def test_what_an_attempt_still_tells_is_kept_while_the_next_one_waits_for_its_budget() -> None:
    story = Spending(retry={"max_attempts": 2, "backoff_seconds": 0}, timeout_seconds=5)
    story.set("agent", "writer", calls=1)
    story.start("one")
    story.start("two")
    request = story.requests("one")[0]
    story.pass_time(6)
    story.advance(request, "c1")
    assert len(story.requests("one")) == 1
    story.set("agent", "writer", calls=50)
    [turn] = story.requests("one")[-1].turns
    assert turn.asked[0].call_id == "c1"


def test_an_executions_own_budget_is_raised_for_it_alone() -> None:
    story = Spending(budget={"calls": 1})
    story.start("one")
    story.start("two")
    story.answer("one", error=SPENT)
    story.answer("two", error=SPENT)
    story.set("execution", "one", calls=10)
    assert [len(story.requests(name)) for name in ("one", "two")] == [2, 1]


def test_what_it_knows_survives_being_packed() -> None:
    story = Spending()
    identifier = story.set("tenant", calls=1)
    story.start("one")
    story.start("two")
    core = story.machine.core
    for name in (identifier, "one", "two"):
        state = _state(story, name)
        assert core.unpack(core.pack(state)) == state


def _state(story: Spending, name: str) -> Any:
    found = story.machine.states[name]
    return story.machine.core.unpack(found) if isinstance(found, bytes) else found
