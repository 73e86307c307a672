"""What servers say of their tools, and what we took down of it. Pure.

A tool is pinned by its descriptor when its server is registered. One that is described otherwise later is disabled, so that
nobody is talked into using a tool that is not the one that was looked at.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson
from handrail_contracts.envelope import JsonObject
from handrail_contracts.ids import derive
from handrail_contracts.steps import AgentRegistered

SERVER, TOOL, STATE = "mcp/", "tool/", "mcp_state/"
NAME = re.compile(r"[A-Za-z0-9_./-]{1,128}")
DESCRIBING = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
MOST_BYTES = 64 * 1024
GONE = "the server does not offer it any more"
CHANGED = "the server describes it otherwise than when it was registered"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A tool as its server describes it now."""

    name: str
    description: str
    parameters: JsonObject
    repeatable: bool
    hash: str

    @staticmethod
    def of(raw: JsonObject) -> "Descriptor | None":
        """From an entry of `tools/list`; None for one that is too large or has no decent name."""
        data = orjson.dumps({field: raw.get(field) for field in DESCRIBING}, option=orjson.OPT_SORT_KEYS)
        if not NAME.fullmatch(raw["name"]) or len(data) > MOST_BYTES:
            return None
        hints = raw.get("annotations") or {}
        repeatable = bool(hints.get("readOnlyHint") or hints.get("idempotentHint"))
        text = raw.get("description") or raw.get("title") or ""
        return Descriptor(raw["name"], text, raw["inputSchema"], repeatable, sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class Pin:
    """A tool as it was when its server was registered. `disabled` says why it can't be called."""

    server: str
    tool: str
    registration: str
    hash: str
    description: str
    parameters: JsonObject
    repeatable: bool
    disabled: str = ""

    @property
    def name(self) -> str:
        return f"{self.server}:{self.tool}"

    @staticmethod
    def of(registered: AgentRegistered) -> "Pin | None":
        """From a message about a tool; None if it is none of a server."""
        server, colon, tool = registered.agent.removeprefix(TOOL).partition(":")
        config: dict[str, Any] = registered.config
        if not colon or "registration" not in config or "hash" not in config:
            return None
        return Pin(
            server,
            tool,
            str(config["registration"]),
            str(config["hash"]),
            registered.description,
            config.get("parameters") or {"type": "object"},
            bool(config.get("repeatable")),
            str(config.get("disabled", "")),
        )

    def message(self, server: AgentRegistered, now: datetime, *, removed: bool = False) -> AgentRegistered:
        config = {
            "server": self.server,
            "registration": self.registration,
            "hash": self.hash,
            "parameters": self.parameters,
            "repeatable": self.repeatable,
        }
        return AgentRegistered(
            event_id=derive("mcp", self.registration, self.tool, self.hash, self.disabled, removed),
            occurred_at=now,
            user_id=server.user_id,
            organization_id=server.organization_id,
            project_id=server.project_id,
            agent=f"{TOOL}{self.name}",
            kind="tool",
            name=self.name,
            description=self.description,
            config=config | ({"disabled": self.disabled} if self.disabled else {}),
            removed=removed,
        )


def compared(server: str, registration: str, offered: list[Descriptor], pinned: list[Pin]) -> list[Pin]:
    """The pins that have to change for what is offered now. Those of an earlier registration count for nothing."""
    old = {pin.tool: pin for pin in pinned if pin.registration == registration}
    new = {
        tool.name: Pin(server, tool.name, registration, tool.hash, tool.description, tool.parameters, tool.repeatable)
        for tool in offered
    }
    changes = [pin for name, pin in new.items() if name not in old]
    for name, pin in old.items():
        disabled = _why_disabled(pin, new.get(name))
        if disabled != pin.disabled:
            changes.append(replace(pin, disabled=disabled))
    return changes


def _why_disabled(pin: Pin, now: Pin | None) -> str:
    """A tool that was gone may come back as it was; one that has changed once stays disabled."""
    if pin.disabled == CHANGED or (now is not None and now.hash != pin.hash):
        return CHANGED
    return GONE if now is None else ""


def visible_name(name: str) -> str:
    """What a model is told as the name of `server:tool`: providers allow 64 letters, digits, `_` and `-`."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name.replace(":", "__"))
    return plain if len(plain) <= 64 else f"{plain[:55]}_{sha256(name.encode()).hexdigest()[:8]}"
