"""What each role may, and what each route needs. Nothing else in the gateway decides that.

A route without a line in `RULES` keeps the gateway from starting. Rules name paths as the routers do, without `/api/v1`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import structlog
from fastapi import FastAPI
from fastapi.openapi.models import HTTPBearer as BearerScheme
from fastapi.routing import iter_route_contexts
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from handrail_gateway.identity.caller import Caller, Permission
from handrail_gateway.metrics import FORBIDDEN
from handrail_gateway.problems import Problem

log = structlog.get_logger()

READ, OPERATE, DECIDE, BUILD = Permission.READ, Permission.OPERATE, Permission.DECIDE, Permission.BUILD
ADMINISTER, SERVE = Permission.ADMINISTER, Permission.CUSTOMER_SERVICE

ROLES: Mapping[str, frozenset[Permission]] = {
    "viewer": frozenset({READ}),
    "operator": frozenset({READ, OPERATE, Permission.CUSTOMER_SERVICE, Permission.PRIORITY}),
    "approver": frozenset({READ, DECIDE}),
    "builder": frozenset({READ, OPERATE, BUILD}),
    "admin": frozenset(Permission),
}

CALLER = "handrail.caller"
"""Where the gate puts the caller into the scope."""

OPEN = frozenset(
    {
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/asyncapi.json",
        "/docs",
        "/hooks/{workflow_id}/{token}",
        "/decide/{token}",
    }
)
"""Every route that answers without a caller. A webhook's address and signature are its proof; so is a decision link."""

RULES: Mapping[str, Permission] = {
    "GET /workflows": READ,
    "GET /workflows/list": READ,
    "GET /workflows/{workflow_id}": READ,
    "GET /workflows/{workflow_id}/executions": READ,
    "GET /workflows/{workflow_id}/versions": READ,
    "GET /workflows/{workflow_id}/diff": READ,
    "GET /workflows/{workflow_id}/rollout": READ,
    "GET /workflows/{workflow_id}/stats": READ,
    "GET /workflows/{workflow_id}/export": READ,
    "GET /workflows/{workflow_id}/canvas": READ,
    "GET /workflows/executions/{execution_id}": READ,
    "GET /workflows/step-types": READ,
    "GET /workflows/resources/agents": READ,
    "GET /workflows/resources/tools": READ,
    "GET /workflows/resources/mcps": READ,
    "GET /workflows/templates": READ,
    "GET /workflows/templates/{template_id}": READ,
    "GET /workflows/{workflow_id}/webhook": BUILD,  # it shows the secret
    "POST /workflows": BUILD,
    "POST /workflows/create": BUILD,
    "PUT /workflows/{workflow_id}": BUILD,
    "DELETE /workflows/{workflow_id}": BUILD,
    "POST /workflows/{workflow_id}/validate": BUILD,
    "POST /workflows/{workflow_id}/copy": BUILD,
    "POST /workflows/{workflow_id}/steps": BUILD,
    "POST /workflows/{workflow_id}/steps/reorder": BUILD,
    "PUT /workflows/{workflow_id}/steps/{step_id}": BUILD,
    "DELETE /workflows/{workflow_id}/steps/{step_id}": BUILD,
    "POST /workflows/{workflow_id}/steps/{step_id}/connect": BUILD,
    "PUT /workflows/{workflow_id}/canvas": BUILD,
    "PUT /workflows/{workflow_id}/nodes/{node_id}/position": BUILD,
    "POST /workflows/{workflow_id}/versions/{version}/restore": BUILD,
    "PUT /workflows/{workflow_id}/rollout": BUILD,
    "DELETE /workflows/{workflow_id}/rollout": BUILD,
    "POST /workflows/templates/{template_id}/instantiate": BUILD,
    "POST /workflows/generate": BUILD,
    "POST /workflows/generate/apply": BUILD,
    "POST /workflows/{workflow_id}/execute": OPERATE,
    "POST /events": OPERATE,
    "GET /executions": READ,
    "GET /executions/{execution_id}": READ,
    "GET /executions/{execution_id}/stream": READ,
    "GET /executions/{execution_id}/events": READ,
    "GET /executions/{execution_id}/model-calls": READ,
    "GET /executions/{execution_id}/export": READ,
    "GET /executions/{execution_id}/compare": READ,
    "GET /executions/{execution_id}/why": READ,
    "GET /executions/{execution_id}/timeline": READ,
    "POST /executions/bulk": OPERATE,
    "POST /executions/{execution_id}/cancel": OPERATE,
    "POST /executions/{execution_id}/terminate": OPERATE,
    "POST /executions/{execution_id}/pause": OPERATE,
    "POST /executions/{execution_id}/resume": OPERATE,
    "POST /executions/{execution_id}/retry": OPERATE,
    "POST /executions/{execution_id}/rewind": OPERATE,
    "POST /executions/{execution_id}/skip": OPERATE,
    "POST /executions/{execution_id}/edit": OPERATE,
    "POST /executions/{execution_id}/migrate": OPERATE,
    "POST /executions/{execution_id}/fork": OPERATE,
    "POST /executions/{execution_id}/signals/{signal}": OPERATE,
    "GET /approvals": READ,
    "GET /approvals/{approval_id}": READ,
    "POST /approvals/{approval_id}": DECIDE,
    "POST /approvals/{approval_id}/comments": DECIDE,
    "POST /approvals/{approval_id}/claim": DECIDE,
    "POST /approvals/{approval_id}/release": DECIDE,
    "POST /approvals/{approval_id}/delegate": DECIDE,
    "POST /approvals/decisions": DECIDE,
    "GET /audit/approvals": ADMINISTER,
    "GET /desk": READ,
    "PUT /desk": ADMINISTER,
    "POST /desk/inquiries": SERVE,
    "GET /desk/inquiries": SERVE,
    "GET /desk/inquiries/{inquiry_id}": SERVE,
    "GET /desk/customers/{customer_id}/history": SERVE,
    "GET /desk/escalations": READ,
    "POST /desk/escalations/{approval_id}": DECIDE,
    "GET /desk/reviewers": READ,
    "PUT /desk/reviewers/{reviewer_id}": ADMINISTER,
    "DELETE /desk/reviewers/{reviewer_id}": ADMINISTER,
    "GET /desk/stats": READ,
    "GET /reviewers": READ,
    "GET /reviewers/callbacks/secret": ADMINISTER,
    "GET /reviewers/{reviewer_id}": READ,
    "PUT /reviewers/{reviewer_id}": ADMINISTER,
    "DELETE /reviewers/{reviewer_id}": ADMINISTER,
    "GET /tasks": READ,
    "GET /tasks/{task_id}": READ,
    "GET /tasks/{task_id}/comments": READ,
    "POST /tasks": OPERATE,
    "PUT /tasks/{task_id}": OPERATE,
    "POST /tasks/{task_id}/comments": OPERATE,
    "GET /suggestions": READ,
    "POST /suggestions": OPERATE,
    "GET /suggestions/{suggestion_id}": READ,
    "POST /suggestions/{suggestion_id}/approve": DECIDE,
    "POST /suggestions/{suggestion_id}/reject": DECIDE,
    "POST /suggestions/{suggestion_id}/comments": DECIDE,
    "GET /agents": READ,
    "GET /agents/{name}": READ,
    "POST /agents": BUILD,
    "POST /agents/{name}/heartbeat": OPERATE,
    "PUT /agents/{name}": BUILD,
    "DELETE /agents/{name}": BUILD,
    "GET /mcps": READ,
    "GET /mcps/{name}": READ,
    "PUT /mcps/{name}": BUILD,
    "DELETE /mcps/{name}": BUILD,
    "GET /schedules": READ,
    "GET /schedules/{schedule_id}": READ,
    "GET /schedules/{schedule_id}/upcoming": READ,
    "POST /schedules": BUILD,
    "PUT /schedules/{schedule_id}": BUILD,
    "DELETE /schedules/{schedule_id}": BUILD,
    "POST /schedules/{schedule_id}/pause": OPERATE,
    "POST /schedules/{schedule_id}/resume": OPERATE,
    "GET /budgets": READ,
    "GET /budgets/{scope}/{name}": READ,
    "PUT /budgets/{scope}/{name}": ADMINISTER,
    "DELETE /budgets/{scope}/{name}": ADMINISTER,
    "GET /keys": ADMINISTER,
    "GET /keys/{key_id}": ADMINISTER,
    "POST /keys": ADMINISTER,
    "DELETE /keys/{key_id}": ADMINISTER,
    "POST /keys/{key_id}/rotate": ADMINISTER,
    "WS /ws": READ,
    "GET /dead-letters": READ,
    "GET /a2a/workflows": READ,
    "GET /a2a/workflows/{workflow_id}/.well-known/agent-card.json": READ,
    "GET /a2a/workflows/{workflow_id}/tasks": READ,
    "GET /a2a/workflows/{workflow_id}/tasks/{id}": READ,
    "GET /a2a/workflows/{workflow_id}/tasks/{id}:subscribe": READ,
    "POST /a2a/workflows/{workflow_id}/tasks/{id}:subscribe": READ,
    "POST /a2a/workflows/{workflow_id}/tasks/{id}:cancel": OPERATE,
    "POST /a2a/workflows/{workflow_id}/message:send": OPERATE,
    "POST /a2a/workflows/{workflow_id}/message:stream": OPERATE,
    "POST /a2a/workflows/{workflow_id}": READ,  # each of its methods says what it needs
    "POST /mcp": READ,  # its tools call the routes above
}


def permissions_of(roles: Iterable[str], permissions: Iterable[str] = ()) -> frozenset[str]:
    """Everything that the roles may, and the permissions."""
    return frozenset(permissions).union(*(ROLES[role] for role in roles))


def rights_of(words: Collection[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Those of the words that are roles of ours, and those that are permissions."""
    return frozenset(words) & ROLES.keys(), frozenset(words) & frozenset(Permission)


def require(caller: Caller, needed: Permission, what: str = "This") -> None:
    """Raises a 403 `Problem` that says what is missing, and who has it."""
    if caller.may(needed):
        return
    FORBIDDEN.labels(needed).inc()
    log.info("forbidden", what=what, permission=needed, user_id=caller.user_id, key_id=caller.key_id)
    roles = sorted(role for role, may in ROLES.items() if needed in may)
    detail = f"{what} needs the permission `{needed}`, which you don't have here; the roles {', '.join(roles)} have it."
    raise Problem(403, "FORBIDDEN", detail, more={"permission": needed, "roles": roles})


def caller_of(scope: Scope) -> Caller:
    """The caller that the gate let in. A KeyError means that a route was reached past the gate."""
    found: Caller = scope[CALLER]
    return found


class Guard(SecurityBase):
    """What every route but the open ones depends on: the caller may do what the matched route is for."""

    def __init__(self) -> None:
        self.model = BearerScheme(
            bearerFormat="JWT",
            description="A JWT (`handrail token` makes one for development), or an API key (`hrk_...`).",
        )
        self.scheme_name = "Bearer"

    async def __call__(self, connection: HTTPConnection) -> None:
        rule = _name(connection.scope.get("method", "WS"), connection.scope["route"].path)
        require(caller_of(connection.scope), RULES[rule], rule)


guard = Guard()


class GuardedApp:
    """The same for a route that is plain ASGI, such as a socket's."""

    def __init__(self, rule: str, app: ASGIApp) -> None:
        self.rule, self._app = rule, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            require(caller_of(scope), RULES[self.rule], self.rule)
        except Problem as problem:
            await problem.response(scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Ruled:
    """A route that is not open. The rule's name has its path without `/api/v1` and `/api`."""

    rule: str
    method: str
    path: str
    guarded: bool


def ruled(app: FastAPI) -> Iterator[Ruled]:
    """Every method and path, however deep the router is included; a socket's method is WS."""
    for route in iter_route_contexts(app.routes):
        path, own = route.path or "", getattr(route.original_route, "path", "")
        if path in OPEN:
            continue
        asgi = getattr(route.original_route, "app", None)
        if isinstance(asgi, GuardedApp):
            own = own.removeprefix("/api/v1").removeprefix("/api")
        depends = any(depends.dependency is guard for depends in getattr(route, "dependencies", ()))
        for method in getattr(route, "methods", None) or {"WS"}:
            rule = _name(method, own)
            guarded = asgi.rule == rule if isinstance(asgi, GuardedApp) else depends
            yield Ruled(rule, method, path, guarded)


def check(app: FastAPI) -> None:
    """Raises `LookupError` for a route that is neither open nor ruled and guarded, and for a rule without a route."""
    found = list(ruled(app))
    for route in found:
        if route.rule not in RULES or not route.guarded:
            raise LookupError(
                f"{route.method} {route.path}: nobody says who may use it; see identity/rights.py ({route.rule!r})"
            )
    if unused := RULES.keys() - {route.rule for route in found}:
        raise LookupError(f"rules for routes that are not there: {', '.join(sorted(unused))}")


def _name(method: str, path: str) -> str:
    return f"{method} {path}"
