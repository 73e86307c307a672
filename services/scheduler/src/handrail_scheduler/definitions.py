"""The definitions that executions run: every version ever saved, compiled when first needed."""

from dataclasses import dataclass, field

from handrail_contracts.envelope import ErrorInfo, Tenant
from handrail_contracts.workflows import WorkflowDefined
from handrail_graph import DefinitionError, Graph, compile_workflow


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
    """A table that only gains entries: the first message of a (workflow, version) wins, for ever."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, int], Definition] = {}
        self._newest: dict[str, int] = {}

    def add(self, defined: WorkflowDefined) -> None:
        place = (defined.workflow_id, defined.version)
        if place not in self._versions:
            self._versions[place] = Definition(defined)
            self._newest[defined.workflow_id] = max(defined.version, self._newest.get(defined.workflow_id, 0))

    def find(self, workflow_id: str, version: int | None) -> Definition | None:
        """A version, or the newest; none if the workflow was retired (its newest version is not active)."""
        if version is not None:
            return self._versions.get((workflow_id, version))
        newest = self._versions.get((workflow_id, self._newest.get(workflow_id, 0)))
        return newest if newest is not None and newest.defined.active else None
