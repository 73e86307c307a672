"""What agents may use, in tokens, money, model calls and time: of an execution, a workflow, an agent, or the whole tenant."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from handrail_contracts.budgets import BudgetRaised, BudgetSet, Limits, Period, Scope, budget_id
from handrail_contracts.envelope import utc
from handrail_contracts.ids import derive
from handrail_contracts.topics import ADMISSION, WORKFLOW_DEFINED

from handrail_gateway.answers import Answer
from handrail_gateway.database import Row
from handrail_gateway.gateway import CallerDep, Gateway, GatewayDep
from handrail_gateway.idempotency import Key, request_id
from handrail_gateway.identity.caller import Caller
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.problems import invalid, not_found
from handrail_gateway.schemas import Budget, BudgetPage, BudgetRequest

router = APIRouter(prefix="/budgets", tags=["budgets"])

BudgetName = Annotated[
    str, Path(alias="name", min_length=1, max_length=200, description="an id or a name; of the tenant's own, `all`")
]
ALL = "all"


@router.get("", response_model=BudgetPage)
async def list_budgets(gateway: GatewayDep, caller: CallerDep, limit: Limit = 50, cursor: CursorText = None) -> Answer:
    """Those that somebody has set, with what was used of them."""
    after = decode_cursor(cursor, str, str)
    rows = await _look(gateway, caller, None, after, limit + 1)
    kept, next_cursor = page(rows, limit, lambda row: (row["scope"], row["name"]))
    return Answer({"items": [_shown(row) for row in kept], "next_cursor": next_cursor})


@router.get("/{scope}/{name}", response_model=Budget)
async def get_budget(scope: Scope, name: BudgetName, gateway: GatewayDep, caller: CallerDep) -> Answer:
    """With the attempts that it is open for, and those that wait for it."""
    return Answer(await _whole(gateway, caller, _id(caller, scope, name), name))


@router.put("/{scope}/{name}", response_model=Budget)
async def set_budget(
    scope: Scope, name: BudgetName, body: BudgetRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Answer:
    """Sets it, or changes what it allows. Whoever waits for it goes on where he stood, if something is left now."""
    if not body.limits.model_dump(exclude_none=True):
        raise invalid("Say what it allows.", [{"path": "limits", "message": "one of tokens, cost_usd, calls, seconds"}])
    await _publish(gateway, caller, scope, name, body.limits, body.period, key)
    return Answer(await _whole(gateway, caller, _id(caller, scope, name), name))


@router.delete("/{scope}/{name}", status_code=204, response_class=Response)
async def remove_budget(
    scope: Scope, name: BudgetName, gateway: GatewayDep, caller: CallerDep, key: Key = None
) -> Response:
    """Nothing is limited by it any more; an execution's own definition counts again."""
    await _whole(gateway, caller, _id(caller, scope, name), name)
    await _publish(gateway, caller, scope, name, Limits(), "total", key, removed=True)
    return Response(status_code=204)


def _id(caller: Caller, scope: Scope, name: str) -> str:
    return budget_id(scope, "" if scope == "tenant" else name, caller.organization_id, caller.project_id)


async def _publish(
    gateway: Gateway,
    caller: Caller,
    scope: Scope,
    name: str,
    limits: Limits,
    period: Period,
    key: str | None,
    *,
    removed: bool = False,
) -> None:
    """First what counts, then the word that it has changed."""
    identifier, tenant = _id(caller, scope, name), caller.tenant.model_dump()
    request = request_id(caller, f"budgets/{scope}/{name}/{'delete' if removed else 'put'}", key)
    message = BudgetSet(
        **tenant,
        event_id=request,
        occurred_at=utc(gateway.now()),
        budget_id=identifier,
        scope=scope,
        name="" if scope == "tenant" else name,
        limits=limits,
        period=period,
        removed=removed,
    )
    partition, offset = await gateway.publisher.publish(WORKFLOW_DEFINED, identifier, message)
    raised = BudgetRaised(
        **tenant,
        event_id=derive(request, "raised"),
        occurred_at=message.occurred_at,
        execution_id=identifier,
        workflow_id=scope,
    )
    await gateway.publisher.publish(ADMISSION, identifier, raised)
    await gateway.positions.wait({(WORKFLOW_DEFINED, partition): offset + 1})


async def _look(
    gateway: Gateway, caller: Caller, identifier: str | None, after: Sequence[Any], limit: int
) -> list[Row]:
    whose = (caller.organization_id, caller.project_id, identifier)
    return list(await gateway.database.fetch("list_budgets", *whose, *after, utc(gateway.now()), limit))


async def _whole(gateway: Gateway, caller: Caller, identifier: str, name: str) -> dict[str, Any]:
    async def look() -> Row | None:
        return next(iter(await _look(gateway, caller, identifier, (None, None), 1)), None)

    found = await gateway.reads.find(look, WORKFLOW_DEFINED, [0])
    if found is None:
        raise not_found("budget", name)
    uses = await gateway.database.fetch("budget_use", identifier)
    return {**_shown(found), "attempts": [dict(use) for use in uses]}


def _shown(row: Row) -> dict[str, Any]:
    used = {name: row[name] for name in ("tokens", "cost_usd", "calls", "seconds")}
    kept = {name: row[name] for name in ("scope", "limits", "period", "open", "waiting", "set_by", "set_at")}
    return {**kept, "name": row["name"] or ALL, "used": used}
