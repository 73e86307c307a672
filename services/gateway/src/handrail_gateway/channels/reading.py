"""Messages about what has changed, from the read models: a few queries for all that changed together."""

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import islice

import structlog
from handrail_contracts.envelope import utc
from handrail_graph import DefinitionError, compile_workflow

from handrail_gateway.answers import parsed
from handrail_gateway.channels.changes import Changes, Tenant
from handrail_gateway.channels.messages import (
    AGENTS,
    APPROVALS,
    CARRIED_BY,
    SUGGESTIONS,
    TASKS,
    WORKFLOWS,
    Message,
    Plan,
    agent_status,
    approval_update,
    desk_update,
    suggestion_created,
    task_update,
    workflow_update,
)
from handrail_gateway.database import Row
from handrail_gateway.waiting import Fetch

log = structlog.get_logger()

TOGETHER = 500
"""Executions or gates in one query."""
PLANS = 1_000


class Reading:
    def __init__(self, database: Fetch) -> None:
        self._database = database
        self._plans: OrderedDict[tuple[str, int], Plan] = OrderedDict()

    async def owners(self, executions: Collection[str]) -> dict[str, Tenant]:
        """Whose they are. What is no execution (a schedule, a budget) is nobody's."""
        rows = await self._database.fetch("channel_owners", list(executions))
        return {row["execution_id"]: (row["organization_id"], row["project_id"]) for row in rows}

    async def messages(self, tenant: Tenant, changes: Changes, channels: Collection[str]) -> list[Message]:
        """Those that these channels carry, each object once. Raises a 503 `Problem` while the database is away."""
        found: list[Message] = []
        agents = dict(changes.agents)
        if not {WORKFLOWS, TASKS, AGENTS}.isdisjoint(channels):
            for several in _pieces(changes.executions):
                found += await self._of_executions(tenant, changes, several, agents)
        if not {SUGGESTIONS, APPROVALS}.isdisjoint(channels):
            for several in _pieces(changes.gates):
                found += await self._of_gates(tenant, changes, several)
        if AGENTS in channels:
            for several in _pieces(agents):
                found += await self._of_agents(tenant, several, agents)
        return [each for each in found if not set(CARRIED_BY[each.type]).isdisjoint(channels)]

    async def _of_executions(
        self, tenant: Tenant, changes: Changes, executions: list[str], agents: dict[str, str]
    ) -> list[Message]:
        """Also notes the agents that were at work on what has changed."""
        rows = await self._database.fetch("channel_executions", *tenant, executions)
        plans = {row["execution_id"]: await self._plan(tenant, row) for row in rows}
        steps, work = await asyncio.gather(
            self._steps(tenant, changes, plans), self._database.fetch("channel_work", *tenant, list(plans))
        )
        at_work = _by_execution(work)
        found: list[Message] = []
        for row in rows:
            name = row["execution_id"]
            change, plan = changes.executions[name], plans[name]
            changed = [step for step in steps[name] if step["step_id"] in change.steps]
            agents |= {step["agent"]: change.at for step in (*changed, *at_work[name]) if step["agent"]}
            found += [task_update(step, change.at) for step in changed if step["task_id"]]
            planned = [step for step in steps[name] if step["step_id"] in plan.steps]
            found.append(workflow_update(row, plan, planned, at_work[name], change.at))
            found += [each for each in (desk_update(row, change.at),) if each is not None]
        return found

    async def _steps(self, tenant: Tenant, changes: Changes, plans: dict[str, Plan]) -> dict[str, list[Row]]:
        wanted = [
            (name, step) for name, plan in plans.items() for step in changes.executions[name].steps.union(plan.steps)
        ]
        pairs = [name for name, _ in wanted], [step for _, step in wanted]
        return _by_execution(await self._database.fetch("channel_steps", *tenant, *pairs))

    async def _plan(self, tenant: Tenant, row: Row) -> Plan:
        version = row["workflow_version"]
        if version is None:
            return Plan()
        key = (row["workflow_id"], version)
        if key not in self._plans:
            saved = await self._database.fetch("workflow_version", *tenant, *key)
            if not saved:
                return Plan()  # on its way
            self._plans[key] = await asyncio.to_thread(_planned, saved[0])
            while len(self._plans) > PLANS:
                self._plans.popitem(last=False)
        return self._plans[key]

    async def _of_gates(self, tenant: Tenant, changes: Changes, gates: list[str]) -> list[Message]:
        found: list[Message] = []
        for row in await self._database.fetch("channel_gates", *tenant, gates):
            if row["suggestion"] is not None and changes.gates[row["approval_id"]].suggested:
                found.append(suggestion_created(row))
            found.append(approval_update(row))
        return found

    async def _of_agents(self, tenant: Tenant, names: list[str], at: dict[str, str]) -> list[Message]:
        now = utc(time.time())
        rows = await self._database.fetch("agents", *tenant, now, names, None, None, None, None, len(names))
        return [agent_status(row, at[row["agent"]]) for row in rows]


def _pieces(names: Iterable[str]) -> Iterable[list[str]]:
    left = iter(names)
    while several := list(islice(left, TOGETHER)):
        yield several


def _by_execution(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["execution_id"]].append(row)
    return found


def _planned(row: Row) -> Plan:
    try:
        graph = compile_workflow(parsed(row["definition"]))
    except DefinitionError as error:
        log.warning("plan_unreadable", workflow_id=row["workflow_id"], version=row["version"], error=str(error))
        return Plan()
    steps = [step_id for step_id in graph.order if graph.nodes[step_id].type != "trigger"]
    return Plan(tuple(steps), tuple(sorted(graph.agents)))
