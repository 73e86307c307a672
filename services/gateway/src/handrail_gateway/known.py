"""Workflows that were seen lately: with them, executions can be started while the database is away."""

from collections import OrderedDict
from dataclasses import dataclass, field

from handrail_gateway.identity.caller import Caller

Key = tuple[str, str, str]


@dataclass(slots=True)
class KnownWorkflows:
    """The newest version of each, as last read; None for one that was deleted."""

    limit: int = 10_000
    _versions: "OrderedDict[Key, int | None]" = field(default_factory=OrderedDict)

    def remember(self, caller: Caller, workflow_id: str, version: int | None) -> None:
        key = (caller.organization_id, caller.project_id, workflow_id)
        self._versions[key] = version
        self._versions.move_to_end(key)
        while len(self._versions) > self.limit:
            self._versions.popitem(last=False)

    def get(self, caller: Caller, workflow_id: str) -> int | None:
        return self._versions.get((caller.organization_id, caller.project_id, workflow_id))
