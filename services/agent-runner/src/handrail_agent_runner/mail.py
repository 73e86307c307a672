"""The way to the mail server."""

import os
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Any
from urllib.parse import unquote, urlsplit

from handrail_contracts.envelope import JsonObject
from handrail_runtime.settings import Settings

from handrail_agent_runner.agents.base import AgentFailure

SECONDS = 60


class Unanswered(Exception):
    """The server has the text, and nobody knows whether it will deliver it."""


async def send(message: EmailMessage, settings: Settings) -> JsonObject:
    """Raises `AgentFailure` if it was not sent, `Unanswered` if nobody knows.

    Once a server has the text, only its answer tells whether it was sent: a connection that breaks then tells nothing, and
    neither does an answer that is none.
    """
    import aiosmtplib

    server = urlsplit(settings.smtp_url)
    client = aiosmtplib.SMTP(
        hostname=server.hostname,
        port=server.port,
        username=None if server.username is None else unquote(server.username),
        password=os.environ.get(settings.smtp_password_env) or None,
        use_tls=server.scheme == "smtps",
        timeout=SECONDS,
    )
    where = f"{server.hostname}:{server.port}"
    try:
        await client.connect()
        await client.mail(parseaddr(str(message["From"]))[1])
        for recipient in recipients(message):
            await client.rcpt(recipient)
    except aiosmtplib.SMTPResponseException as error:
        client.close()
        raise _refused(where, error) from error
    except (aiosmtplib.SMTPException, OSError) as error:
        client.close()
        raise AgentFailure(
            "TOOL_ERROR", f"the mail server {where} can't be reached: {error}", retryable=True
        ) from error
    try:
        response = await client.data(message.as_bytes())
    except (aiosmtplib.SMTPException, OSError) as error:
        if isinstance(error, aiosmtplib.SMTPResponseException) and error.code >= 400:
            raise _refused(where, error) from error
        raise Unanswered(str(error)) from error
    finally:
        client.close()
    return {
        "recipient": str(message["To"]),
        "status": "sent",
        "delivery_id": str(message["Message-ID"]).strip("<>"),
        "server": response.message[:200],
    }


def _refused(where: str, error: Any) -> AgentFailure:
    """4xx passes, 5xx does not."""
    message = f"the mail server {where} refused the e-mail: {error.code} {error.message}"
    return AgentFailure("TOOL_ERROR" if error.code < 500 else "VALIDATION_ERROR", message, retryable=error.code < 500)


def recipients(message: EmailMessage) -> list[str]:
    """Raises `ValueError` for what is no address that any server takes."""
    found = [address for name in ("To", "Cc") if message[name] for address in message[name].addresses]
    for address in found:
        if not (address.username and address.domain and address.addr_spec.isascii()):
            raise ValueError(f"{str(address)!r} is no address")
    return [address.addr_spec for address in found]
