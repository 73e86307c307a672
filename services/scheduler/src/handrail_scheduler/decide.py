"""What an input makes of an execution: events, and nothing else.

Every function here emits events through `Decision.say`; `evolve` has then already changed the state when the next line
reads it. A late or repeated input decides nothing, so a decision is safe to meet twice.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from handrail_contracts.approvals import ApprovalDecided
from handrail_contracts.control import ExecutionControlled
from handrail_contracts.envelope import ErrorInfo, utc
from handrail_contracts.execution_events import (
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionEvent,
    ExecutionFailed,
    ExecutionPaused,
    ExecutionRejected,
    ExecutionResumed,
    ExecutionStarted,
    ExecutionTimedOut,
    SignalReceived,
    StatusChanged,
    StepCompleted,
    StepFailed,
    StepRetryScheduled,
    StepsCancelled,
    StepsSkipped,
)
from handrail_contracts.ids import fraction
from handrail_contracts.steps import AgentExecuted
from handrail_contracts.workflows import WorkflowStarted
from handrail_graph import (
    ApprovalParameters,
    Condition,
    ExpressionError,
    Graph,
    LoopParameters,
    Node,
    SignalParameters,
    instance,
    turn_of,
)

from handrail_scheduler.identifiers import run_id
from handrail_scheduler.state import Execution, Status, Step, StepStatus

Emit = Callable[[Any], None]
Begin = Callable[["Decision", Node], None]
MOVING = (Status.RUNNING, Status.WAITING)
ALIVE = (*MOVING, Status.PAUSED)
SIGNALS_KEPT = 1000
"""Signals that nobody waits for yet; more are refused, so that nobody fills the state with them."""


@dataclass(slots=True)
class Decision:
    """One decision under way: the graph, the live state, the clock's reading, and where events go."""

    graph: Graph
    state: Execution
    now: float
    emit: Emit
    begin: Mapping[str, Begin]
    evaluate: Callable[["Decision", str, Condition, dict[str, Any]], bool]

    def say(self, event: type[ExecutionEvent], **fields: Any) -> None:
        self.emit(event(n=self.state.n + 1, **fields))

    def running(self, step_id: str, attempt: int) -> Step | None:
        """The step, if that attempt of it is under way."""
        step = self.state.steps.get(step_id)
        if step is None or step.status is not StepStatus.RUNNING or step.attempt != attempt:
            return None
        return step


def start(decision: Decision, message: WorkflowStarted, version: int) -> None:
    timeout = decision.graph.timeout_seconds
    decision.say(
        ExecutionStarted,
        workflow_version=version,
        user_id=message.user_id,
        organization_id=message.organization_id,
        project_id=message.project_id,
        session_id=message.session_id,
        trigger=message.trigger,
        input=message.input,
        context=message.context,
        deadline=None if timeout is None else utc(decision.now + timeout),
    )
    for step_id in decision.graph.entry:
        _begin(decision, step_id)
    advance(decision, decision.graph.entry)


def reject(state: Execution, message: WorkflowStarted, error: ErrorInfo, emit: Emit, *, keep_input: bool) -> None:
    """The first and last event of an execution that can't be."""
    emit(
        ExecutionRejected(
            n=state.n + 1,
            user_id=message.user_id,
            organization_id=message.organization_id,
            project_id=message.project_id,
            input=message.input if keep_input else None,
            error=error,
        )
    )


def answer(decision: Decision, message: AgentExecuted) -> None:
    """An agent's answer to the attempt that is under way; any other is late and changes nothing."""
    if decision.running(message.step_id, message.attempt) is None:
        return
    if message.run_id != run_id(decision.state.execution_id, message.step_id):
        return
    if message.status == "completed":
        complete(decision, message.step_id, message.output)
    else:
        error = message.error or ErrorInfo(code="AGENT_ERROR", message=f"agent {message.agent} failed and said nothing")
        attempt_failed(decision, message.step_id, error)
    advance(decision, (message.step_id,))


def decided(decision: Decision, message: ApprovalDecided) -> None:
    """How the gate that a step waits for has ended."""
    step = decision.state.steps.get(message.step_id)
    if step is None or decision.running(message.step_id, step.attempt) is None or step.waits_for != "approval":
        return
    if message.approval_id != run_id(decision.state.execution_id, message.step_id):
        return
    node = decision.graph.nodes[message.step_id]
    assert isinstance(node.parameters, ApprovalParameters)
    outcome = _outcome(message, node.parameters)
    if isinstance(outcome, ErrorInfo):
        fail(decision, message.step_id, outcome)
    else:
        approved = outcome == "approved"
        output = {
            "decision": outcome,
            "approved": approved,
            "decided_by": message.decided_by,
            "comment": message.comment,
        }
        complete(decision, message.step_id, output)
    advance(decision, (message.step_id,))


def _outcome(message: ApprovalDecided, parameters: ApprovalParameters) -> str | ErrorInfo:
    if message.decision == "approved":
        return "approved"
    if message.decision == "expired":
        if parameters.on_timeout == "fail":
            return ErrorInfo(code="TIMEOUT", message="nobody decided on the approval before its deadline")
        if parameters.on_timeout == "approve":
            return "approved"
    if parameters.on_reject == "continue":
        return "rejected"
    who = f"{message.decided_by} rejected the approval" if message.decided_by else "the approval was rejected"
    return ErrorInfo(code="APPROVAL_REJECTED", message=f"{who}: {message.comment}" if message.comment else who)


def controlled(decision: Decision, message: ExecutionControlled) -> None:
    by = {"by": message.user_id, "reason": message.reason}
    match message.action:
        case "cancel":
            end(decision, ExecutionCancelled, **by)
        case "pause":
            if decision.state.status in MOVING:
                decision.say(ExecutionPaused, **by)
        case "resume":
            if decision.state.status is Status.PAUSED:
                decision.say(ExecutionResumed, **by)
                _go_on(decision)
        case "signal":
            if decision.state.status in ALIVE and len(decision.state.signals) < SIGNALS_KEPT:
                decision.say(SignalReceived, signal=message.signal, data=message.data, by=message.user_id)
                _hand_out(decision, message.signal)


def _go_on(decision: Decision) -> None:
    """After a pause: retries that came due, and all that the steps settled in the meantime lead to."""
    steps = decision.state.steps
    due = [
        step_id
        for step_id, step in steps.items()
        if step.status is StepStatus.RETRYING and step.wake_at is not None and step.wake_at <= decision.now
    ]
    for step_id in due:
        if decision.state.status in MOVING:
            _begin(decision, step_id)
    advance(decision, tuple(steps))


def _hand_out(decision: Decision, signal: str) -> None:
    """The signal to the first step that waits for it."""
    for step_id, step in decision.state.steps.items():
        if step.status is StepStatus.RUNNING and step.waits_for == "signal" and step.input == signal:
            complete(decision, step_id, next(data for name, data in decision.state.signals if name == signal))
            advance(decision, (step_id,))
            return


def timer(decision: Decision, token: str) -> None:
    """A timer that is due; one whose reason has passed decides nothing."""
    kind, _, rest = token.partition("/")
    if kind == "execution":
        error = ErrorInfo(code="TIMEOUT", message=f"the workflow took longer than {decision.graph.timeout_seconds} s")
        end(decision, ExecutionTimedOut, error=error)
        return
    step_id, _, number = rest.rpartition("/")
    attempt = int(number)
    if kind == "retry":
        step = decision.state.steps.get(step_id)
        waits = step is not None and step.status is StepStatus.RETRYING and step.attempt == attempt
        if waits and decision.state.status in MOVING:
            _begin(decision, step_id)
            advance(decision, (step_id,))
    elif (step := decision.running(step_id, attempt)) is not None:
        parameters = decision.graph.nodes[step_id].parameters
        if kind == "wake":
            complete(decision, step_id, step.input)
        elif isinstance(parameters, SignalParameters):
            _no_signal(decision, step_id, parameters)
        else:
            seconds = decision.graph.nodes[step_id].timeout_seconds
            attempt_failed(
                decision, step_id, ErrorInfo(code="TIMEOUT", message=f"no answer within {seconds} s", retryable=True)
            )
        advance(decision, (step_id,))


def _no_signal(decision: Decision, step_id: str, parameters: SignalParameters) -> None:
    if parameters.on_timeout == "continue":
        complete(decision, step_id, None)
    else:
        fail(
            decision, step_id, ErrorInfo(code="TIMEOUT", message=f"the signal {parameters.name!r} did not come in time")
        )


def complete(decision: Decision, step_id: str, output: Any) -> None:
    decision.say(StepCompleted, step_id=step_id, attempt=decision.state.steps[step_id].attempt, output=output)


def attempt_failed(decision: Decision, step_id: str, error: ErrorInfo) -> None:
    """Another attempt if the error and the step's policy allow one, else the end."""
    node, attempt = decision.graph.nodes[step_id], decision.state.steps[step_id].attempt
    if not error.retryable or attempt >= node.retry.max_attempts:
        fail(decision, step_id, error)
        return
    jitter = fraction(decision.state.execution_id, step_id, attempt)
    retry_at = utc(decision.now + node.retry.delay(attempt, jitter))
    decision.say(StepRetryScheduled, step_id=step_id, attempt=attempt, error=error, retry_at=retry_at)


def fail(decision: Decision, step_id: str, error: ErrorInfo) -> None:
    """The step failed for good, and the execution with it."""
    decision.say(StepFailed, step_id=step_id, attempt=decision.state.steps[step_id].attempt, error=error)
    end(decision, ExecutionFailed, step_id=step_id, error=error)


def end(decision: Decision, event: type[ExecutionEvent], **fields: Any) -> None:
    """Ends the execution early: what is under way is cancelled, the rest is skipped."""
    if decision.state.status not in ALIVE:
        return
    steps = decision.state.steps
    under_way = tuple(
        step_id for step_id, step in steps.items() if step.status in (StepStatus.RUNNING, StepStatus.RETRYING)
    )
    if under_way:
        decision.say(StepsCancelled, step_ids=under_way)
    rest = tuple(step_id for step_id in decision.graph.order if step_id not in steps)
    if rest:
        decision.say(StepsSkipped, step_ids=rest, reason="execution_ended")
    decision.say(event, **fields)


def advance(decision: Decision, settled: tuple[str, ...]) -> None:
    """Begins or skips every step that the settled ones decide, until nothing moves; then says where that leaves us."""
    graph, state = decision.graph, decision.state
    queue = deque(settled)
    while queue and state.status in MOVING:
        step_id = queue.popleft()
        step = state.steps[step_id]
        if step.status is StepStatus.RUNNING and step.waits_for == "loop":
            queue += _next_turns(decision, step_id)
        if step.status not in (StepStatus.COMPLETED, StepStatus.SKIPPED):
            continue
        node = graph.nodes[step_id]
        for target in node.targets:
            if target in state.steps or (state.unresolved.get(target) != 0 and not _is_joined(graph, state, target)):
                continue
            if target in state.reached:
                _begin(decision, target)
            else:
                decision.say(StepsSkipped, step_ids=(target,), reason="branch_not_taken")
            if state.status not in MOVING:
                return
            queue.append(target)
        queue += _turn_over(decision, step_id)
    if state.status in MOVING:
        _conclude(decision)


def _turn_over(decision: Decision, step_id: str) -> tuple[str, ...]:
    """If that was the last step of a loop's turn: what begins in the next one, or the loop itself if it is done."""
    place = turn_of(step_id)
    if place is None or decision.state.steps[place[0]].status is not StepStatus.RUNNING:
        return ()
    return _next_turns(decision, place[0])


def _next_turns(decision: Decision, loop_id: str) -> tuple[str, ...]:
    """Begins as many turns as the loop may have open, or completes it; gives the steps that this settled or began."""
    parameters, state = decision.graph.nodes[loop_id].parameters, decision.state
    assert isinstance(parameters, LoopParameters)
    begun, done = state.turns[loop_id]
    if parameters.until is not None:
        if begun > done or (done and _holds(decision, loop_id, parameters, done)):
            return () if state.steps[loop_id].status is StepStatus.RUNNING else (loop_id,)
        if done >= parameters.max_turns:
            error = ErrorInfo(
                code="LOOP_LIMIT", message=f"it did not come to an end within {parameters.max_turns} turns"
            )
            fail(decision, loop_id, error)
            return ()
        wanted = begun + 1
    else:
        count = len(state.steps[loop_id].input)
        if done == count:
            complete(decision, loop_id, [turn_output(decision, loop_id, turn) for turn in range(count)])
            return (loop_id,)
        wanted = min(count, done + parameters.max_parallel)
    started: list[str] = []
    for turn in range(begun, wanted):
        for name in parameters.body.entry:
            if state.status in MOVING:
                started.append(instance(loop_id, turn, name))
                _begin(decision, started[-1])
    return tuple(started)


def _holds(decision: Decision, loop_id: str, parameters: LoopParameters, done: int) -> bool:
    """Completes the loop if so; an expression that can't be evaluated fails it."""
    assert parameters.until is not None
    last = turn_output(decision, loop_id, done - 1)
    try:
        held = decision.evaluate(decision, loop_id, parameters.until, {"last": last, "index": done - 1})
    except ExpressionError as error:
        fail(decision, loop_id, ErrorInfo(code="VALIDATION_ERROR", message=f"step {loop_id}: {error}"))
        return True
    if held:
        complete(decision, loop_id, last)
    return held


def turn_output(decision: Decision, loop_id: str, turn: int) -> Any:
    """The output of the turn's last step; of several last steps that ran, their outputs by id."""
    parameters = decision.graph.nodes[loop_id].parameters
    assert isinstance(parameters, LoopParameters)
    outputs = {}
    for name in parameters.body.sinks:
        step = decision.state.steps.get(instance(loop_id, turn, name))
        if step is not None and step.status is StepStatus.COMPLETED:
            outputs[name] = step.output
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs or None


def _is_joined(graph: Graph, state: Execution, step_id: str) -> bool:
    """Enough edges were taken for a step that does not wait for all."""
    join = graph.nodes[step_id].join
    return join is not None and state.taken.get(step_id, 0) >= join


def _begin(decision: Decision, step_id: str) -> None:
    node = decision.graph.nodes[step_id]
    decision.begin[node.type](decision, node)


def _conclude(decision: Decision) -> None:
    state = decision.state
    if not state.working and not state.idle:
        decision.say(ExecutionCompleted, result=_result(decision.graph, state))
        return
    status = Status.RUNNING if state.working else Status.WAITING
    if status is not state.status:
        decision.say(StatusChanged, status=status.value)


def _result(graph: Graph, state: Execution) -> Any:
    """The output of the last step; of several last steps that ran, their outputs by id."""
    outputs = {
        step_id: state.steps[step_id].output
        for step_id in graph.sinks
        if state.steps[step_id].status is StepStatus.COMPLETED
    }
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs or None
