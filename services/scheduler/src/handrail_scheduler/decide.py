"""What an input makes of an execution: events, and nothing else.

Every function here emits events through `Decision.say`; `evolve` has then already changed the state when the next line
reads it. A late or repeated input decides nothing, so a decision is safe to meet twice.
"""

from handrail_contracts.admission import Admission, AdmissionDecided
from handrail_contracts.approvals import ApprovalDecided, SuggestionRevisionRequested
from handrail_contracts.budgets import BudgetAnswered
from handrail_contracts.control import ExecutionControlled
from handrail_contracts.envelope import ErrorInfo, tenant_of, utc
from handrail_contracts.execution_events import (
    ExecutionAdmitted,
    ExecutionFailed,
    ExecutionRejected,
    ExecutionStarted,
    ExecutionTimedOut,
    ModelsCalled,
    StepAdvanced,
    StepsRestored,
)
from handrail_contracts.steps import AgentAdvanced, AgentExecuted, Turn, advanced
from handrail_contracts.workflows import ChildEnded, Origin, WorkflowStarted
from handrail_graph import AgentParameters, ApprovalParameters, Graph, SignalParameters

from handrail_scheduler import allowances, suggestions, tasks
from handrail_scheduler.advance import advance, enter
from handrail_scheduler.decision import MOVING, Decision, Emit
from handrail_scheduler.ending import attempt_failed, end, fail
from handrail_scheduler.identifiers import gate_id
from handrail_scheduler.state import UNDER_WAY, Execution, Status, StepStatus

_TALKING = ("agent", "budget", "raise")
"""An agent, or the next attempt of the same run, which has to know what the one before still tells of its calls."""


def start(decision: Decision, message: WorkflowStarted, version: int, admissions: tuple[Admission, ...]) -> None:
    timeout = decision.graph.timeout_seconds
    decision.say(
        ExecutionStarted,
        workflow_version=version,
        **tenant_of(message),
        session_id=message.session_id,
        trigger=message.trigger,
        input=message.input,
        context=message.context,
        attributes=message.attributes,
        deadline=None if timeout is None else utc(decision.now + timeout),
        parent=message.parent,
        origin_id=None if message.origin is None else message.origin.execution_id,
        stubs={} if message.origin is None else message.origin.stubs,
        admissions=admissions,
    )
    if decision.graph.planned:
        tasks.plan(decision)
    if message.origin is not None:
        _restore(decision, message.origin)
    if not admissions:
        _enter(decision)


def admitted(decision: Decision, message: AdmissionDecided) -> None:
    """A queue has answered: the next one is asked or the steps begin, or the execution fails as all places are taken."""
    state = decision.state
    if state.status is not Status.QUEUED or state.queues[0]["queue_id"] != message.queue_id:
        return
    if message.admitted:
        decision.say(ExecutionAdmitted, queue_id=message.queue_id, begins=len(state.queues) == 1)
        if not state.queues:
            _enter(decision)
    else:
        end(decision, ExecutionFailed, error=ErrorInfo(code="CONCURRENCY_LIMIT", message=message.reason))


def _enter(decision: Decision) -> None:
    restored = tuple(decision.state.steps)
    advance(decision, (*restored, *enter(decision)))


def _restore(decision: Decision, origin: Origin) -> None:
    """What is taken over of a recorded execution, as far as this version of the workflow knows it."""
    order = decision.graph.order
    outputs = {step_id: origin.outputs[step_id] for step_id in order if step_id in origin.outputs}
    skipped = tuple(step_id for step_id in order if step_id in origin.skipped)
    if outputs or skipped:
        decision.say(StepsRestored, outputs=outputs, skipped=skipped)


def cannot_restore(graph: Graph, origin: Origin) -> str | None:
    """Why the execution can't go on from there: a choice whose recorded output says nothing about its branches."""
    for step_id, output in origin.outputs.items():
        node = graph.nodes.get(step_id)
        field = {"condition": "result", "switch": "taken"}.get("" if node is None else node.type)
        if field is not None and (not isinstance(output, dict) or field not in output):
            return f"the recorded output of step {step_id} does not say which branch it took"
    return None


def reject(state: Execution, message: WorkflowStarted, error: ErrorInfo, emit: Emit, *, keep_input: bool) -> None:
    """The first and last event of an execution that can't be."""
    emit(
        ExecutionRejected(
            n=state.n + 1,
            **tenant_of(message),
            input=message.input if keep_input else None,
            error=error,
            parent=message.parent,
        )
    )


def never_began(state: Execution, message: ExecutionControlled, emit: Emit) -> None:
    """A child whose parent gave it up before it was asked to begin: the start that is still to come finds it ended."""
    emit(
        ExecutionRejected(
            n=state.n + 1,
            **tenant_of(message),
            error=ErrorInfo(code="CANCELLED", message=message.reason),
        )
    )


def answer(decision: Decision, message: AgentExecuted) -> None:
    """An agent's answer to the attempt that is under way; any other is late and changes nothing."""
    step = decision.running(message.step_id, message.attempt)
    if step is None or step.waits_for != "agent" or message.run_id != decision.state.run_id(message.step_id):
        return
    parameters = decision.graph.nodes[message.step_id].parameters
    if isinstance(parameters, AgentParameters) and parameters.capabilities and message.agent:
        decision.chosen = (message.step_id, message.agent)
    if message.model_calls:
        decision.say(ModelsCalled, step_id=message.step_id, attempt=message.attempt, calls=message.model_calls)
    rules, own = suggestions.rules_of(decision, message.step_id), decision.state.suggestions.get(message.step_id)
    if message.status == "suggested":
        suggestions.call_suggested(decision, message)
    elif message.status == "completed":
        if rules is None:
            decision.complete(message.step_id, message.output)
        elif own is not None and own["phase"] == "acts":
            suggestions.acted(decision, rules, message)
        else:
            suggestions.made(decision, rules, message)
    elif allowances.is_spent(decision.state, message):
        decision.begin(message.step_id)
    else:
        error = message.error or ErrorInfo(code="AGENT_ERROR", message=f"agent {message.agent} failed and said nothing")
        attempt_failed(decision, message.step_id, error)
    advance(decision, (message.step_id,))


def conversation_advanced(decision: Decision, message: AgentAdvanced) -> None:
    """What a conversation has come to, if it goes on from where it is known to be; what it has cost counts in any case."""
    step = decision.state.steps.get(message.step_id)
    if step is None or message.run_id != decision.state.run_id(message.step_id):
        return
    turns = tuple(Turn.model_validate(turn) for turn in decision.state.conversations.get(message.step_id, ()))
    if message.said is not None and message.turn < len(turns) and turns[message.turn].holder == message.holder:
        return  # told again
    if message.model_calls:
        decision.say(ModelsCalled, step_id=message.step_id, attempt=message.attempt, calls=message.model_calls)
    if step.status in UNDER_WAY and step.waits_for in _TALKING and advanced(turns, message) is not None:
        told = message.model_dump(include={"step_id", "attempt", "turn", "holder", "said", "asked", "result", "begun"})
        decision.say(StepAdvanced, **told)


def gave_too_much(decision: Decision, message: AgentExecuted | ChildEnded, error: ErrorInfo) -> None:
    """An answer that can't be kept, to a step that undoes something."""
    if decision.running(message.step_id, message.attempt) is not None:
        fail(decision, message.step_id, error)
        advance(decision, (message.step_id,))


def decided(decision: Decision, message: ApprovalDecided) -> None:
    """How the gate that a step waits for has ended."""
    if message.step_id in decision.state.suggestions:
        suggestions.decided(decision, message)
        advance(decision, (message.step_id,))
        return
    step = decision.state.steps.get(message.step_id)
    if step is None or decision.running(message.step_id, step.attempt) is None or step.waits_for != "approval":
        return
    if message.approval_id != gate_id(decision.state.run_id(message.step_id), step.attempt):
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
        decision.complete(message.step_id, output)
    advance(decision, (message.step_id,))


def budget_answered(decision: Decision, message: BudgetAnswered) -> None:
    if allowances.answered(decision, message):
        advance(decision, (message.step_id,))


def sent_back(decision: Decision, message: SuggestionRevisionRequested) -> None:
    suggestions.sent_back(decision, message)
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


def child_ended(decision: Decision, message: ChildEnded) -> None:
    """How the execution that an attempt of a sub-workflow started has ended."""
    step = decision.running(message.step_id, message.attempt)
    if step is None or step.waits_for != "workflow" or message.run_id != decision.state.run_id(message.step_id):
        return
    if message.status == "completed":
        decision.complete(message.step_id, message.result)
    else:
        error = message.error or ErrorInfo(code="WORKFLOW_FAILED", message=f"it ended as {message.status}")
        told = f"workflow {message.workflow_id} (execution {message.child_id}) {message.status}: {error.message}"
        attempt_failed(decision, message.step_id, ErrorInfo(code=error.code, message=told, retryable=True))
    advance(decision, (message.step_id,))


def timer(decision: Decision, token: str) -> None:
    """A timer that is due; one whose reason has passed decides nothing."""
    kind, _, rest = token.partition("/")
    if kind == "execution":
        error = ErrorInfo(code="TIMEOUT", message=f"the workflow took longer than {decision.graph.timeout_seconds} s")
        end(decision, ExecutionTimedOut, error=error)
        return
    if kind == tasks.TOKEN:
        tasks.overdue(decision, rest)
        return
    step_id, _, number = rest.rpartition("/")
    attempt = int(number)
    if kind == "retry":
        step = decision.state.steps.get(step_id)
        if step is None or step.status is not StepStatus.RETRYING or step.attempt != attempt:
            return
        if _is_due(decision, step.wake_at) and decision.state.status in (*MOVING, Status.COMPENSATING):
            decision.begin(step_id)
            advance(decision, (step_id,))
    elif (step := decision.running(step_id, attempt)) is not None:
        if not _is_due(decision, step.wake_at if kind == "wake" else step.deadline):
            return
        parameters = decision.graph.nodes[step_id].parameters
        if kind == "wake":
            decision.complete(step_id, step.input)
        elif isinstance(parameters, SignalParameters):
            _no_signal(decision, step_id, parameters)
        else:
            seconds = decision.graph.nodes[step_id].timeout_seconds
            attempt_failed(
                decision, step_id, ErrorInfo(code="TIMEOUT", message=f"not done within {seconds} s", retryable=True)
            )
        advance(decision, (step_id,))


def _is_due(decision: Decision, at: float | None) -> bool:
    """A timer of an attempt before a rewind may carry the same number: it does not count before its time."""
    return at is not None and decision.now >= at


def _no_signal(decision: Decision, step_id: str, parameters: SignalParameters) -> None:
    if parameters.on_timeout == "continue":
        decision.complete(step_id, None)
    else:
        fail(
            decision, step_id, ErrorInfo(code="TIMEOUT", message=f"the signal {parameters.name!r} did not come in time")
        )
