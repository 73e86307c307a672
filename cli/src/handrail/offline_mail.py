"""A mail server without a post office: takes mail over real SMTP and keeps it, for the demo and the tests.

    python -m handrail.offline_mail --port 8006 --smtp smtp://127.0.0.1:8025

`GET /mails?to=ADDRESS` shows what came, newest last. `PUT /forwards/ADDRESS` makes each mail to that address an event of the
platform: `{"url": ".../api/v1/events", "token": "...", "type": "new_support_ticket"}`; the mail's Message-ID is the event's id,
so one that comes twice is one event.
"""

import argparse
import asyncio
import os
from collections import deque
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import getaddresses, parseaddr
from typing import Any
from urllib.parse import urlsplit

import httpx2
import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session
from fastapi import FastAPI
from pydantic import BaseModel

MOST_KEPT = 1000
SMTP_URL = "smtp://127.0.0.1:8025"


class Forward(BaseModel):
    """Where mail to an address is told as an event."""

    url: str
    token: str
    type: str = "email_received"


class Mailbox:
    """What came, and who is told of it. `refuse` is an SMTP answer that is given instead of taking the next mails."""

    def __init__(self) -> None:
        self.mails: deque[dict[str, Any]] = deque(maxlen=MOST_KEPT)
        self.forwards: dict[str, Forward] = {}
        self.refuse: list[str] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refuse:
            return self.refuse.pop(0)
        content = envelope.content if isinstance(envelope.content, bytes) else str(envelope.content).encode()
        mail = told(content, [str(recipient) for recipient in envelope.rcpt_tos])
        for recipient in mail["recipients"]:
            forward = self.forwards.get(recipient.lower())
            if forward is not None and (problem := await forwarded(forward, mail)):
                return f"451 not taken: {problem}"
        self.mails.append(mail)
        return f"250 kept as {mail['message_id']}"


def told(content: bytes, recipients: list[str]) -> dict[str, Any]:
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    body = message.get_body(("plain", "html"))
    name, address = parseaddr(str(message["From"] or ""))
    return {
        "message_id": str(message["Message-ID"] or "").strip("<>"),
        "from": address,
        "name": name,
        "to": [address for _, address in getaddresses([str(message["To"] or "")])],
        "recipients": recipients,
        "subject": str(message["Subject"] or ""),
        "body": "" if body is None else body.get_content().strip(),
        "in_reply_to": str(message["In-Reply-To"] or "").strip("<>"),
    }


async def forwarded(forward: Forward, mail: dict[str, Any]) -> str:
    """Why it could not be told; empty if it was."""
    event = {"type": forward.type, "source": "email", "event_id": mail["message_id"] or None, "data": mail}
    headers = {"Authorization": f"Bearer {forward.token}"}
    try:
        async with httpx2.AsyncClient(timeout=20) as client:
            response = await client.post(forward.url, json=event, headers=headers)
    except httpx2.HTTPError as error:
        return f"{forward.url}: {error!r}"
    return "" if response.is_success else f"{forward.url} answered {response.status_code}"


def application(host: str, smtp_port: int) -> FastAPI:
    mailbox = Mailbox()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(mailbox, enable_SMTPUTF8=True, loop=loop), host, smtp_port)
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()

    app = FastAPI(title="offline mail", lifespan=lifespan)

    @app.get("/healthz")
    @app.get("/readyz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/mails")
    async def mails(to: str = "") -> list[dict[str, Any]]:
        return [mail for mail in mailbox.mails if not to or to in mail["recipients"]]

    @app.put("/forwards/{address}", status_code=204)
    async def forward(address: str, where: Forward) -> None:
        mailbox.forwards[address.lower()] = where

    @app.put("/refusals", status_code=204)
    async def refuse(answers: list[str]) -> None:
        mailbox.refuse = answers

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="A mail server for the demo and the tests.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=int(os.environ.get("HANDRAIL_PORT") or 8006))
    parser.add_argument("--smtp", default=os.environ.get("HANDRAIL_SMTP_URL") or SMTP_URL, help="where it takes mail")
    options = parser.parse_args()
    smtp = urlsplit(options.smtp)
    app = application(smtp.hostname or options.host, smtp.port or 25)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
