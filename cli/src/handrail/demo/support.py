"""Customer support by e-mail, from the customer's message to the answer in her mailbox, with a person at the rail."""

import smtplib
import time
import uuid
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

import httpx2

from handrail.demo.tour import PATIENCE, DemoFailed, Say

Json = dict[str, Any]
SUPPORT, CUSTOMER = "support@handrail.example", "jane.smith@example.com"
SUBJECT = "Account login issues - TICKET-2026-00542"
BODY = "Hello,\n\nI can't log in to my account since this morning, and I have a deadline today!\n\nJane Smith"
WISH = "Good response! One small change: Add a link to our help article about password resets."


class SupportStory:
    """Needs a gateway, its token, and the mail server that the platform sends through."""

    def __init__(self, gateway: str, mail: str, smtp: str, token: str, say: Say) -> None:
        self._say, self._smtp, self._mail, self._token, self._gateway = say, urlsplit(smtp), mail, token, gateway
        headers = {"Authorization": f"Bearer {token}"}
        self._client = httpx2.Client(base_url=f"{gateway}/api/v1", headers=headers, timeout=30)

    def run(self) -> Json:
        """Gives the execution, the suggestion, and the mail that the customer has got."""
        with self._client:
            return self._run()

    def _run(self) -> Json:
        workflow_id = self._set_up()
        self._write_as_customer()
        execution_id = self._started(workflow_id)
        suggestion = self._suggestion(execution_id, 1)
        self._show(suggestion)
        self._post(f"/suggestions/{suggestion['id']}/comments", {"text": WISH})
        self._say(f"\nSarah writes: {WISH}")
        suggestion = self._suggestion(execution_id, 2)
        self._show_changes(suggestion)
        self._post(
            f"/suggestions/{suggestion['id']}/approve", {"notes": "Looks great! Send the response.", "revision": 2}
        )
        self._say("\nSarah approves: Looks great! Send the response.")
        execution = self._ended(execution_id)
        suggestion = self._get(f"/suggestions/{suggestion['id']}")
        mail = self._answer(suggestion["result"]["details"]["delivery_id"])
        self._say(f"\nJane's mailbox, delivery {mail['message_id']}:\n")
        self._say(_indented(f"Subject: {mail['subject']}\n\n{mail['body']}"))
        self._say(f"\nThe ticket: {execution['result']['outcome']}, by policy at its confidence")
        return {"execution": execution, "suggestion": suggestion, "mail": mail}

    def _set_up(self) -> str:
        event = f"new_support_ticket_{uuid.uuid4().hex[:8]}"
        made = self._post("/workflows/templates/support-email/instantiate", {"parameters": {"event": event}})
        forward = {"url": f"{self._gateway}/api/v1/events", "token": self._token, "type": event}
        httpx2.put(f"{self._mail}/forwards/{SUPPORT}", json=forward, timeout=10).raise_for_status()
        self._say(f"workflow {made['name']!r}, started by each e-mail to {SUPPORT}")
        return str(made["id"])

    def _write_as_customer(self) -> None:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = f"Jane Smith <{CUSTOMER}>", SUPPORT, SUBJECT
        message["Message-ID"] = f"<{uuid.uuid4()}@mail.example.com>"
        message.set_content(BODY)
        with smtplib.SMTP(str(self._smtp.hostname), self._smtp.port or 25, timeout=30) as server:
            server.send_message(message)
        self._say(f"\nJane Smith writes to {SUPPORT}: {SUBJECT}")

    def _started(self, workflow_id: str) -> str:
        found = self._until(
            lambda: self._get(f"/workflows/{workflow_id}/executions")["items"], "no execution began with the e-mail"
        )
        return str(found[0]["id"])

    def _suggestion(self, execution_id: str, revision: int) -> Json:
        def look() -> Json | None:
            items = self._get(f"/suggestions?status=pending&execution_id={execution_id}")["items"]
            return next((item for item in items if item["revision"] == revision), None)

        found: Json = self._until(look, f"revision {revision} of the suggestion did not come")
        whole: Json = self._get(f"/suggestions/{found['id']}")
        return whole

    def _show(self, suggestion: Json) -> None:
        told = f"{suggestion['action']}, confidence {suggestion['confidence']:.0%}: {suggestion['reasoning']}"
        self._say(f"\n{suggestion['agent_id']} suggests {told}\n")
        self._say(_indented(suggestion["suggested_data"]["body"]))

    def _show_changes(self, suggestion: Json) -> None:
        said = next(entry["text"] for entry in suggestion["comments"] if entry["author_type"] == "agent")
        self._say(f"\n{suggestion['agent_id']} answers: {said}")
        before, after = (entry["suggested_data"]["body"].splitlines() for entry in suggestion["revisions"])
        for line in after:
            if line not in before:
                self._say(f"  + {line}")

    def _ended(self, execution_id: str) -> Json:
        def look() -> Json | None:
            found: Json = self._get(f"/executions/{execution_id}")
            return found if found["status"] not in ("running", "waiting") else None

        execution: Json = self._until(look, "the execution did not end")
        if execution["status"] != "completed":
            raise DemoFailed(f"the execution is {execution['status']}: {execution['error']}")
        return execution

    def _answer(self, delivery_id: str) -> Json:
        def look() -> Json | None:
            mails = httpx2.get(f"{self._mail}/mails", params={"to": CUSTOMER}, timeout=10).json()
            return next((mail for mail in mails if mail["message_id"] == delivery_id), None)

        found: Json = self._until(look, "the answer did not arrive")
        return found

    def _until(self, look: Callable[[], Any], otherwise: str) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (found := look()):
            if time.monotonic() > deadline:
                raise DemoFailed(f"{otherwise} within {PATIENCE:g} s")
            time.sleep(0.05)
        return found

    def _get(self, path: str) -> Any:
        return self._answered(self._client.get(path))

    def _post(self, path: str, body: Json) -> Any:
        return self._answered(self._client.post(path, json=body))

    @staticmethod
    def _answered(response: httpx2.Response) -> Any:
        if response.status_code >= 400:
            raise DemoFailed(f"{response.request.url} answered {response.status_code}: {response.text[:400]}")
        return response.json()


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
