"""E-mails that people have approved: to whom they go, and what is known when the server says something odd."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from handrail_agent_runner.agents import AgentFailure
from handrail_agent_runner.agents.actions import Actions
from handrail_agent_runner.agents.base import Progress
from handrail_contracts.steps import Action
from handrail_runtime.settings import Settings
from unit.agent_runner.builders import request, toolbox

MAIL = {"recipient": "jane@example.com", "subject": "Re", "body": "Hi"}


@asynccontextmanager
async def mail_server(last_word: bytes = b"250 taken") -> AsyncIterator[tuple[Settings, list[str]]]:
    """Settings of one that takes everything and answers a text with this; and the commands that it gets."""
    heard: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while not (line := await reader.readline()).upper().startswith(b"QUIT") and line:
            heard.append(line.decode().strip())
            if line.upper().startswith(b"DATA"):
                writer.write(b"354 go on\r\n")
                heard.append((await reader.readuntil(b"\r\n.\r\n")).decode())
                writer.write(last_word + b"\r\n")
            else:
                writer.write(b"250 well\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Settings(smtp_url=f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"), heard
    finally:
        server.close()


async def send(settings: Settings, **fields: Any) -> Any:
    wish = request(input={**MAIL, **fields}).model_copy(update={"kind": "action", "action": Action(type="email")})
    actions = Actions(settings, toolbox(settings), None)  # type: ignore[arg-type]
    return await actions.execute(wish, Progress(lambda kind, data: None))


async def test_everybody_named_gets_it_by_his_address() -> None:
    async with mail_server() as (settings, heard):
        sent = await send(settings, recipient="Jane <jane@example.com>", cc=['"Doe, John" <john@example.com>'])
    asked = [line.partition(":")[2] for line in heard if line.upper().startswith("RCPT")]
    assert asked == ["<jane@example.com>", "<john@example.com>"]
    assert sent["status"] == "sent"


async def test_of_an_answer_that_makes_no_sense_nobody_knows_whether_it_was_sent() -> None:
    async with mail_server(b"what?") as (settings, _):
        with pytest.raises(AgentFailure) as failed:
            await send(settings)
    assert failed.value.info.code == "OUTCOME_UNKNOWN"


async def test_what_the_server_refuses_for_now_is_tried_again() -> None:
    async with mail_server(b"451 later") as (settings, _):
        with pytest.raises(AgentFailure) as failed:
            await send(settings)
    assert (failed.value.info.code, failed.value.info.retryable) == ("TOOL_ERROR", True)


@pytest.mark.parametrize(
    "fields",
    [
        {"recipient": "a@x.org\r\nBcc: b@x.org"},
        {"subject": "Re\nBcc: b@x.org"},
        {"cc": ["no"]},
        {"recipient": "j\u00e4ne@x.org"},
    ],
)
async def test_what_is_no_e_mail_is_not_sent(fields: Any) -> None:
    async with mail_server() as (settings, heard):
        with pytest.raises(AgentFailure) as failed:
            await send(settings, **fields)
    assert (failed.value.info.code, heard) == ("VALIDATION_ERROR", [])
