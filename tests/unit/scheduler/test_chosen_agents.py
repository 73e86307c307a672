"""Steps that ask for capabilities: the runner chooses, and its answer says whom."""

from typing import Any
from uuid import uuid4

from handrail_contracts import topics
from handrail_contracts.envelope import ErrorInfo, utc
from handrail_contracts.steps import AgentExecuted, Choice, StepRequested
from handrail_contracts.workflows import WorkflowCompleted
from unit.stories import BEGAN, EXECUTION, Workflow, agent

FAILED = ErrorInfo(code="AGENT_ERROR", message="no", retryable=True)


def asks(step_id: str, *following: str, **options: Any) -> dict[str, Any]:
    found = agent(step_id, *following, **options)
    found["parameters"] = {"capabilities": ["draft", "german"]}
    return found


def answer(workflow: Workflow, step_id: str, who: str, error: ErrorInfo | None = None) -> list[str]:
    request = [request for request in workflow.requests() if request.step_id == step_id][-1]
    message = AgentExecuted(
        event_id=str(uuid4()), occurred_at=utc(BEGAN), execution_id=EXECUTION, workflow_id="w", step_id=step_id,
        run_id=request.run_id, attempt=request.attempt, agent=who, status="failed" if error else "completed", error=error,
    )  # fmt: skip
    return workflow.put(topics.AGENT_EXECUTED, message)


def test_the_request_says_what_is_asked_for_and_the_journal_who_did_it() -> None:
    workflow = Workflow(asks("a", "b", retry={"max_attempts": 2, "backoff_seconds": 1, "jitter": 0}), agent("b"))
    [request] = workflow.requests()
    assert (request.agent, request.capabilities) == ("", ("draft", "german"))
    answer(workflow, "a", "ann", FAILED)
    workflow.wait(1)
    answer(workflow, "a", "bob")
    answer(workflow, "b", "a")
    ends = ("step.started", "step.retry_scheduled", "step.completed")
    told = [(event["type"], event.get("agent")) for event in workflow.events if event["type"] in ends]
    assert told == [
        ("step.started", None), ("step.retry_scheduled", "ann"), ("step.started", None), ("step.completed", "bob"),
        ("step.started", "a"), ("step.completed", None),
    ]  # fmt: skip
    [end] = [message for message in workflow.said if isinstance(message, WorkflowCompleted)]
    assert end.metadata.agents_used == ("a", "ann", "bob")


def test_a_failure_for_good_says_who_failed() -> None:
    workflow = Workflow(asks("a"))
    answer(workflow, "a", "ann", FAILED.model_copy(update={"retryable": False}))
    [failed] = [event for event in workflow.events if event["type"] == "step.failed"]
    assert failed["agent"] == "ann"


def test_in_a_loop_the_failure_of_a_turn_is_not_said_of_the_loop() -> None:
    loop = {
        "step_id": "l",
        "step_type": "loop",
        "parameters": {"over": [1], "steps": [asks("x")]},
        "on_error": "continue",
    }
    workflow = Workflow(loop)
    answer(workflow, "l[0].x", "ann", FAILED)
    failed = {event["step_id"]: event.get("agent") for event in workflow.events if event["type"] == "step.failed"}
    assert failed == {"l[0].x": "ann", "l": None}


def test_what_nobody_answered_in_time_names_nobody() -> None:
    workflow = Workflow(asks("a", timeout_seconds=5))
    workflow.wait(6)
    [failed] = [event for event in workflow.events if event["type"] == "step.failed"]
    assert failed.get("agent") is None


def test_how_it_is_chosen_is_told_with_every_attempt_after_an_edit_and_after_a_restart() -> None:
    step = asks("a", retry={"max_attempts": 2, "backoff_seconds": 1, "jitter": 0})
    step["parameters"]["choose"] = {"strategy": "round_robin", "prefer": "topic"}
    workflow = Workflow(step)
    answer(workflow, "a", "ann", FAILED)
    workflow.wait(1)
    workflow.control("edit", step_id="a", data={"topic": "billing"})
    machine = workflow.machine
    [again] = machine.core.outstanding(machine.states[EXECUTION], 0)
    assert isinstance(again.message, StepRequested)
    asked = [*workflow.requests(), again.message]
    assert len(asked) == 4
    assert {request.choice for request in asked} == {Choice(strategy="round_robin", prefer="topic")}
    assert asked[-1].input == {"topic": "billing"}


def test_a_step_that_is_handed_over_is_chosen_for_no_more() -> None:
    step = asks("a")
    step["parameters"]["choose"] = "round_robin"
    workflow = Workflow(step)
    workflow.control("reassign", step_id="a", agent="other")
    assert (workflow.requests()[-1].agent, workflow.requests()[-1].choice) == ("other", None)
