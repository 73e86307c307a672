"""A model server without a model: OpenAI's chat completions over real HTTP, for the demo and the tests.

    python -m handrail.offline_model --port 8005

It answers by rules, or by a script: `POST /scripts/{model}` takes a list of replies, one for each call of that model in turn;
the last is repeated. With `?by=conversation` each conversation has its own place in the list: asked again, the model says
again what it has said. A reply may be slow, fail, break off or be no JSON. `GET /calls/{model}` tells what was asked.
"""

import argparse
import asyncio
import os
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any, Literal

import orjson
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from handrail import offline_desk, offline_support, offline_workflows

CHUNK_WORDS = 2


class ScriptedCall(BaseModel):
    """A tool that the model wants called. `arguments` is text when it is to be no JSON."""

    name: str
    arguments: dict[str, Any] | str = {}


class Reply(BaseModel):
    """What the model answers one call with."""

    model_config = ConfigDict(extra="forbid")

    text: str = ""
    tool_calls: list[ScriptedCall] = []
    status: int = Field(200, description="an error of that status instead of an answer, saying `text`")
    delay_seconds: float = Field(0.0, description="before anything is said")
    chunk_seconds: float = Field(0.0, description="between chunks")
    stamps: int = Field(0, ge=0, description="so many chunks that say when they were sent, instead of the text")
    cut_after: int | None = Field(None, description="chunks after which the connection breaks")
    raw: str | None = Field(None, description="the body, as it is")


class Call(BaseModel):
    """A request of the chat completions API, as far as it matters here."""

    model: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = []
    stream: bool = False


By = Literal["call", "conversation"]


class Scripts:
    """Replies by model, and the calls that were made."""

    def __init__(self) -> None:
        self.replies: dict[str, list[Reply]] = {}
        self.by: dict[str, By] = {}
        self.calls: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)

    def reply(self, call: Call) -> Reply:
        script = self.replies.get(call.model)
        if not script:
            return by_rule(call)
        if self.by[call.model] == "conversation":
            said = len([message for message in call.messages if message["role"] == "assistant"])
            return script[min(said, len(script) - 1)]
        return script.pop(0) if len(script) > 1 else script[0]


def by_rule(call: Call) -> Reply:
    """Designs a workflow if it is asked to; calls a tool that the text names and that was not called yet; fills a wanted
    form; otherwise repeats what it was told."""
    said = [(message["role"], text_of(message["content"])) for message in call.messages]
    if said and said[0][0] in ("system", "developer") and offline_workflows.designs(said[0][1]):
        return Reply(text=offline_workflows.answer(next(text for role, text in said if role == "user")))
    whole = next((text for role, text in reversed(said) if role == "user"), "")
    told = gist(whole)
    results = [text_of(message["content"]) for message in call.messages if message["role"] == "tool"]
    forms = []
    for tool in (entry["function"] for entry in call.tools):
        if tool["name"].startswith("final_"):
            forms.append(tool)
        elif tool["name"] in told and not results:
            return Reply(tool_calls=[ScriptedCall(name=tool["name"], arguments=filled(tool["parameters"], told))])
    if forms:
        form = forms[0]["parameters"]
        given = value_of(whole)
        answer = offline_support.filled(form, given) or offline_desk.filled(form, given) or filled(form, told)
        return Reply(tool_calls=[ScriptedCall(name=forms[0]["name"], arguments=answer)])
    if results:
        return Reply(text=f"The tools say: {'; '.join(results)}"[:2000])
    return Reply(text=f"You said: {told}")


def gist(text: str) -> str:
    """Its first words, without the marks of JSON: answers stay readable although they repeat what they were told."""
    return " ".join(re.sub(r"\\[nt\"]|[{}\[\]\"\\]", " ", text).split())[:200]


def value_of(text: str) -> Any:
    """What the text says in JSON; the text itself if it is none."""
    try:
        return orjson.loads(text)
    except ValueError:
        return text


def text_of(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def filled(schema: dict[str, Any], told: str, root: dict[str, Any] | None = None) -> Any:
    """A value that fits the schema; texts say what was told."""
    root = schema if root is None else root
    if "$ref" in schema:
        found: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return filled(found, told, root)
    for choice in ("enum", "examples"):
        if schema.get(choice):
            return schema[choice][0]
    if "const" in schema:
        return schema["const"]
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return filled(options[0], told, root)
    match schema.get("type"):
        case "object":
            return {name: filled(inner, told, root) for name, inner in schema.get("properties", {}).items()}
        case "array":
            return [filled(schema.get("items", {}), told, root)] * schema.get("minItems", 1)
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return told[: schema.get("maxLength", 100)]


def chunks(reply: Reply) -> list[dict[str, Any]]:
    """The deltas of a streamed answer."""
    words = reply.text.split(" ") if reply.text else []
    texts = [" ".join(words[at : at + CHUNK_WORDS]) for at in range(0, len(words), CHUNK_WORDS)]
    deltas: list[dict[str, Any]] = [{"content": text if at == 0 else f" {text}"} for at, text in enumerate(texts)]
    for index, call in enumerate(reply.tool_calls):
        arguments = call.arguments if isinstance(call.arguments, str) else orjson.dumps(call.arguments).decode()
        function = {"name": call.name, "arguments": arguments}
        entry = {"index": index, "id": f"call_{time.time_ns()}_{index}", "type": "function", "function": function}
        deltas.append({"tool_calls": [entry]})
    return deltas


def usage_of(call: Call, reply: Reply) -> dict[str, int]:
    """A word is a token."""
    read = sum(len(text_of(message.get("content")).split()) for message in call.messages)
    said = len(reply.text.split()) + sum(len(str(wanted.arguments).split()) for wanted in reply.tool_calls)
    return {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}


async def stream(call: Call, reply: Reply) -> AsyncIterator[bytes]:
    head = {"id": f"offline-{time.time_ns()}", "created": int(time.time()), "model": call.model}

    def event(choices: list[Any], **more: Any) -> bytes:
        return (
            b"data: " + orjson.dumps({**head, "object": "chat.completion.chunk", "choices": choices, **more}) + b"\n\n"
        )

    for _ in range(reply.stamps):
        yield event(
            [{"index": 0, "delta": {"role": "assistant", "content": f"{time.time():.6f} "}, "finish_reason": None}]
        )
        await asyncio.sleep(reply.chunk_seconds)
    for number, delta in enumerate(chunks(reply)):
        if number == reply.cut_after:
            raise ConnectionResetError("the script says so")
        yield event([{"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": None}])
        await asyncio.sleep(reply.chunk_seconds)
    reason = "tool_calls" if reply.tool_calls else "stop"
    yield event([{"index": 0, "delta": {}, "finish_reason": reason}])
    yield event([], usage=usage_of(call, reply))
    yield b"data: [DONE]\n\n"


def whole(call: Call, reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    called = [delta["tool_calls"][0] for delta in chunks(reply) if "tool_calls" in delta]
    if called:
        message["tool_calls"] = [{name: part for name, part in entry.items() if name != "index"} for entry in called]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if called else "stop"}
    return {
        "id": f"offline-{time.time_ns()}", "object": "chat.completion", "created": int(time.time()),
        "model": call.model, "choices": [choice], "usage": usage_of(call, reply),
    }  # fmt: skip


def application() -> FastAPI:
    app, scripts = FastAPI(title="offline model"), Scripts()

    @app.get("/healthz")
    @app.get("/readyz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/scripts/{model}", status_code=204)
    async def script(model: str, replies: list[Reply], by: By = "call") -> None:
        scripts.replies[model], scripts.by[model] = replies, by
        scripts.calls[model].clear()

    @app.get("/calls/{model}")
    async def calls(model: str) -> list[dict[str, Any]]:
        return scripts.calls[model]

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        names = ["offline", *scripts.replies]
        return {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "offline"} for name in names]}

    @app.post("/v1/chat/completions")
    async def completions(request: Request) -> Response:
        body = orjson.loads(await request.body())
        call = Call.model_validate(body)
        scripts.calls[call.model].append({**body, "authorization": request.headers.get("authorization")})
        reply = scripts.reply(call)
        await asyncio.sleep(reply.delay_seconds)
        if reply.status != 200:
            error = {
                "message": reply.text or f"the script says {reply.status}",
                "type": "offline",
                "code": reply.status,
            }
            return JSONResponse({"error": error}, reply.status)
        if reply.raw is not None:
            return Response(reply.raw, media_type="text/event-stream" if call.stream else "application/json")
        if call.stream:
            return StreamingResponse(stream(call, reply), media_type="text/event-stream")
        return JSONResponse(whole(call, reply))

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="A model server without a model, for the demo and the tests.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=int(os.environ.get("HANDRAIL_PORT") or 8005))
    options = parser.parse_args()
    uvicorn.run(application(), host=options.host, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
