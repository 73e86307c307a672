"""The definitions that executions run: every version ever saved, compiled when first needed."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from handrail_contracts.budgets import BudgetSet, Limits, Scope, budget_id
from handrail_contracts.envelope import ErrorInfo, Tenant
from handrail_contracts.execution_events import BudgetNamed
from handrail_contracts.workflows import RolloutSet, WorkflowDefined
from handrail_graph import DefinitionError, Graph, TriggerParameters, compile_workflow, may_have_trigger


@dataclass(slots=True)
class Definition:
    """One version of a workflow."""

    defined: WorkflowDefined
    _compiled: Graph | ErrorInfo | None = field(default=None)

    @property
    def version(self) -> int:
        return self.defined.version

    def belongs_to(self, tenant: Tenant) -> bool:
        return (self.defined.organization_id, self.defined.project_id) == (tenant.organization_id, tenant.project_id)

    def graph(self) -> Graph | ErrorInfo:
        """The graph, or why there is none (a definition that was published past the gateway may not compile)."""
        if self._compiled is None:
            self._compiled = _compile(self.defined)
        return self._compiled


def _compile(defined: WorkflowDefined) -> Graph | ErrorInfo:
    try:
        return compile_workflow(defined.definition)
    except DefinitionError as error:
        problem = error.problems[0]
        where = f"workflow {defined.workflow_id} version {defined.version}"
        return ErrorInfo(code="INVALID_WORKFLOW", message=f"{where}: {problem.path}: {problem.message}")


class Definitions:
    """A table that only gains entries: the first message of a (workflow, version) wins, for ever.

    How starts are shared between two versions may change; each execution pins the one that it was given.
    """

    def __init__(self) -> None:
        self._versions: dict[tuple[str, int], Definition] = {}
        self._newest: dict[str, int] = {}
        self._rollouts: dict[str, RolloutSet] = {}
        self._by_events: dict[tuple[str, str], dict[str, None]] = {}
        self._budgets: dict[str, BudgetSet] = {}

    def add(self, defined: WorkflowDefined | RolloutSet | BudgetSet) -> None:
        if isinstance(defined, RolloutSet):
            self._rollouts[defined.workflow_id] = defined
            return
        if isinstance(defined, BudgetSet):
            self._set_budget(defined)
            return
        place = (defined.workflow_id, defined.version)
        if place not in self._versions:
            self._versions[place] = Definition(defined)
            self._newest[defined.workflow_id] = max(defined.version, self._newest.get(defined.workflow_id, 0))
            if may_have_trigger(defined.definition):
                whose = (defined.organization_id, defined.project_id)
                self._by_events.setdefault(whose, {})[defined.workflow_id] = None

    def _set_budget(self, budget: BudgetSet) -> None:
        """One under another's id counts for nobody."""
        if budget.budget_id != budget_id(budget.scope, budget.name, budget.organization_id, budget.project_id):
            return
        if budget.removed:
            self._budgets.pop(budget.budget_id, None)
        else:
            self._budgets[budget.budget_id] = budget

    @property
    def has_budgets(self) -> bool:
        return bool(self._budgets)

    def budget(self, identifier: str) -> BudgetSet | None:
        return self._budgets.get(identifier)

    def budgets_of(
        self, tenant: Tenant, execution_id: str, workflow_id: str, agent: str, own: Limits | None
    ) -> list[BudgetNamed]:
        """Those that an attempt has to ask, the narrowest first; `own` is what the definition allows one execution."""
        named: list[tuple[Scope, str]] = [
            ("execution", execution_id), ("workflow", workflow_id), ("agent", agent), ("tenant", ""),
        ]  # fmt: skip
        found = []
        for scope, name in named:
            identifier = budget_id(scope, name, tenant.organization_id, tenant.project_id)
            limits = own if scope == "execution" else None
            if identifier in self._budgets or limits is not None:
                found.append(BudgetNamed(budget_id=identifier, scope=scope, name=name, limits=limits))
        return found

    def started_by_events(self, tenant: Tenant) -> Iterator[tuple[str, int, TriggerParameters]]:
        """The workflows of the tenant that wait for events, in their newest versions."""
        for workflow_id in self._by_events.get((tenant.organization_id, tenant.project_id), ()):
            newest = self.find(workflow_id, None)
            graph = None if newest is None else newest.graph()
            trigger = graph.trigger if isinstance(graph, Graph) else None
            if newest is not None and trigger is not None and trigger.kind == "event":
                yield workflow_id, newest.version, trigger

    def for_start(self, workflow_id: str, version: int | None, execution_id: str) -> Definition | None:
        """The version that an execution begins with: the one that was asked for, else the rollout's, else the newest."""
        rollout = self._rollouts.get(workflow_id)
        newest = self.find(workflow_id, None)
        if version is None and rollout is not None and newest is not None and newest.belongs_to(rollout):
            version = rollout.version_for(execution_id)
        return self.find(workflow_id, version)

    def find(self, workflow_id: str, version: int | None) -> Definition | None:
        """A version, or the newest; none if the workflow was retired (its newest version is not active)."""
        if version is not None:
            return self._versions.get((workflow_id, version))
        newest = self._versions.get((workflow_id, self._newest.get(workflow_id, 0)))
        return newest if newest is not None and newest.defined.active else None
