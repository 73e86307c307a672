"""The client: one connection pool, and what can be asked over it."""

import os
from collections.abc import AsyncIterator
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx2

from handrail_client import calls
from handrail_client.building import Agents, Workflows
from handrail_client.desk import Desk, Keys
from handrail_client.executions import Handle
from handrail_client.models import ExecutionSummary, Json
from handrail_client.people import Approvals, Suggestions
from handrail_client.transport import Credentials, Token, Transport, given

HERE = "http://127.0.0.1:8000"


class Handrail:
    """Use it with `async with`, or `close` it. Nothing is connected before the first call.

    `url`, `token` and `api_key` default to HANDRAIL_URL (or this machine), HANDRAIL_TOKEN and HANDRAIL_API_KEY. A `token` that is
    a callable, plain or async, is asked before every request. `organization` and `project` choose where a token allows several.
    `retry_seconds`: for how long what gets no answer, or "later", is tried again. `timeout`: of one attempt, in seconds.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: Token | None = None,
        api_key: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        retry_seconds: float = 60.0,
        timeout: float = 30.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        if token is None and api_key is None:
            token, api_key = os.environ.get("HANDRAIL_TOKEN"), os.environ.get("HANDRAIL_API_KEY")
        chosen = {"X-elevAIte-OrganizationId": organization, "X-elevAIte-ProjectId": project}
        address = (url or os.environ.get("HANDRAIL_URL") or HERE).rstrip("/")
        if not address.startswith(("http://", "https://")):
            raise ValueError(f"the gateway's address begins with http:// or https://, and {address!r} does not")
        self._client = httpx2.AsyncClient(
            base_url=f"{address}/api/v1",
            auth=Credentials(token, api_key),
            headers={name: value for name, value in chosen.items() if value},
            timeout=timeout,
            transport=transport,
        )
        self._transport = Transport(self._client, retry_seconds)
        self.workflows = Workflows(self._transport)
        self.agents = Agents(self._transport)
        self.approvals = Approvals(self._transport)
        self.suggestions = Suggestions(self._transport)
        self.keys = Keys(self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._client.aclose()

    async def start(
        self,
        workflow_id: str,
        input: Any = None,
        *,
        context: Json | None = None,
        session_id: str | None = None,
        attributes: dict[str, str | int | float | bool] | None = None,
        priority: int = 0,
        key: str | None = None,
    ) -> Handle:
        """Returns once every in-sync replica of the broker has it. The same `key` again, by whoever, is the same execution."""
        body = {
            "input": input,
            **given(context=context, session_id=session_id, attributes=attributes, priority=priority),
        }
        accepted = await self._transport.ask(calls.START, {"workflow_id": workflow_id}, body, key=key)
        return self.execution(accepted.execution_id)

    def execution(self, execution_id: str) -> Handle:
        """Asks nobody: a handle of one that was started before."""
        return Handle(self._transport, execution_id)

    def desk(self, name: str = "default") -> Desk:
        """Asks nobody: the service desk of that name."""
        return Desk(self._transport, name)

    def executions(
        self,
        *,
        workflow_id: str | None = None,
        status: str | None = None,
        session_id: str | None = None,
        attributes: dict[str, Any] | None = None,
        text: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
    ) -> AsyncIterator[ExecutionSummary]:
        """Latest first; what is given must all hold."""
        query = given(
            workflow_id=workflow_id,
            status=status,
            session_id=session_id,
            attribute=[f"{name}:{_written(value)}" for name, value in (attributes or {}).items()] or None,
            text=text,
            started_after=started_after and started_after.isoformat(),
            started_before=started_before and started_before.isoformat(),
        )
        return self._transport.pages(calls.EXECUTIONS, query=query)

    async def publish(
        self, type: str, data: Any = None, *, source: str = "", event_id: str | None = None, key: str | None = None
    ) -> str:
        """Tells what happened, and gives the event's id. Each workflow whose trigger names it starts, for one `event_id` once."""
        body = {"data": data, **given(type=type, source=source, event_id=event_id)}
        return (await self._transport.ask(calls.PUBLISH, body=body, key=key)).event_id


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
