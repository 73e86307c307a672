"""The AsyncAPI document of `/ws`, from the models of its messages. That of the topics is generated beside the contracts."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from handrail_gateway.channels.client import EXECUTION
from handrail_gateway.channels.messages import CARRIED_BY, CHANNELS
from handrail_gateway.schemas.channels import CLIENT_MESSAGES, SERVER_MESSAGES


def document(version: str) -> dict[str, Any]:
    models: list[type[BaseModel]] = [*CLIENT_MESSAGES, *SERVER_MESSAGES]
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    return {
        "asyncapi": "3.0.0",
        "id": "urn:handrail:channels",
        "info": {
            "title": "Handrail's channels",
            "version": version,
            "description": "What changes, told over one WebSocket as it changes. docs/guides/live.md shows how to use it.",
        },
        "defaultContentType": "application/json",
        "servers": {"here": {"host": "127.0.0.1:8000", "protocol": "ws", "security": [{"$ref": _SECURITY}]}},
        "channels": {
            "ws": {
                "address": "/api/v1/ws",
                "description": "`/ws` is the same. A client subscribes to what it wants to hear.",
                "messages": {model.__name__: {"$ref": f"#/components/messages/{model.__name__}"} for model in models},
                "x-subscriptions": {
                    name: [kind for kind in CARRIED_BY if name in CARRIED_BY[kind]] for name in CHANNELS
                }
                | {f"{EXECUTION}{{execution_id}}": ["the events of GET /api/v1/executions/{execution_id}/stream"]},
            }
        },
        "operations": {
            "ask": _operation("receive", CLIENT_MESSAGES),
            "tell": _operation("send", SERVER_MESSAGES),
        },
        "components": {
            "messages": {model.__name__: _message(model) for model in models},
            "schemas": schemas["$defs"],
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


_SECURITY = "#/components/securitySchemes/bearer"


def _operation(action: str, models: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    """`action` as the gateway does it."""
    messages = [{"$ref": f"#/channels/ws/messages/{model.__name__}"} for model in models]
    return {"action": action, "channel": {"$ref": "#/channels/ws"}, "messages": messages}


def _message(model: type[BaseModel]) -> dict[str, Any]:
    summary = next(iter((model.__doc__ or "").strip().split("\n")), "")
    payload = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"name": model.__name__, "payload": payload, **({"summary": summary} if summary else {})}
