"""Steps as people's tasks: announced before they begin, due at some time, in the hands of somebody else than the definition says.

An execution whose definition says nothing of the kind says none of this.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from handrail_contracts import topics
from handrail_contracts.control import ExecutionControlled
from handrail_contracts.envelope import Tenant, tenant_of, utc
from handrail_contracts.execution_events import StepAnnotated, StepOverdue, StepSteered, TasksPlanned
from handrail_contracts.ids import derive
from handrail_contracts.journal import Record
from handrail_contracts.steps import AgentExecuted
from handrail_contracts.tasks import PlannedTask
from handrail_contracts.triggers import EVENT_PREFIX, EventReceived
from handrail_graph import AgentParameters, Graph, Node, TaskTerms, ToolParameters
from handrail_runtime.machine.core import Kind, Outgoing, Timer

from handrail_scheduler.decision import ALIVE, Decision
from handrail_scheduler.state import SETTLED, Execution, Status
from handrail_scheduler.suggesting import count_anew

TOKEN = "due"
OVERDUE = "task.overdue"
"""The event on the bus that says so: workflows may begin with it."""
SOURCE = "handrail"


def plan(decision: Decision) -> None:
    """Right after the start."""
    planned = (_planned(decision, decision.graph.nodes[step_id]) for step_id in decision.graph.planned)
    decision.say(TasksPlanned, tasks=tuple(planned))


def _planned(decision: Decision, node: Node) -> PlannedTask:
    terms = node.task
    assert terms is not None
    due = terms.due_date
    if terms.due_in_seconds is not None:
        due = utc(decision.state.started_at) + timedelta(seconds=terms.due_in_seconds)
    return PlannedTask(
        step_id=node.id,
        step_type=node.type.value,
        run_id=decision.state.run_id(node.id),
        name=node.name,
        agent=_named(node) or None,
        due_date=due,
        depends_on=node.predecessors,
        **_told(terms),
    )


def _told(terms: TaskTerms) -> dict[str, Any]:
    return {name: getattr(terms, name) for name in ("priority", "description", "metadata", "brought")}


def _named(node: Node) -> str:
    match node.parameters:
        case AgentParameters(agent=name) | ToolParameters(tool=name):
            return name
        case _:
            return ""


def agent_of(state: Execution, node: Node) -> str:
    """Who is asked: the agent of the definition, or the one that it was handed over to; nobody yet, if it is chosen by
    capabilities."""
    return state.assigned[node.id]["agent"] if node.id in state.assigned else _named(node)


def assignee_of(state: Execution, step_id: str) -> str:
    """The person who has it, if any."""
    return state.assigned[step_id]["assignee"] if step_id in state.assigned else ""


def overdue(decision: Decision, step_id: str) -> None:
    """The timer of a due date: one that was moved, or whose task is done, decides nothing."""
    due, step = decision.state.due.get(step_id), decision.state.steps.get(step_id)
    if due is None or decision.now < due or decision.state.status not in (*ALIVE, Status.COMPENSATING):
        return
    if step is None or step.status not in SETTLED:
        decision.say(StepOverdue, step_id=step_id, due_date=utc(due))


def annotate(decision: Decision, message: ExecutionControlled) -> None:
    known = message.step_id in decision.state.steps or message.step_id in decision.graph.order
    if not known or message.changes is None or decision.state.status is Status.ENDED:
        return
    decision.say(
        StepAnnotated,
        step_id=message.step_id,
        changes=message.changes,
        request_id=message.event_id,
        by=message.user_id,
        reason=message.reason,
    )


def may_answer(decision: Decision, message: ExecutionControlled) -> bool:
    """Whether the agent that answers for itself is the one that the step waits for."""
    step = decision.state.steps.get(message.step_id)
    if step is None or decision.running(message.step_id, step.attempt) is None or step.waits_for != "agent":
        return False
    return agent_of(decision.state, decision.graph.nodes[message.step_id]) == message.agent


def answer_of(decision: Decision, message: ExecutionControlled, **said: Any) -> AgentExecuted:
    """As a runner would tell it."""
    state = decision.state
    return AgentExecuted(
        event_id=message.event_id,
        occurred_at=message.occurred_at,
        execution_id=state.execution_id,
        workflow_id=state.workflow_id,
        **tenant_of(state),
        step_id=message.step_id,
        run_id=state.run_id(message.step_id),
        attempt=state.steps[message.step_id].attempt,
        agent=message.agent,
        **said,
    )


# --- what the events change ---------------------------------------------------------------------------------------------


def planned(state: Execution, event: TasksPlanned) -> None:
    state.due |= {task.step_id: task.due_date.timestamp() for task in event.tasks if task.due_date is not None}


def annotated(state: Execution, event: StepAnnotated) -> None:
    if event.changes.due_date is not None:
        state.due[event.step_id] = event.changes.due_date.timestamp()


def reassigned(state: Execution, event: StepSteered) -> None:
    """Who has it now has all its tries before him."""
    if event.step_id in state.steps:
        count_anew(state, event.step_id)
    state.assigned[event.step_id] = {"agent": event.agent, "assignee": event.assignee}


# --- timers, and what is told ---------------------------------------------------------------------------------------------


def timers(event: TasksPlanned | StepAnnotated) -> Iterator[Timer]:
    said = event.tasks if isinstance(event, TasksPlanned) else ()
    dues = [(task.step_id, task.due_date) for task in said]
    if isinstance(event, StepAnnotated):
        dues = [(event.step_id, event.changes.due_date)]
    for step_id, due in dues:
        if due is not None:
            yield Timer(due.timestamp(), f"{TOKEN}/{step_id}")


def live_timers(state: Execution) -> Iterator[Timer]:
    for step_id, due in state.due.items():
        yield Timer(due, f"{TOKEN}/{step_id}")


def told(graph: Graph, state: Execution, event: StepOverdue, record: Record) -> Outgoing:
    """Once it is certain: workflows of the tenant may begin with it."""
    event_id = derive(state.execution_id, event.step_id, OVERDUE, event.due_date.timestamp())
    node = graph.nodes[event.step_id]
    data = {
        "execution_id": state.execution_id,
        "workflow_id": state.workflow_id,
        "step_id": event.step_id,
        "run_id": state.run_id(event.step_id),
        "name": node.name,
        "agent_id": agent_of(state, node) or None,
        "due_date": event.due_date.isoformat(),
    }
    whose = Tenant(**tenant_of(state)).model_dump()
    message = EventReceived(event_id=event_id, occurred_at=record.at, **whose, type=OVERDUE, source=SOURCE, data=data)
    return Outgoing(Kind.FACT, topics.EVENT_RECEIVED, EVENT_PREFIX + event_id, message)
