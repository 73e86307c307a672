"""Errors as RFC 9457 problem details."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
Errors = Sequence[Mapping[str, str]]


class Problem(Exception):
    """An answer that is not what was asked for. `code` is for programs, `detail` a sentence for a person."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Errors = (),
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """`more`: members of this problem alone."""
        super().__init__(detail)
        self.status, self.code, self.detail, self.errors, self.headers = status, code, detail, errors, headers or {}
        self.more = more or {}

    def response(self, instance: str) -> Response:
        body: dict[str, Any] = {
            "type": f"urn:handrail:problem:{self.code.lower().replace('_', '-')}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
        }
        if self.errors:
            body["errors"] = list(self.errors)
        body |= self.more
        return Response(orjson.dumps(body), self.status, dict(self.headers), MEDIA_TYPE)


def not_found(kind: str, identifier: str) -> Problem:
    return Problem(404, "NOT_FOUND", f"There is no {kind} {identifier!r} that you may see.")


def conflict(code: str, detail: str) -> Problem:
    return Problem(409, code, detail)


def forbidden(detail: str) -> Problem:
    return Problem(403, "FORBIDDEN", detail)


def invalid(detail: str, errors: Errors = ()) -> Problem:
    return Problem(422, "VALIDATION_ERROR", detail, errors=errors)


def unavailable(code: str, detail: str, retry_after: int = 2) -> Problem:
    return Problem(503, code, detail, headers={"Retry-After": str(retry_after)})


ONE, SEVERAL = "<one>", "<several>"
"""Tags of bodies that may be one thing or a list of them."""


def path_of(location: Sequence[str | int]) -> str:
    """`("body", "steps", 1, "step_id")` as `steps[1].step_id`; of other places than the body the place is named."""
    parts = location[1:] if location[:1] == ("body",) else location
    parts = [part for part in parts if part not in (ONE, SEVERAL)]
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


_CODES = {400: "BAD_REQUEST", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}


def _allowed(request: Request) -> list[str]:
    """What this path can be asked for. A route knows its own methods only, and each method of a path is a route."""
    routes = request.app.routes
    return [
        method
        for method in ("DELETE", "GET", "HEAD", "POST", "PUT")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]


def install(app: FastAPI) -> None:
    """Every error of the app leaves as problem details."""

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response(request.url.path)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = _CODES.get(error.status_code, "ERROR")
        detail = f"{request.method} {request.url.path}: {error.detail}"
        headers = {"Allow": ", ".join(_allowed(request))} if error.status_code == 405 else error.headers
        return Problem(error.status_code, code, detail, headers=headers).response(request.url.path)

    async def validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [{"path": path_of(e["loc"]), "message": e["msg"], "code": e["type"]} for e in error.errors()]
        detail = f"{len(errors)} part(s) of the request cannot be used; `errors` says which."
        return invalid(detail, errors).response(request.url.path)

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, error=repr(error))
        detail = "The gateway failed on this request; its log says why. A write may or may not have happened."
        return Problem(500, "INTERNAL_ERROR", detail).response(request.url.path)

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(Exception, unexpected)
