"""Notices of gates by e-mail: to one address each, and nothing that a tenant writes stops the others'."""

from email.message import EmailMessage
from typing import Any

import pytest
from handrail_agent_runner import notifier
from handrail_agent_runner.agents.base import AgentFailure
from handrail_agent_runner.notifier import Notifier
from handrail_contracts.envelope import utc
from handrail_contracts.notifications import NotificationDelivered, NotificationRequested
from handrail_runtime.settings import Settings
from unit.agent_runner.test_actions import mail_server


def notice(**fields: Any) -> NotificationRequested:
    said = {"event_id": "n", "occurred_at": utc(0), "execution_id": "e", "workflow_id": "w", "approval_id": "g"}
    return NotificationRequested.model_validate({**said, "kind": "asked", "title": "Refund?", **fields})


async def outcome(settings: Settings, **fields: Any) -> NotificationDelivered:
    return await Notifier(settings)._outcome(notice(**fields))


@pytest.mark.parametrize(
    "person",
    ["lena", "a@x.example, b@y.example", "a@x.example\nBcc: b@y.example", "Ann <a@x.example>", "a@[::", "@x", "ä@x"],
)
async def test_what_is_not_one_address_is_passed_over(person: str) -> None:
    async with mail_server() as (settings, heard):
        told = await outcome(settings, to=(person, "bob@example.com"))
    assert told.status == "delivered"
    assert [line for line in heard if line.upper().startswith("RCPT")] == ["RCPT TO:<bob@example.com>"]
    assert not any("y.example" in line for line in heard)


async def test_a_title_of_several_lines_is_a_subject_of_one() -> None:
    async with mail_server() as (settings, heard):
        await outcome(settings, to=("bob@example.com",), title="Refund?\r\nBcc: eve@example.com")
    assert [line for line in heard if line.upper().startswith("RCPT")] == ["RCPT TO:<bob@example.com>"]
    [text] = [line for line in heard if "Subject:" in line]
    assert "Subject: Your decision: Refund? Bcc: eve@example.com\r\n" in text


async def test_what_nobody_can_make_sense_of_has_failed_and_is_over() -> None:
    async with mail_server() as (settings, _):
        told = await outcome(settings, kind="decided", to=("bob@example.com",))
    assert (told.status, told.attempts) == ("failed", 1)


async def test_who_has_been_told_is_not_told_again_because_another_can_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    async def send(message: EmailMessage, settings: Settings) -> None:
        tried.append(str(message["To"]))
        if tried == ["ann@example.com", "bob@example.com"]:
            raise AgentFailure("TOOL_ERROR", "later", retryable=True)

    monkeypatch.setattr(notifier, "PAUSES", (0.0,))
    monkeypatch.setattr(notifier, "send", send)
    told = await outcome(Settings(), to=("ann@example.com", "bob@example.com"))
    assert (told.status, told.attempts) == ("delivered", 2)
    assert tried == ["ann@example.com", "bob@example.com", "bob@example.com"]
