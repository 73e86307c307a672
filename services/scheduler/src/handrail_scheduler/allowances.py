"""What an execution's steps ask of budgets, what they were allowed, and what they give back when their attempt ends."""

from collections.abc import Iterable
from typing import Any

from handrail_contracts import topics
from handrail_contracts.budgets import DIMENSIONS, BudgetAnswered, BudgetAsked, BudgetReturned, Limits, Used
from handrail_contracts.envelope import ErrorInfo, tenant_of
from handrail_contracts.execution_events import (
    BudgetAwaited,
    BudgetGranted,
    ModelsCalled,
    StepRetryScheduled,
    StepStarted,
)
from handrail_contracts.ids import derive
from handrail_contracts.journal import Record
from handrail_contracts.steps import AgentExecuted
from handrail_runtime.machine.core import Kind, Outgoing

from handrail_scheduler.decision import Decision
from handrail_scheduler.state import Execution, Status, Step, StepStatus


def answered(decision: Decision, message: BudgetAnswered) -> bool:
    """Whether it was what the step waits for."""
    state, step_id = decision.state, message.step_id
    step, own = decision.running(step_id, message.attempt), state.allowances.get(step_id)
    if step is None or own is None or step.waits_for not in ("budget", "raise") or message.run_id != own["run_id"]:
        return False
    if not own["asks"] or own["asks"][0]["budget_id"] != message.budget_id:
        return False
    told = {"step_id": step_id, "attempt": message.attempt, "budget_id": message.budget_id}
    if message.allowance is None and message.reason == own.get("reason"):
        return False
    if message.allowance is None:
        decision.say(BudgetAwaited, **told, reason=message.reason)
    elif state.status is Status.PAUSED:
        why = ErrorInfo(code="BUDGET_SPENT", message="nothing begins in a pause; the budget is asked again after it")
        now = decision.at(0)
        decision.say(StepRetryScheduled, step_id=step_id, attempt=message.attempt, error=why, retry_at=now)
    else:
        timeout = decision.graph.nodes[step_id].timeout_seconds
        deadline = None if timeout is None or len(own["asks"]) > 1 else decision.at(timeout)
        decision.say(BudgetGranted, **told, allowance=message.allowance, deadline=deadline)
    return True


def is_spent(state: Execution, message: AgentExecuted) -> bool:
    """Whether the attempt has stopped where it had used up what it was allowed, and may ask for more."""
    return message.error is not None and message.error.code == "BUDGET_SPENT" and message.step_id in state.allowances


def asks(state: Execution, event: StepStarted) -> None:
    state.allowances[event.step_id] = {
        "run_id": event.run_id, "attempt": event.attempt, "granted": {}, "used": {}, "since": None,
        "asks": [budget.model_dump() for budget in event.budgets],
    }  # fmt: skip


def awaits(state: Execution, event: BudgetAwaited) -> None:
    """From here on only people and time can move the step."""
    state.allowances[event.step_id]["reason"] = event.reason
    step = state.steps[event.step_id]
    if step.waits_for == "budget":
        step.waits_for = "raise"
        state.working -= 1
        state.idle += 1


def granted(state: Execution, event: BudgetGranted, record: Record) -> None:
    """After the last one the attempt begins."""
    own, step = state.allowances[event.step_id], state.steps[event.step_id]
    own["granted"][event.budget_id] = event.allowance.model_dump(exclude_none=True)
    del own["asks"][0]
    if step.waits_for == "raise":
        step.waits_for = "budget"
        state.idle -= 1
        state.working += 1
    if not own["asks"]:
        own["since"] = record.at.timestamp()
        step.waits_for, step.deadline = "agent", None if event.deadline is None else event.deadline.timestamp()


def before(state: Execution, event: Any, record: Record) -> None:
    """Notes what models were asked, and of attempts that the event ends, what goes back to their budgets."""
    if isinstance(event, ModelsCalled) and (own := state.allowances.get(event.step_id)) is not None:
        used = own["used"]
        for call in event.calls:
            used["tokens"] = used.get("tokens", 0) + call.input_tokens + call.output_tokens
            used["cost_usd"] = used.get("cost_usd", 0) + (call.cost_usd or 0)
            used["calls"] = used.get("calls", 0) + 1
    for step_id in _ended_by(event):
        if step_id in state.allowances:
            _give_back(state, step_id, record, again=_begins_again(state.steps.get(step_id), event))


def _ended_by(event: Any) -> tuple[str, ...]:
    match event.type:
        case "steps.cancelled":
            return tuple(event.step_ids)
        case "step.started" | "step.completed" | "step.failed" | "step.retry_scheduled":
            return (event.step_id,)
        case "suggestion.made" | "suggestion.approved" | "suggestion.refused":
            return (event.step_id,)
        case _:
            return ()


def _begins_again(step: Step | None, event: Any) -> bool:
    """Whether it has used up what it was allowed while it ran, or was put off in a pause: it is none that failed."""
    if event.type == "step.retry_scheduled":
        return bool(event.error.code == "BUDGET_SPENT")
    runs = step is not None and step.status is StepStatus.RUNNING and step.waits_for == "agent"
    return runs and event.type == "step.started"


def _give_back(state: Execution, step_id: str, record: Record, *, again: bool) -> None:
    own = state.allowances.pop(step_id)
    if own["since"] is not None:
        own["used"]["seconds"] = max(0.0, record.at.timestamp() - own["since"])
    if again:
        state.forgiven[step_id] = state.forgiven.get(step_id, 0) + 1
    waiting = [own["asks"][0]["budget_id"]] if own["asks"] else []
    state.returned += [
        {"budget_id": budget, "run_id": own["run_id"], "attempt": own["attempt"], "used": own["used"]}
        for budget in (*own["granted"], *waiting)
    ]


def allowance_of(state: Execution, step_id: str) -> Limits | None:
    """The least that any of its budgets allows; none if it was not asked of any."""
    own = state.allowances.get(step_id)
    if own is None:
        return None
    given = list(own["granted"].values())
    least = {name: min((limits[name] for limits in given if name in limits), default=None) for name in DIMENSIONS}
    return Limits.model_validate(least)


def asked(state: Execution, step_id: str, record: Record) -> Outgoing:
    """The question to the next budget."""
    own = state.allowances[step_id]
    budget = own["asks"][0]
    message = BudgetAsked(
        event_id=derive(own["run_id"], own["attempt"], "asks", budget["budget_id"]),
        occurred_at=record.at,
        execution_id=budget["budget_id"],
        workflow_id=state.workflow_id,
        **tenant_of(state),
        requester_id=state.execution_id,
        step_id=step_id,
        run_id=own["run_id"],
        attempt=own["attempt"],
        scope=budget["scope"],
        name=budget["name"],
        limits=budget["limits"],
    )
    return Outgoing(Kind.FACT, topics.ADMISSION, budget["budget_id"], message)


def given_back(state: Execution, record: Record) -> Iterable[Outgoing]:
    for entry in state.returned:
        message = BudgetReturned(
            event_id=derive(entry["run_id"], entry["attempt"], "returns", entry["budget_id"]),
            occurred_at=record.at,
            execution_id=entry["budget_id"],
            workflow_id=state.workflow_id,
            **tenant_of(state),
            requester_id=state.execution_id,
            run_id=entry["run_id"],
            attempt=entry["attempt"],
            used=Used.model_validate(entry["used"]),
        )
        yield Outgoing(Kind.FACT, topics.ADMISSION, entry["budget_id"], message)
