"""An MCP client of our own, written after the protocol's text (2025-06-18, streamable HTTP) and strict about it.

It shares no code with the SDK that the platform is made with, so that both can't be wrong in the same way.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from jsonschema import Draft202012Validator

Json = dict[str, Any]
VERSION = "2025-06-18"
ACCEPT = "application/json, text/event-stream"


class Broken(AssertionError):
    """The server did what the protocol forbids."""


class Refused(Exception):
    """A JSON-RPC error."""

    def __init__(self, error: Json) -> None:
        super().__init__(error["message"])
        self.code: int = error["code"]


def must(holds: object, rule: str, found: object) -> None:
    if not holds:
        raise Broken(f"{rule}; found {found!r}")


@dataclass
class StrictClient:
    http: httpx2.AsyncClient
    url: str
    headers: dict[str, str] = field(default_factory=lambda: {"Accept": ACCEPT})
    notes: list[Json] = field(default_factory=list)
    tools: dict[str, Json] = field(default_factory=dict)
    info: Json = field(default_factory=dict)
    _last: int = 0

    async def initialize(self) -> None:
        asked = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "strict", "version": "1"}}
        self.info = await self.request("initialize", asked)
        must(self.info["protocolVersion"] == VERSION, "a version that the client knows has to be taken", self.info)
        must("tools" in self.info["capabilities"], "what has tools has to say so", self.info)
        must({"name", "version"} <= self.info["serverInfo"].keys(), "serverInfo has name and version", self.info)
        self.headers["MCP-Protocol-Version"] = VERSION
        answer = await self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        must(answer.status_code == 202 and not answer.content, "a notification is taken with 202 and no body", answer)

    async def list_tools(self) -> dict[str, Json]:
        cursor: Json = {}
        while True:
            page = await self.request("tools/list", cursor)
            for tool in page["tools"]:
                must(tool["name"] not in self.tools, "names of tools are unique", tool["name"])
                must(tool["inputSchema"]["type"] == "object", "an inputSchema is of the type object", tool)
                Draft202012Validator.check_schema(tool["inputSchema"])
                if "outputSchema" in tool:
                    must(tool["outputSchema"]["type"] == "object", "an outputSchema is of the type object", tool)
                    Draft202012Validator.check_schema(tool["outputSchema"])
                self.tools[tool["name"]] = tool
            if "nextCursor" not in page:
                return self.tools
            cursor = {"cursor": page["nextCursor"]}

    async def call(self, name: str, arguments: Json, *, progress: bool = False, meta: Json | None = None) -> Json:
        """The result of a tool, held to the tool's own outputSchema."""
        marks = {**(meta or {}), **({"progressToken": name} if progress else {})}
        asked = {"name": name, "arguments": arguments, **({"_meta": marks} if marks else {})}
        result = await self.request("tools/call", asked)
        must(isinstance(result["content"], list), "a result has content", result)
        must(all("type" in part for part in result["content"]), "content has a type", result)
        if "outputSchema" in self.tools.get(name, {}) and not result.get("isError"):
            must("structuredContent" in result, "a tool with an outputSchema gives structuredContent", result)
            Draft202012Validator(self.tools[name]["outputSchema"]).validate(result["structuredContent"])
            text = json.loads(result["content"][0]["text"])
            must(text == result["structuredContent"], "the text says the same as structuredContent", result)
        return result

    async def request(self, method: str, params: Json) -> Json:
        self._last += 1
        answer = await self._post({"jsonrpc": "2.0", "id": self._last, "method": method, "params": params})
        must(answer.status_code == 200, "a request that is let in is answered with 200", (answer, answer.text))
        messages = _messages(answer)
        replies = [message for message in messages if "id" in message]
        must(all(message["jsonrpc"] == "2.0" for message in messages), "messages are JSON-RPC 2.0", messages)
        must(len(replies) == 1 and messages[-1] is replies[0], "one reply, and nothing after it", messages)
        must(replies[0]["id"] == self._last, "a reply has the id of its request", replies)
        must(("result" in replies[0]) != ("error" in replies[0]), "a result or an error", replies)
        self.notes += messages[:-1]
        if "error" in replies[0]:
            raise Refused(replies[0]["error"])
        found: Json = replies[0]["result"]
        return found

    async def _post(self, message: Json) -> httpx2.Response:
        return await self.http.post(self.url, json=message, headers=self.headers)


def _messages(answer: httpx2.Response) -> list[Json]:
    kind = answer.headers["content-type"].split(";")[0]
    if kind == "application/json":
        return [answer.json()]
    must(kind == "text/event-stream", "an answer is JSON or a stream of events", kind)
    found = []
    for block in answer.text.replace("\r\n", "\n").split("\n\n"):
        lines = [line.removeprefix("data:").strip() for line in block.split("\n") if line.startswith("data:")]
        if text := "\n".join(lines):
            found.append(json.loads(text))
    return found


@asynccontextmanager
async def strict_client(
    url: str, headers: dict[str, str] | None = None, transport: httpx2.AsyncBaseTransport | None = None
) -> AsyncIterator[StrictClient]:
    """Initialized. What was told on the way is in `notes`."""
    async with httpx2.AsyncClient(headers=headers, timeout=60, transport=transport) as http:
        client = StrictClient(http, url)
        await client.initialize()
        yield client
