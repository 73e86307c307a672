"""The API document, and a page that shows it without loading anything from elsewhere."""

from html import escape
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse, JSONResponse, Response

from handrail_gateway.channels.document import document as channels
from handrail_gateway.gate import OPEN_PATHS
from handrail_gateway.problems import MEDIA_TYPE
from handrail_gateway.schemas import ProblemDetails

_PROBLEM = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
_ANSWERS: dict[str, Any] = {
    "4XX": {"description": "refused; `code` says why", "content": {MEDIA_TYPE: _PROBLEM}},
    "503": {
        "description": "broker or database away; `Retry-After` says when to try again",
        "content": {MEDIA_TYPE: _PROBLEM},
    },
}
FOREIGN_REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "refused; by the protocol in its own words, by the gateway as a problem",
        "content": {"application/json": {}, MEDIA_TYPE: _PROBLEM},
    }
}
"""Of routes that speak somebody else's protocol."""
MODEL_REFUSALS: dict[int | str, dict[str, Any]] = {
    502: {"description": "the model refuses", "content": {MEDIA_TYPE: _PROBLEM}},
    504: {"description": "the model is too slow", "content": {MEDIA_TYPE: _PROBLEM}},
}
_INTRODUCTION = (
    "Workflows of agents on a log. `/api/...` is the same API as `/api/v1/...`. Every POST, PUT and DELETE takes an "
    "`Idempotency-Key`. Errors are RFC 9457 problem details. A token or an API key goes into `Authorization: Bearer`; a key "
    "also into `X-API-Key`."
)


def install(app: FastAPI) -> None:
    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    async def docs(_: Request) -> Response:
        return HTMLResponse(
            _page(document()), headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        )

    async def of_channels(_: Request) -> Response:
        return JSONResponse(channels(app.version))

    app.openapi = document  # type: ignore[method-assign]
    app.add_route("/asyncapi.json", of_channels, methods=["GET"], include_in_schema=False)
    app.add_route("/docs", docs, methods=["GET"], include_in_schema=False)


def _document(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with errors as they really are and the token that every path needs."""
    found = get_openapi(title=app.title, version=app.version, description=_INTRODUCTION, routes=app.routes)
    schemas = found["components"]["schemas"]
    problem = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {}) | {"ProblemDetails": problem}
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path, operations in found["paths"].items():
        assert path not in OPEN_PATHS
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"] = _ANSWERS | operation["responses"]
    return found


def _page(document: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(method.upper())}</code></td><td><code>{escape(path)}</code></td>"
        f"<td>{escape(operation.get('description') or operation.get('summary', ''))}</td></tr>"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Handrail API</title>"
        "<style>body{font:16px/1.5 system-ui;margin:2rem auto;max-width:70rem;padding:0 1rem}"
        "table{border-collapse:collapse}td{border-top:1px solid #8884;padding:.4rem .8rem;vertical-align:top}</style>"
        f"<h1>Handrail API {escape(document['info']['version'])}</h1><p>{escape(_INTRODUCTION)}</p>"
        f'<p>The whole description: <a href="/openapi.json">openapi.json</a>; of the WebSocket: '
        f'<a href="/asyncapi.json">asyncapi.json</a></p><table>{rows}</table></html>'
    )
