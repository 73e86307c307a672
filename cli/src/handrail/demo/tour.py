"""The demo itself: runs both workflows through the gateway as a client would, and shows what happened."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx2

from handrail.demo.agents import AGENTS
from handrail.demo.flows import CONTENT_MARKETING, CUSTOMER_SUPPORT, INQUIRY

Say = Callable[[str], None]
PATIENCE = 60.0


class DemoFailed(Exception):
    """Something did not go as the demo promises."""


class Tour:
    def __init__(self, gateway: str, tokens: Callable[[str], str], say: Say) -> None:
        self._say = say
        self._client = httpx2.Client(base_url=gateway, headers=self._bearer(tokens("dev@example.com")), timeout=30)
        self._manager = self._bearer(tokens("manager@example.com"))

    @staticmethod
    def _bearer(token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"}

    def register_agents(self, url: str) -> None:
        for name in AGENTS:
            self._call("PUT", f"/api/v1/agents/{name}", {"kind": "http", "config": {"url": url}})
        self._say(f"{len(AGENTS)} agents registered at {url}")

    def content_marketing(self) -> str:
        """A chain of three agents, by the endpoints of the first platform."""
        self._title("Content marketing: three agents in a chain")
        created = self._call("POST", "/workflows/create", CONTENT_MARKETING)
        workflow_id = created["workflow_id"]
        self._say(f"created   {created['name']} ({created['task_count']} tasks)")
        began = time.monotonic()
        self._call("POST", f"/workflows/{workflow_id}/execute")
        execution_id = self._latest_execution(workflow_id)
        self._watch(execution_id)
        status = self._settled(f"/workflows/{workflow_id}")
        if status["status"] != "completed":
            raise DemoFailed(f"the workflow is {status['status']}: {json.dumps(status)[:400]}")
        self._say(f"completed after {time.monotonic() - began:.1f} s; its last output:")
        self._say(_indented(status["results"][-1]["output"]))
        return execution_id

    def customer_support(self) -> str:
        """A graph with a condition and a gate that a person opens."""
        self._title("Customer support: a condition, and a person at the rail")
        workflow = self._call("POST", "/api/workflows", CUSTOMER_SUPPORT)
        started = self._call("POST", f"/api/workflows/{workflow['id']}/execute", INQUIRY)
        execution_id = str(started["execution_id"])
        self._watch(execution_id, on_waiting=self._approve)
        execution = self._settled(f"/api/executions/{execution_id}")
        if execution["status"] != "completed":
            raise DemoFailed(f"the execution is {execution['status']}: {json.dumps(execution)[:400]}")
        self._say("the answer that went out:")
        self._say(_indented(execution["result"]))
        return execution_id

    def timeline(self, execution_id: str) -> None:
        self._title("Where the time went")
        execution = self._call("GET", f"/api/v1/executions/{execution_id}")
        for step in execution["steps"]:
            took = _seconds(step.get("started_at"), step.get("completed_at"))
            self._say(f"  {step['step_id']:18} {step['status']:10} {took}")

    def _latest_execution(self, workflow_id: str) -> str:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            items = self._call("GET", f"/api/v1/workflows/{workflow_id}/executions")["items"]
            if items:
                return str(items[0].get("execution_id") or items[0]["id"])
            time.sleep(0.02)
        raise DemoFailed(f"no execution of {workflow_id} appeared within {PATIENCE:g} s")

    def _settled(self, path: str) -> Any:
        """What the read models say once they have caught up with the stream, which is a moment ahead of them."""
        deadline = time.monotonic() + PATIENCE
        while (found := self._call("GET", path))["status"] in ("running", "waiting") and time.monotonic() < deadline:
            time.sleep(0.02)
        return found

    def _watch(self, execution_id: str, on_waiting: Callable[[str], None] | None = None) -> None:
        """Prints the event stream until the execution has ended."""
        began = time.monotonic()
        with self._client.stream("GET", f"/api/v1/executions/{execution_id}/stream", timeout=PATIENCE) as response:
            if response.status_code != 200:
                raise DemoFailed(f"the stream answered {response.status_code}")
            for event, data in _server_sent_events(response.iter_lines()):
                if event not in ("heartbeat", "connected"):
                    self._say(f"  {time.monotonic() - began:5.2f} s  {event:14} {_short(data)}")
                if event == "status" and data.get("status") == "waiting" and on_waiting is not None:
                    on_waiting(execution_id)
                if event == "complete":
                    return
        raise DemoFailed("the stream ended before the execution did")

    def _approve(self, execution_id: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            waiting = self._call("GET", "/api/approvals?status=pending", headers=self._manager)["items"]
            mine = [gate for gate in waiting if gate["execution_id"] == execution_id]
            if mine:
                gate_id = mine[0].get("approval_id") or mine[0]["id"]
                self._say(f"           manager@example.com sees: {mine[0]['message']}")
                decision = {"decision": "approved", "comment": "Looks good, proceed"}
                self._call("POST", f"/api/approvals/{gate_id}", decision, headers=self._manager)
                self._say("           manager@example.com approves: Looks good, proceed")
                return
            time.sleep(0.05)
        raise DemoFailed("the approval did not appear")

    def _call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        response = self._client.request(method, path, json=body, headers=headers)
        if response.status_code >= 400:
            raise DemoFailed(f"{method} {path} answered {response.status_code}: {response.text[:400]}")
        return response.json()

    def _title(self, text: str) -> None:
        self._say(f"\n{text}\n{'-' * len(text)}")


def _server_sent_events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    event, data = "message", ""
    for line in lines:
        if line.startswith("event:"):
            event = line[6:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
        elif not line and data:
            yield event, json.loads(data)
            event, data = "message", ""


def _short(data: Any) -> str:
    told = {key: value for key, value in data.items() if key not in ("execution_id", "timestamp", "at")}
    text = json.dumps(told, ensure_ascii=False)
    return text if len(text) <= 110 else text[:107] + "..."


def _indented(value: Any) -> str:
    return "\n".join("  " + line for line in json.dumps(value, indent=2, ensure_ascii=False).splitlines())


def _seconds(since: str | None, until: str | None) -> str:
    if not since or not until:
        return ""
    return f"{(datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds():6.3f} s"
