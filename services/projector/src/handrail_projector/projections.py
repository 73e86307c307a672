"""Facts to rows, without I/O: what a batch of records changes in the read models.

The result depends on the log alone, never on how it was cut into batches: within a batch, changes to one row are merged
in order; across batches the statements in `sql/` merge the same way. Journal bodies are read with orjson and not with the
models: their writer has validated them, and this is where most of the projector's time would go. What a column could not
hold is found here all the same, so that merging never hides it; such a record raises `Unreadable`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from handrail_contracts import topics
from handrail_contracts.approvals import CommentAdded
from handrail_contracts.budgets import BudgetSet, budget_id
from handrail_contracts.codec import DecodeError, decode
from handrail_contracts.identity import ApiKeyDefined, ApiKeyUsed
from handrail_contracts.platform import DeadLetter
from handrail_contracts.runners import AgentHeartbeat, RunnerStatus
from handrail_contracts.steps import AgentRegistered
from handrail_contracts.tasks import TaskCommented
from handrail_contracts.triggers import SCHEDULE_PREFIX, ScheduleDefined
from handrail_contracts.workflows import RolloutSet, WorkflowDefined, WorkflowStarted

from handrail_projector.agent_facts import Work, told_of_agents
from handrail_projector.approval_facts import Approvals
from handrail_projector.budget_facts import key_of, row_of
from handrail_projector.columns import (
    NUL,
    Row,
    Unreadable,
    as_count,
    as_foreign_json,
    as_moment,
    as_text,
    as_time,
    source_of,
    storable,
    without_nul,
)
from handrail_projector.execution_facts import (
    EXECUTION_EVENTS,
    ExecutionChange,
    ExecutionRow,
    StepChange,
    StepRow,
    Told,
)
from handrail_projector.task_facts import TaskSaid


@dataclass(slots=True)
class Batch:
    """Everything that a batch of records changes, by row."""

    pending: dict[str, Row] = field(default_factory=dict)
    executions: dict[str, tuple[ExecutionRow | None, ExecutionChange]] = field(default_factory=dict)
    steps: dict[tuple[str, str], tuple[StepRow | None, StepChange]] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)
    approvals: Approvals = field(default_factory=Approvals)
    versions: dict[tuple[str, int], Row] = field(default_factory=dict)
    agents: dict[str, Row | None] = field(default_factory=dict)
    """None: removed."""
    work: Work = field(default_factory=Work)
    runners: dict[str, Row | None] = field(default_factory=dict)
    """None: stopped."""
    letters: dict[str, Row] = field(default_factory=dict)
    schedules: dict[tuple[str, str, str], Row] = field(default_factory=dict)
    """By schedule and tenant: who may not change it does not hide who may."""
    schedule_runs: dict[str, Row] = field(default_factory=dict)
    rollouts: dict[str, Row] = field(default_factory=dict)
    budgets: dict[str, Row] = field(default_factory=dict)
    budget_uses: dict[tuple[str, str, str, int], Row] = field(default_factory=dict)
    keys: dict[str, Row] = field(default_factory=dict)
    key_uses: dict[str, Row] = field(default_factory=dict)
    tasks: dict[tuple[str, str], TaskSaid] = field(default_factory=dict)
    task_comments: dict[str, Row] = field(default_factory=dict)
    agent_beats: dict[tuple[str, str, str], Row] = field(default_factory=dict)

    def add(self, topic: str, partition: int, offset: int, value: bytes | None, chain: str = "") -> None:
        """Takes one record in, in the order of its partition. Raises `Unreadable` and then has changed nothing."""
        try:
            if topic == topics.EXECUTION_EVENTS:
                self._add_execution(partition, offset, value or b"")
            elif topic == topics.APPROVAL_EVENTS:
                self._add_approval(partition, offset, value or b"", chain)
            else:
                _MESSAGES[topic](self, decode(topic, storable(value)))
        except DecodeError as error:
            raise Unreadable(error.code, str(error)) from error
        except orjson.JSONDecodeError as error:
            raise Unreadable("MALFORMED_JSON", f"a record of {topic} is not JSON: {error}") from error
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise Unreadable("INVALID_MESSAGE", f"{topic}: {error!r}") from error

    def _add_execution(self, partition: int, offset: int, value: bytes) -> None:
        raw = orjson.loads(value)
        events = raw.get("events")
        if not events:
            return
        record = without_nul(raw) if NUL in value else raw
        told = Told(as_text(record["execution_id"]), as_text(record["workflow_id"]), as_time(record["at"]))
        for event in record["events"]:
            EXECUTION_EVENTS[event["type"]](told, event)
        of_agents = told_of_agents(told.execution_id, partition, told.at, record["events"])
        place = (as_count(events[0]["n"]), as_count(events[-1]["n"]), partition, offset, told.at, source_of(record))
        self.history.append((told.execution_id, *place, orjson.dumps(events).decode()))
        self._merge(told)
        self.work.merge(of_agents)

    def _merge(self, told: Told) -> None:
        for run in told.schedule_runs:
            so_far = self.schedule_runs.get(run[0], (None,) * len(run))
            kept = [new if new is not None else old for new, old in zip(run, so_far, strict=True)]
            self.schedule_runs[run[0]] = (*kept[:1], run[1], *kept[2:])
        for event in told.budgets:
            use = key_of(told.execution_id, event)
            self.budget_uses[use] = row_of(told.execution_id, event, told.at, self.budget_uses.get(use))
        for step_id, said in told.tasks:
            task = self.tasks.get((told.execution_id, step_id))
            self.tasks[told.execution_id, step_id] = said if task is None else _merged(task, said)
        for whole, done in told.executions:
            row, before = self.executions.get(told.execution_id, (None, None))
            if whole is not None or before is None:
                self.executions[told.execution_id] = (whole, done)
            else:
                self.executions[told.execution_id] = (row, _merged(before, done))
        for step_id, begun, change in told.steps:
            key = (told.execution_id, step_id)
            known, earlier = self.steps.get(key, (None, None))
            if begun is not None:
                if known is not None:
                    begun.first_n = known.first_n
                self.steps[key] = (begun, change)
            else:
                self.steps[key] = (known, change if earlier is None else _merged(earlier, change))

    def _add_approval(self, partition: int, offset: int, value: bytes, chain: str) -> None:
        raw = orjson.loads(value)
        self.approvals.add(without_nul(raw) if NUL in value else raw, raw, (partition, offset), chain)


def _merged(before: Any, after: Any) -> Any:
    for name in before.__slots__:
        if getattr(after, name) is None:
            setattr(after, name, getattr(before, name))
    return after


# --- messages of one row ------------------------------------------------------------------------------------------------


def _add_started(batch: Batch, m: WorkflowStarted) -> None:
    version = None if m.workflow_version is None else as_count(m.workflow_version)
    tenant = (m.user_id, m.organization_id, m.project_id)
    said = (
        as_foreign_json(m.trigger),
        None if m.input is None else as_foreign_json(m.input),
        as_foreign_json(m.context),
    )
    row = (m.execution_id, m.workflow_id, version, *tenant, m.session_id, *said, as_moment(m.occurred_at))
    batch.pending.setdefault(m.execution_id, row)


def _add_defined(batch: Batch, m: WorkflowDefined | RolloutSet | BudgetSet) -> None:
    if isinstance(m, BudgetSet):
        _add_budget(batch, m)
        return
    if isinstance(m, RolloutSet):
        versions = [None if version is None else as_count(version) for version in (m.stable, m.canary)]
        said = (m.organization_id, m.project_id, *versions, m.percent, as_moment(m.occurred_at))
        batch.rollouts[m.workflow_id] = (m.workflow_id, *said)
        return
    tenant = (m.user_id, m.organization_id, m.project_id)
    said = (m.name, as_foreign_json(m.definition), m.active, m.event_id, as_moment(m.occurred_at))
    batch.versions.setdefault((m.workflow_id, m.version), (m.workflow_id, as_count(m.version), *tenant, *said))


def _add_budget(batch: Batch, m: BudgetSet) -> None:
    """Not under another's id: the scheduler goes by it no more."""
    limits = as_foreign_json(m.limits.model_dump(exclude_none=True))
    whose = (m.organization_id, m.project_id)
    if m.budget_id == budget_id(m.scope, m.name, *whose):
        said = (limits, m.period, m.user_id, m.removed, as_moment(m.occurred_at))
        batch.budgets[m.budget_id] = (m.budget_id, m.scope, m.name, *whose, *said)


def _add_agent(batch: Batch, m: AgentRegistered) -> None:
    said = (m.kind, m.name, m.description, list(m.capabilities), m.organization_id, m.project_id)
    row = (m.agent, *said, as_foreign_json(m.config), as_moment(m.occurred_at), as_foreign_json(m.history))
    batch.agents[m.agent] = None if m.removed else row


def _add_comment(batch: Batch, m: CommentAdded | TaskCommented) -> None:
    """Those on gates and suggestions are in the journal of approvals."""
    if isinstance(m, TaskCommented):
        place = (m.organization_id, m.project_id, m.execution_id, m.step_id, m.task_id)
        said = (m.author_id or m.user_id, m.author_type, m.author_name, m.text, as_moment(m.occurred_at))
        batch.task_comments.setdefault(m.event_id, (m.event_id, *place, *said))


def _add_runner(batch: Batch, m: RunnerStatus | AgentHeartbeat) -> None:
    if isinstance(m, AgentHeartbeat):
        whose = (m.agent, m.organization_id, m.project_id)
        batch.agent_beats[whose] = (*whose, m.status, m.every_seconds, as_moment(m.occurred_at))
        return
    told = [[each.model_dump(exclude_none=True) for each in several] for several in (m.agents, m.chosen)]
    row = (m.runner_id, as_moment(m.occurred_at), m.every_seconds, as_count(m.running), *map(as_foreign_json, told))
    batch.runners[m.runner_id] = None if m.stopped else row


def _add_key(batch: Batch, m: ApiKeyDefined) -> None:
    """Without the digests: whoever reads the read models has no use for them."""
    may = (m.name, list(m.roles), list(m.permissions), as_count(m.version))
    until = None if m.earlier is None else as_moment(m.earlier.until)
    made = (m.signs, m.made_by, as_moment(m.made_at), m.user_id, as_moment(m.occurred_at))
    ends = (None if m.expires_at is None else as_moment(m.expires_at), m.revoked)
    batch.keys[m.key_id] = (m.key_id, m.organization_id, m.project_id, *may, until, *made, *ends)


def _add_key_use(batch: Batch, m: ApiKeyUsed) -> None:
    batch.key_uses[m.key_id] = (m.key_id, as_moment(m.occurred_at))


def _add_schedule(batch: Batch, m: ScheduleDefined) -> None:
    """Not by whose id is none: the scheduler refuses it, too."""
    if not m.execution_id.startswith(SCHEDULE_PREFIX):
        return
    schedule_id = m.execution_id.removeprefix(SCHEDULE_PREFIX)
    version = None if m.workflow_version is None else as_count(m.workflow_version)
    tenant = (m.user_id, m.organization_id, m.project_id)
    said = (
        as_foreign_json(m.timetable.model_dump(mode="json", exclude_none=True)),
        None if m.input is None else as_foreign_json(m.input),
        as_foreign_json(m.context),
    )
    policies = (m.overlap, m.missed, m.paused, m.removed, m.note, as_moment(m.occurred_at))
    key = (schedule_id, m.organization_id, m.project_id)
    batch.schedules[key] = (schedule_id, m.workflow_id, version, *tenant, *said, *policies)


def _add_letter(batch: Batch, m: DeadLetter) -> None:
    place = (m.topic, m.partition, m.offset, m.execution_id, as_moment(m.occurred_at))
    batch.letters.setdefault(m.event_id, (m.event_id, m.service, m.code, m.reason, *place))


_MESSAGES: dict[str, Callable[[Batch, Any], None]] = {
    topics.WORKFLOW_STARTED: _add_started,
    topics.WORKFLOW_DEFINED: _add_defined,
    topics.AGENT_REGISTERED: _add_agent,
    topics.RUNNER_STATUS: _add_runner,
    topics.COMMENT_ADDED: _add_comment,
    topics.SCHEDULE_DEFINED: _add_schedule,
    topics.API_KEY_DEFINED: _add_key,
    topics.API_KEY_USED: _add_key_use,
    topics.DEAD_LETTERS: _add_letter,
}
