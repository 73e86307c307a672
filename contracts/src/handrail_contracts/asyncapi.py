"""The AsyncAPI 3.0 document: every topic as a channel, every service's sending and receiving as operations."""

from collections.abc import Iterator
from importlib.metadata import version as version_of
from typing import Any

from handrail_contracts.earlier import EARLIER
from handrail_contracts.journal import COMMAND_HEADER, FENCE_HEADER, JOURNAL_HEADER
from handrail_contracts.schemas import Schema, file_name, versions, versions_of
from handrail_contracts.topics import TopicSpec, catalogue

OUTSIDERS = frozenset({"anyone"})
"""Producers and consumers that are no part of Handrail: named in the channels, without operations."""

_CLOUD_EVENT = {
    "ce_specversion": "1.0",
    "ce_id": "the message's event_id",
    "ce_type": "the message's event_type",
    "ce_source": "who wrote it, such as /handrail/gateway",
    "traceparent": "W3C trace context; the trace id is the execution's id",
    "content-type": "application/json",
}
_PROTOCOL = {
    "journal": {JOURNAL_HEADER: "`record/<epoch>/<seq>`, or `claim/<fenced epoch>/<nonce>` (then the value is {})"},
    "command": {COMMAND_HEADER: "`<service>/<partition>/<epoch>` of the owner that decided it"},
    "fence": {FENCE_HEADER: "`<service>/<partition>/<epoch>`: this epoch and those below it are over"},
}


def document() -> dict[str, Any]:
    """Everything, in plain values, in an order that does not change from run to run."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:handrail:bus",
        "info": {
            "title": "Handrail's topics",
            "version": version_of("handrail-contracts"),
            "description": "Generated from contracts/topics and the models; `python -m handrail_contracts.generate` "
            "writes it anew. The public way in is workflow.started; docs/guides/topics.md shows how to publish it.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "default": {
                "host": "127.0.0.1:9092",
                "protocol": "kafka",
                "description": "Where HANDRAIL_BROKERS points if it is not set.",
            }
        },
        "channels": {spec.name: _channel(spec) for spec in catalogue().values()},
        "operations": dict(_operations()),
        "components": {
            "messages": {_key(*known): _message(*known) for known in versions()},
            "schemas": {_headers_name(role): _headers(role) for role in ("event", *_PROTOCOL)},
        },
    }


def _channel(spec: TopicSpec) -> dict[str, Any]:
    return {
        "address": spec.name,
        "description": " ".join(filter(None, (spec.purpose, spec.retention_note))),
        "messages": {key: {"$ref": f"#/components/messages/{key}"} for key in _message_keys(spec)},
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "partitions": spec.partitions,
                "topicConfiguration": {
                    "cleanup.policy": [spec.cleanup_policy],
                    "retention.ms": spec.retention_ms,
                    "max.message.bytes": spec.max_message_bytes,
                },
                "bindingVersion": "0.5.0",
            }
        },
        "x-role": spec.role,
        "x-key": spec.key,
        "x-producers": list(spec.producers),
        "x-consumers": list(spec.consumers),
        "x-dead-letter": spec.dead_letter,
    }


def _message_keys(spec: TopicSpec) -> list[str]:
    return [_key(*known) for known in versions_of(spec.name)]


def _key(name: str, number: int) -> str:
    return f"{name}.v{number}"


def _operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for spec in catalogue().values():
        newest = [_key(*known) for known in versions_of(spec.name) if known not in EARLIER]
        for producer in (name for name in spec.producers if name not in OUTSIDERS):
            yield _operation(producer, "send", spec, newest)
        for consumer in (name for name in spec.consumers if name not in OUTSIDERS):
            yield _operation(consumer, "receive", spec, _message_keys(spec))


def _operation(service: str, action: str, spec: TopicSpec, keys: list[str]) -> tuple[str, dict[str, Any]]:
    name = service.replace(" ", "-")
    return f"{name}.{action}.{spec.name}", {
        "action": action,
        "channel": {"$ref": f"#/channels/{spec.name}"},
        "messages": [{"$ref": f"#/channels/{spec.name}/messages/{key}"} for key in keys],
        "tags": [{"name": name}],
    }


def _message(name: str, number: int) -> dict[str, Any]:
    carriers = [spec for spec in catalogue().values() if name in spec.messages]
    [key] = {spec.key for spec in carriers}
    [role] = {spec.role for spec in carriers}
    message: dict[str, Any] = {
        "name": name,
        "title": f"{name} v{number}",
        "summary": (versions()[name, number].__doc__ or "").strip().split("\n")[0],
        "payload": {"$ref": f"./schemas/{file_name(name, number)}"},
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": "0.5.0"}},
    }
    if role != "snapshot":
        message["headers"] = {"$ref": f"#/components/schemas/{_headers_name(role)}"}
    if (name, number) in EARLIER:
        message["tags"] = [{"name": "superseded"}]
    return message


def _headers_name(role: str) -> str:
    return f"{role.capitalize()}Headers"


def _headers(role: str) -> Schema:
    """Outsiders may leave the CloudEvents attributes out: readers look at the value. A command without its stamp is dead."""
    described = ({} if role in ("journal", "fence") else _CLOUD_EVENT) | _PROTOCOL.get(role, {})
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": text} for name, text in described.items()},
        **({"required": list(_PROTOCOL[role])} if role in _PROTOCOL else {}),
    }
