"""The scheduler's journal: what happened to an execution, event by event.

Within an execution `n` counts its events from 1 without gaps; `execution_id:n` names an event for ever. A released event
is never edited: recorded journals must fold to the same state in every later release.
"""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field

from handrail_contracts.admission import Admission, AnyQueueEvent
from handrail_contracts.budgets import AnyBudgetEvent, Limits, Scope
from handrail_contracts.envelope import ErrorInfo, JsonObject, Model
from handrail_contracts.journal import Record
from handrail_contracts.schedule_events import AnyScheduleEvent
from handrail_contracts.steps import ModelCall, ToolAsked, ToolResult
from handrail_contracts.tasks import PlannedTask, TaskChanges
from handrail_contracts.workflows import Parent


class ExecutionEvent(Model):
    n: int = Field(ge=1)


class ExecutionStarted(ExecutionEvent):
    """`workflow_version` is pinned here for the whole life of the execution."""

    type: Literal["execution.started"] = "execution.started"
    workflow_version: int
    user_id: str
    organization_id: str
    project_id: str
    session_id: str | None = None
    trigger: JsonObject = {}
    input: Any = None
    context: JsonObject = {}
    attributes: JsonObject = {}
    deadline: AwareDatetime | None = None
    parent: Parent | None = None
    origin_id: str | None = None
    stubs: JsonObject = {}
    admissions: tuple[Admission, ...] = ()


class ExecutionAdmitted(ExecutionEvent):
    """A queue has given it a place: it asks the next one, or its steps begin."""

    type: Literal["execution.admitted"] = "execution.admitted"
    queue_id: str
    begins: bool = True


class TasksPlanned(ExecutionEvent):
    """The steps that the definition describes as tasks, right after the start: people see them before they begin."""

    type: Literal["tasks.planned"] = "tasks.planned"
    tasks: tuple[PlannedTask, ...]


class StepAnnotated(ExecutionEvent):
    """What somebody says of a task; its course does not change."""

    type: Literal["step.annotated"] = "step.annotated"
    step_id: str
    changes: TaskChanges
    request_id: str
    by: str
    reason: str = ""


class StepOverdue(ExecutionEvent):
    """The due date of a task has passed, and it is not done. Once for each due date."""

    type: Literal["step.overdue"] = "step.overdue"
    step_id: str
    due_date: AwareDatetime


class StepsRestored(ExecutionEvent):
    """Steps that count as done or skipped because the execution goes on from a recorded one; follows the start."""

    type: Literal["steps.restored"] = "steps.restored"
    outputs: JsonObject = {}
    skipped: tuple[str, ...] = ()


class ExecutionRejected(ExecutionEvent):
    """A start that can't be carried out (unknown workflow or version, ...): the execution's first and last event."""

    type: Literal["execution.rejected"] = "execution.rejected"
    user_id: str
    organization_id: str
    project_id: str
    input: Any = None
    error: ErrorInfo
    parent: Parent | None = None


class BudgetNamed(Model):
    """A budget that an attempt has to ask. `limits` are those of the definition, if it says any."""

    budget_id: str
    scope: Scope
    name: str = ""
    limits: Limits | None = None


class BudgetGranted(ExecutionEvent):
    """The attempt may use that much of this budget; after the last of its budgets, it begins."""

    type: Literal["budget.granted"] = "budget.granted"
    step_id: str
    attempt: int
    budget_id: str
    allowance: Limits
    deadline: AwareDatetime | None = None


class BudgetAwaited(ExecutionEvent):
    """Nothing of this budget is left for the attempt: it waits until there is, or somebody raises it."""

    type: Literal["budget.awaited"] = "budget.awaited"
    step_id: str
    attempt: int
    budget_id: str
    reason: str


class StepStarted(ExecutionEvent):
    """An attempt began. `waits_for` says who wakes it; `wake_at` is the due time of a delay, `deadline` its time-out.

    A step that waits for a signal has the signal's name as its input, a loop its items (none if it runs until something
    holds). One that waits for a person was handed over to somebody. A step inside a loop is named with its turn:
    `LOOP[TURN].STEP`, turns counted from 0.
    """

    type: Literal["step.started"] = "step.started"
    step_id: str
    step_type: str
    run_id: str
    attempt: int
    waits_for: Literal["agent", "approval", "timer", "signal", "loop", "workflow", "budget", "person"] | None = None
    agent: str | None = None
    budgets: tuple[BudgetNamed, ...] = Field((), description="those that are asked, in turn, before the attempt begins")
    input: Any = None
    deadline: AwareDatetime | None = None
    wake_at: AwareDatetime | None = None


class StepCompleted(ExecutionEvent):
    """`agent`, here and where an attempt failed, is who did it, of a step that names capabilities and no agent."""

    type: Literal["step.completed"] = "step.completed"
    step_id: str
    attempt: int
    agent: str | None = None
    output: Any = None


class ModelsCalled(ExecutionEvent):
    """What an attempt's agent asked of language models; before the event that says how the attempt ended."""

    type: Literal["step.models_called"] = "step.models_called"
    step_id: str
    attempt: int
    calls: tuple[ModelCall, ...]


class StepAdvanced(ExecutionEvent):
    """An agent's conversation has come further; a later attempt goes on from there. See `AgentAdvanced`."""

    type: Literal["step.advanced"] = "step.advanced"
    step_id: str
    attempt: int
    turn: int
    holder: str
    said: JsonObject | None = None
    asked: tuple[ToolAsked, ...] = ()
    result: ToolResult | None = None
    begun: str = ""


class SuggestionMade(ExecutionEvent):
    """An agent suggests an action; the step waits for people. With a `comment`, if it was sent back before.

    With a `call_id` the action is a call of a tool that a person has to allow before it is made.
    """

    type: Literal["suggestion.made"] = "suggestion.made"
    step_id: str
    attempt: int
    suggestion_id: str
    revision: int
    agent: str
    action: str
    reasoning: str = ""
    confidence: float
    suggested_data: JsonObject = {}
    comment: str = ""
    deadline: AwareDatetime | None = None
    auto_approve_above: float | None = None
    call_id: str = ""


class SuggestionSentBack(ExecutionEvent):
    """A person's comment: the agent is asked again, and told what it had suggested and all comments."""

    type: Literal["suggestion.sent_back"] = "suggestion.sent_back"
    step_id: str
    suggestion_id: str
    revision: int
    by: str
    comment: str


class SuggestionApproved(ExecutionEvent):
    """What happens next is the action, with `data`: what the agent suggested, or what a person made of it.

    `revision` is the one that the person saw: the agent may have made another one in the same moment.
    """

    type: Literal["suggestion.approved"] = "suggestion.approved"
    step_id: str
    suggestion_id: str
    revision: int | None = None
    action: str
    data: JsonObject = {}
    by: str
    comment: str = ""


class SuggestionRefused(ExecutionEvent):
    """A call of a tool was not allowed; who wanted it hears that in place of a result."""

    type: Literal["suggestion.refused"] = "suggestion.refused"
    step_id: str
    suggestion_id: str
    by: str
    comment: str = ""


class ActionExecuted(ExecutionEvent):
    """The approved action has happened. `details` as the action gives them: of an e-mail its recipient and delivery id."""

    type: Literal["action.executed"] = "action.executed"
    step_id: str
    suggestion_id: str
    action: str
    result_type: str = Field(description="email_sent, webhook_called, tool_called")
    details: Any = None


class StepRetryScheduled(ExecutionEvent):
    """The attempt failed and another will begin at `retry_at`."""

    type: Literal["step.retry_scheduled"] = "step.retry_scheduled"
    step_id: str
    attempt: int
    agent: str | None = None
    error: ErrorInfo
    retry_at: AwareDatetime


class StepFailed(ExecutionEvent):
    """The last attempt failed. `then` says what that means for the rest.

    `end`: the execution fails. `continue`: the next steps begin, with the error as output. `catch`: its error steps begin
    and its next steps don't. `branch`: its branch of a parallel ends there. `wait`: a person has to retry or skip it.
    """

    type: Literal["step.failed"] = "step.failed"
    step_id: str
    attempt: int
    agent: str | None = None
    error: ErrorInfo
    then: Literal["end", "continue", "catch", "branch", "wait"] = "end"


class StepsSkipped(ExecutionEvent):
    """Steps that will not run: a branch not taken, the rest after an end, or what a join no longer needs."""

    type: Literal["steps.skipped"] = "steps.skipped"
    step_ids: tuple[str, ...]
    reason: Literal["branch_not_taken", "execution_ended", "not_needed"]


class StepsCancelled(ExecutionEvent):
    """Steps that were under way and are given up; their answers will be ignored."""

    type: Literal["steps.cancelled"] = "steps.cancelled"
    step_ids: tuple[str, ...]


class StatusChanged(ExecutionEvent):
    """`waiting` when nothing but people and timers can move the execution, `running` when work is under way again."""

    type: Literal["execution.status_changed"] = "execution.status_changed"
    status: Literal["running", "waiting"]


class ExecutionPaused(ExecutionEvent):
    """What runs goes on to its end; nothing new begins until it is resumed."""

    type: Literal["execution.paused"] = "execution.paused"
    by: str
    reason: str


class ExecutionResumed(ExecutionEvent):
    type: Literal["execution.resumed"] = "execution.resumed"
    by: str
    reason: str


class SignalReceived(ExecutionEvent):
    """Kept until a step that waits for a signal of that name takes it; first come, first served."""

    type: Literal["signal.received"] = "signal.received"
    signal: str
    data: Any = None
    by: str
    request_id: str = ""


class StepSteered(ExecutionEvent):
    """A person has changed the course of a step: retried, skipped or edited it, or rewound the execution to it; completed or
    failed it, or handed it over to another agent or to a person.

    What that leads to follows as events of its own. `agent` and `assignee` are who has a step from now on; of one that was
    completed or failed, `agent` is who answered for itself. `step_ids` of a rewind are the steps that are as if they had never
    begun; what was under way among them was cancelled before.
    """

    type: Literal["step.steered"] = "step.steered"
    action: Literal["retry", "skip", "edit", "rewind", "complete", "fail", "reassign"]
    step_id: str
    step_ids: tuple[str, ...] = ()
    request_id: str
    by: str
    reason: str
    data: Any = Field(None, description="of a retry: what the calls gave whose outcome nobody knew")
    agent: str = ""
    assignee: str = ""


class VersionChanged(ExecutionEvent):
    """The execution goes on with another version of its workflow, from the same place."""

    type: Literal["execution.version_changed"] = "execution.version_changed"
    workflow_version: int
    request_id: str
    by: str
    reason: str


class CompensationStarted(ExecutionEvent):
    """The execution is about to end as `outcome`; before that, what was done is undone, latest first, by `step_ids`."""

    type: Literal["compensation.started"] = "compensation.started"
    outcome: Literal["failed", "cancelled", "timed_out"]
    step_ids: tuple[str, ...]
    step_id: str | None = None
    error: ErrorInfo | None = None
    by: str = ""
    reason: str = ""


class ExecutionCompleted(ExecutionEvent):
    type: Literal["execution.completed"] = "execution.completed"
    result: Any = None


class ExecutionFailed(ExecutionEvent):
    type: Literal["execution.failed"] = "execution.failed"
    step_id: str | None = None
    error: ErrorInfo


class ExecutionCancelled(ExecutionEvent):
    type: Literal["execution.cancelled"] = "execution.cancelled"
    by: str
    reason: str


class ExecutionTimedOut(ExecutionEvent):
    type: Literal["execution.timed_out"] = "execution.timed_out"
    error: ErrorInfo


AnyExecutionEvent = (
    ExecutionStarted
    | ExecutionRejected
    | StepStarted
    | StepCompleted
    | ModelsCalled
    | StepAdvanced
    | BudgetGranted
    | BudgetAwaited
    | SuggestionMade
    | SuggestionSentBack
    | SuggestionApproved
    | SuggestionRefused
    | ActionExecuted
    | StepRetryScheduled
    | StepFailed
    | StepsSkipped
    | StepsCancelled
    | StatusChanged
    | ExecutionPaused
    | ExecutionResumed
    | SignalReceived
    | ExecutionAdmitted
    | TasksPlanned
    | StepAnnotated
    | StepOverdue
    | StepsRestored
    | StepSteered
    | VersionChanged
    | CompensationStarted
    | ExecutionCompleted
    | ExecutionFailed
    | ExecutionCancelled
    | ExecutionTimedOut
)


class ExecutionRecord(Record):
    """One journal record: everything that one input made of one execution."""

    events: tuple[
        Annotated[AnyExecutionEvent | AnyScheduleEvent | AnyQueueEvent | AnyBudgetEvent, Field(discriminator="type")],
        ...,
    ] = ()
