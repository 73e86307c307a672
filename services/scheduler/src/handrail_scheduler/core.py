"""The scheduler as the shell knows it: routes inputs to decisions, and looks definitions up."""

from collections.abc import Callable, Iterable
from typing import Any

from handrail_contracts import topics
from handrail_contracts.admission import QUEUE_PREFIX, AdmissionDecided, AdmissionReleased, AdmissionRequested
from handrail_contracts.approvals import ApprovalDecided, SuggestionRevisionRequested
from handrail_contracts.budgets import (
    BUDGET_PREFIX,
    BudgetAnswered,
    BudgetAsked,
    BudgetExhausted,
    BudgetLookedAgain,
    BudgetRaised,
    BudgetReturned,
)
from handrail_contracts.control import ExecutionControlled
from handrail_contracts.envelope import ErrorInfo, Tenant, tenant_of
from handrail_contracts.execution_events import (
    BudgetGranted,
    BudgetNamed,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionRecord,
    ExecutionRejected,
    ExecutionStarted,
    ExecutionTimedOut,
    StepAnnotated,
    StepRetryScheduled,
    StepStarted,
    TasksPlanned,
    VersionChanged,
)
from handrail_contracts.journal import Record
from handrail_contracts.schedule_events import EventMatched, ScheduleFired, ScheduleSet
from handrail_contracts.steps import AgentAdvanced, AgentExecuted
from handrail_contracts.triggers import EVENT_PREFIX, SCHEDULE_PREFIX, EventReceived, ScheduleDefined
from handrail_contracts.workflows import ChildEnded, WorkflowStarted
from handrail_graph import ExpressionError, Graph
from handrail_runtime.machine.core import (
    CommandTopic,
    Instead,
    Kind,
    Missing,
    Outgoing,
    Refused,
    Timer,
    TimerDue,
    Wiring,
)

from handrail_scheduler import budgets, decide, matching, queues, schedules, tasks
from handrail_scheduler.allowances import given_back
from handrail_scheduler.budgets import Budget
from handrail_scheduler.decision import ALIVE, Decision, Emit
from handrail_scheduler.definitions import Definitions
from handrail_scheduler.ending import end
from handrail_scheduler.evolve import count_edges, evolve
from handrail_scheduler.matching import Happening
from handrail_scheduler.queues import Queue, admissions_of
from handrail_scheduler.react import outstanding, react
from handrail_scheduler.schedules import Schedule
from handrail_scheduler.state import Execution, Status
from handrail_scheduler.steering import controlled, migrate
from handrail_scheduler.steps import BEGIN, begin_with, evaluate

ENDINGS = (
    ExecutionCompleted, ExecutionFailed, ExecutionRejected, ExecutionCancelled, ExecutionTimedOut, EventMatched,
)  # fmt: skip

WIRING = Wiring(
    service="scheduler",
    journal=topics.EXECUTION_EVENTS,
    snapshots=topics.EXECUTION_SNAPSHOTS,
    inputs=(
        topics.AGENT_EXECUTED,
        topics.WORKFLOW_STARTED,
        topics.APPROVAL_DECIDED,
        topics.SUGGESTION_REVISION_REQUESTED,
        topics.EXECUTION_CONTROLLED,
        topics.CHILD_ENDED,
        topics.ADMISSION,
        topics.SCHEDULE_DEFINED,
        topics.EVENT_RECEIVED,
    ),
    fenced_inputs=frozenset(),
    commands=(CommandTopic(topics.STEP_REQUESTED, spread=True), CommandTopic(topics.APPROVAL_REQUESTED, spread=False)),
    record=ExecutionRecord,
    fold_version=1,
    seldom=frozenset(
        {
            topics.SUGGESTION_REVISION_REQUESTED,
            topics.EXECUTION_CONTROLLED,
            topics.CHILD_ENDED,
            topics.ADMISSION,
            topics.SCHEDULE_DEFINED,
            topics.EVENT_RECEIVED,
        }
    ),
    begins=topics.WORKFLOW_STARTED,
)


State = Execution | Schedule | Queue | Budget | Happening


class SchedulerCore:
    """Executions, and beside them schedules and events, each in a state of its own.

    Pure but for `definitions`, a table that only ever gains entries.
    """

    wiring = WIRING

    def __init__(self, definitions: Definitions, tenant_limit: int = 0) -> None:
        self._definitions, self._tenant_limit = definitions, tenant_limit

    def new(self, execution_id: str) -> State:
        if execution_id.startswith(SCHEDULE_PREFIX):
            return Schedule(execution_id)
        if execution_id.startswith(QUEUE_PREFIX):
            return Queue(execution_id)
        if execution_id.startswith(BUDGET_PREFIX):
            return Budget(execution_id)
        return Happening(execution_id) if execution_id.startswith(EVENT_PREFIX) else Execution(execution_id)

    def decide(self, state: State, message: Any, now: float, emit: Emit, ended: Callable[[str], bool]) -> None:
        if isinstance(state, Execution) and not isinstance(message, _FOR_OTHERS):
            self._decide(state, message, now, emit, ended)
        elif isinstance(state, Schedule) and isinstance(message, ScheduleDefined | ChildEnded | TimerDue):
            schedules.decide(state, message, now, emit)
        elif isinstance(state, Queue) and isinstance(message, AdmissionRequested | AdmissionReleased):
            queues.decide(state, message, emit)
        elif isinstance(state, Budget) and isinstance(message, BudgetAsked | BudgetReturned):
            budgets.decide(state, message, self._definitions.budget(state.execution_id), now, emit)
        elif isinstance(state, Budget) and isinstance(message, TimerDue):
            budgets.look_again(state, self._definitions.budget(state.execution_id), now, emit)
        elif isinstance(state, Budget) and isinstance(message, BudgetRaised):
            if state.waits:
                raise Missing("a budget that was raised is looked at with the newest limits")
        elif isinstance(state, Happening) and isinstance(message, EventReceived):
            if not ended(state.execution_id):
                raise Missing("an event is decided on with the newest definitions")
        else:
            raise Refused("RESERVED_ID", f"{type(message).__name__} can't be about {state.execution_id}")

    def _decide(self, state: Execution, message: Any, now: float, emit: Emit, ended: Callable[[str], bool]) -> None:
        if isinstance(message, WorkflowStarted):
            if state.status is Status.NEW and not ended(state.execution_id):
                self._start(state, message, now, emit)
            return
        if state.status is Status.NEW:
            if isinstance(message, TimerDue | ChildEnded | AdmissionDecided | BudgetAnswered) or ended(
                state.execution_id
            ):
                return
            if isinstance(message, ExecutionControlled) and message.parent_id:
                decide.never_began(state, message, emit)
                return
            raise Refused("UNKNOWN_EXECUTION", f"no execution {state.execution_id} is known here")
        decision = self._decision(self._graph(state), state, now, emit)
        match message:
            case AgentExecuted():
                decide.answer(decision, message)
            case AgentAdvanced():
                decide.conversation_advanced(decision, message)
            case ApprovalDecided():
                decide.decided(decision, message)
            case SuggestionRevisionRequested():
                decide.sent_back(decision, message)
            case ChildEnded():
                decide.child_ended(decision, message)
            case AdmissionDecided():
                decide.admitted(decision, message)
            case BudgetAnswered():
                decide.budget_answered(decision, message)
            case ExecutionControlled():
                if (message.organization_id, message.project_id) != (state.organization_id, state.project_id):
                    raise Refused("FORBIDDEN", "the execution belongs to another tenant")
                self._controlled(decision, message)
            case TimerDue():
                decide.timer(decision, message.token)

    def _start(self, state: Execution, message: WorkflowStarted, now: float, emit: Emit) -> None:
        definition = self._definitions.for_start(message.workflow_id, message.workflow_version, message.execution_id)
        if definition is None or not definition.belongs_to(message):
            raise Missing(message.workflow_id)
        graph = definition.graph()
        if not isinstance(graph, Graph):
            decide.reject(state, message, graph, emit, keep_input=True)
            return
        why = None if message.origin is None else decide.cannot_restore(graph, message.origin)
        if why is not None:
            decide.reject(state, message, ErrorInfo(code="VALIDATION_ERROR", message=why), emit, keep_input=True)
            return
        try:
            admissions = admissions_of(graph, message, self._tenant_limit)
        except ExpressionError as error:
            text = f"the concurrency key can't be made: {error}"
            decide.reject(state, message, ErrorInfo(code="VALIDATION_ERROR", message=text), emit, keep_input=True)
            return
        decide.start(self._decision(graph, state, now, emit), message, definition.version, admissions)

    def decide_instead(self, state: State, message: Any, why: Instead, now: float, emit: Emit) -> None:
        if isinstance(state, Happening) and why is Instead.MISSING:
            matching.decide(state, message, self._definitions, now, emit)
        elif isinstance(state, Budget) and why is Instead.MISSING:
            budgets.look_again(state, self._definitions.budget(state.execution_id), now, emit)
        elif not isinstance(state, Execution):
            raise Refused(why.value.upper(), "the input can't be decided on")
        elif isinstance(message, WorkflowStarted) and state.status is Status.NEW:
            version = "" if message.workflow_version is None else f" in version {message.workflow_version}"
            unknown = ErrorInfo(
                code="UNKNOWN_WORKFLOW", message=f"there is no active workflow {message.workflow_id}{version}"
            )
            error = _TOO_LARGE if why is Instead.TOO_LARGE else unknown
            decide.reject(state, message, error, emit, keep_input=why is not Instead.TOO_LARGE)
        elif why is Instead.TOO_LARGE and state.status in ALIVE:
            end(self._decision(self._graph(state), state, now, emit), ExecutionFailed, error=_TOO_LARGE)
        elif isinstance(message, AgentExecuted | ChildEnded) and state.status is Status.COMPENSATING:
            decide.gave_too_much(self._decision(self._graph(state), state, now, emit), message, _TOO_LARGE)
        else:
            raise Refused(why.value.upper(), "the input can't be decided on")

    def _decision(self, graph: Graph, state: Execution, now: float, emit: Emit) -> Decision:
        return Decision(graph, state, now, emit, BEGIN, evaluate, self._budgets_of)

    def _budgets_of(self, decision: Decision, agent: str) -> list[BudgetNamed]:
        state = decision.state
        if decision.graph.budget is None and not self._definitions.has_budgets:
            return []
        whose = Tenant(**tenant_of(state))
        return self._definitions.budgets_of(whose, state.execution_id, state.workflow_id, agent, decision.graph.budget)

    def _controlled(self, decision: Decision, message: ExecutionControlled) -> None:
        if message.action != "migrate":
            controlled(decision, message, begin_with)
            return
        found = self._definitions.find(decision.state.workflow_id, message.version)
        if found is None:
            raise Missing(f"{decision.state.workflow_id}@{message.version}")
        graph = found.graph()
        if isinstance(graph, Graph):
            migrate(decision, message, graph)

    def _graph(self, state: Execution) -> Graph:
        definition = self._definitions.find(state.workflow_id, state.version)
        graph = None if definition is None else definition.graph()
        if not isinstance(graph, Graph):
            raise Missing(f"{state.workflow_id}@{state.version}")
        return graph

    def evolve(self, state: State, event: Any, record: Record) -> None:
        if isinstance(state, Execution):
            evolve(self._graph_of(state), state, event, record)
            if type(event) is VersionChanged:
                count_edges(self._graph(state), state)
        elif isinstance(state, Schedule):
            schedules.evolve(state, event, record)
        elif isinstance(state, Queue):
            queues.evolve(state, event, record)
        elif isinstance(state, Budget):
            budgets.evolve(state, event, record)
        else:
            state.n = event.n

    def react(
        self, state: State, event: Any, record: Record, partition: int, *, requests: bool = True
    ) -> Iterable[Outgoing]:
        if isinstance(state, Schedule):
            return schedules.react(state, event, record)
        if isinstance(state, Queue):
            return queues.react(state, event, record)
        if isinstance(state, Budget):
            return budgets.react(state, event, record)
        if isinstance(state, Happening):
            return matching.react(event, record)
        if not requests and isinstance(event, StepStarted) and event.waits_for not in ("workflow", "budget"):
            return given_back(state, record) if state.returned else ()
        said = react(self._graph_of(state), state, event, record, partition)
        if not requests and isinstance(event, BudgetGranted):
            said = [outgoing for outgoing in said if outgoing.kind is not Kind.REQUEST]
        return [*given_back(state, record), *said] if state.returned else said

    def _graph_of(self, state: Execution) -> Graph | None:
        """None before the first event and for an execution that was rejected."""
        return self._graph(state) if state.version else None

    def outstanding(self, state: State, partition: int) -> Iterable[Outgoing]:
        return outstanding(self._graph(state), state, partition) if isinstance(state, Execution) else ()

    def timers(self, event: Any) -> Iterable[Timer]:
        match event:
            case StepStarted(waits_for="timer") if event.wake_at is not None:
                return (Timer(event.wake_at.timestamp(), f"wake/{event.step_id}/{event.attempt}"),)
            case StepStarted(waits_for="agent" | "signal" | "workflow" | "loop" | "person") if (
                event.deadline is not None
            ):
                return (Timer(event.deadline.timestamp(), f"deadline/{event.step_id}/{event.attempt}"),)
            case StepRetryScheduled():
                return (Timer(event.retry_at.timestamp(), f"retry/{event.step_id}/{event.attempt}"),)
            case ExecutionStarted() if event.deadline is not None:
                return (Timer(event.deadline.timestamp(), "execution/"),)
            case BudgetGranted() if event.deadline is not None:
                return (Timer(event.deadline.timestamp(), f"deadline/{event.step_id}/{event.attempt}"),)
            case TasksPlanned() | StepAnnotated():
                return tasks.timers(event)
            case BudgetExhausted() | BudgetLookedAgain():
                return budgets.timers(event)
            case ScheduleSet() | ScheduleFired():
                return schedules.timers(event)
            case _:
                return ()

    def live_timers(self, state: State) -> Iterable[Timer]:
        if isinstance(state, Schedule):
            yield from schedules.live_timers(state)
        if isinstance(state, Budget):
            yield from budgets.live_timers(state)
        if not isinstance(state, Execution):
            return
        if state.deadline is not None:
            yield Timer(state.deadline, "execution/")
        if state.due:
            yield from tasks.live_timers(state)
        for step_id, step in state.steps.items():
            if step.wake_at is not None:
                kind = "retry" if step.status == "retrying" else "wake"
                yield Timer(step.wake_at, f"{kind}/{step_id}/{step.attempt}")
            elif step.deadline is not None and step.waits_for in ("agent", "signal", "workflow", "loop", "person"):
                yield Timer(step.deadline, f"deadline/{step_id}/{step.attempt}")

    def workflow_id(self, state: State) -> str:
        return state.workflow_id

    def ending(self, event: Any, execution_id: str) -> str | None:
        return execution_id if isinstance(event, ENDINGS) else None

    def is_finished(self, state: State) -> bool:
        if isinstance(state, Queue | Budget):
            return not state.n
        if not isinstance(state, Execution):
            return isinstance(state, Happening) or state.removed
        return state.status is Status.ENDED or state.status is Status.NEW

    def is_parked(self, state: State) -> bool:
        if isinstance(state, Queue):
            return len(state.waits) < queues.PARKED_BELOW
        if isinstance(state, Budget):
            return not state.open
        if not isinstance(state, Execution):
            return True
        if state.status is Status.QUEUED:
            return True
        return state.status is Status.WAITING or state.status is Status.PAUSED

    def busy_for(self, state: State) -> tuple[str, str] | None:
        if not isinstance(state, Execution) or state.status is not Status.RUNNING:
            return None
        return state.organization_id, state.project_id

    def pack(self, state: State) -> bytes:
        assert not isinstance(state, Happening)
        return state.pack()

    def unpack(self, data: bytes) -> State:
        if data.startswith(queues.PACKED):
            return Queue.unpack(data)
        if data.startswith(budgets.PACKED):
            return Budget.unpack(data)
        return Schedule.unpack(data) if data.startswith(schedules.PACKED) else Execution.unpack(data)


_FOR_OTHERS = (
    ScheduleDefined, EventReceived, AdmissionRequested, AdmissionReleased, BudgetAsked, BudgetReturned, BudgetRaised,
)  # fmt: skip


_TOO_LARGE = ErrorInfo(
    code="RESULT_TOO_LARGE",
    message="what this step would pass on does not fit into one record (1 MB); pass large data by reference",
)
