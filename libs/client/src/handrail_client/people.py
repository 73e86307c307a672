"""Where people decide: approvals and suggestions."""

import asyncio
import builtins
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, TypeVar
from uuid import uuid4

from handrail_client import calls
from handrail_client.calls import Call
from handrail_client.models import Approval, Comment, Json, Suggestion, SuggestionSummary
from handrail_client.transport import NOTHING, Backoff, Transport, given

SUBMITTED = "submitted"
Decided = TypeVar("Decided", bound=Approval)


LOOK_SECONDS = 0.1


class Approvals:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, status: str | None = None, execution_id: str | None = None) -> AsyncIterator[Approval]:
        """Oldest first."""
        return self._transport.pages(calls.APPROVALS, query=given(status=status, execution_id=execution_id))

    async def pending(self, execution_id: str, *, timeout: float = 10.0) -> "builtins.list[Approval]":
        """The execution's gates that wait, once there is one: it waits a moment before its gate is open.

        Empty if none opens within `timeout` seconds.
        """
        until = asyncio.get_running_loop().time() + timeout
        while True:
            found = [gate async for gate in self.list(status="pending", execution_id=execution_id)]
            if found or asyncio.get_running_loop().time() > until:
                return found
            await asyncio.sleep(LOOK_SECONDS)

    async def get(self, approval_id: str) -> Approval:
        return await self._transport.ask(calls.APPROVAL, {"approval_id": approval_id})

    async def decide(
        self,
        approval_id: str,
        decision: Literal["approved", "rejected"],
        *,
        comment: str = "",
        revision: int | None = None,
        data: Json | None = None,
        key: str | None = None,
    ) -> Approval:
        """The gate once this decision counts; `AlreadyDecided` if another was first, `Forbidden` if it is not yours to decide.

        `revision` and `data` are of a gate that holds a suggestion.
        """
        body = given(decision=decision, comment=comment, revision=revision, data=data)
        return await counted(self._transport, calls.DECIDE, {"approval_id": approval_id}, body, key)

    async def comment(self, approval_id: str, text: str, *, revise: bool = True, key: str | None = None) -> Comment:
        """At a gate that holds a suggestion, it sends that back to its agent unless `revise` is false."""
        body = {"text": text, "revise": revise}
        return await self._transport.ask(calls.COMMENT, {"approval_id": approval_id}, body, key=key)


class Suggestions:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        status: str | None = None,
        execution_id: str | None = None,
        task_id: str | None = None,
        agent_id: str | None = None,
    ) -> AsyncIterator[SuggestionSummary]:
        """Oldest first."""
        query = given(status=status, execution_id=execution_id, task_id=task_id, agent_id=agent_id)
        return self._transport.pages(calls.SUGGESTIONS, query=query)

    async def get(self, suggestion_id: str) -> Suggestion:
        return await self._transport.ask(calls.SUGGESTION, {"suggestion_id": suggestion_id})

    async def approve(
        self,
        suggestion_id: str,
        *,
        notes: str = "",
        revision: int | None = None,
        suggested_data: Json | None = None,
        key: str | None = None,
    ) -> Approval:
        """Its action is carried out, once. Name the `revision` that you have seen: `Revised` if there is a newer one."""
        body = given(notes=notes, revision=revision, suggested_data=suggested_data)
        return await counted(self._transport, calls.APPROVE, {"suggestion_id": suggestion_id}, body, key)

    async def reject(self, suggestion_id: str, *, notes: str = "", key: str | None = None) -> Approval:
        return await counted(self._transport, calls.REJECT, {"suggestion_id": suggestion_id}, {"notes": notes}, key)

    async def comment(self, suggestion_id: str, text: str, *, revise: bool = True, key: str | None = None) -> Comment:
        """It sends the suggestion back to its agent, unless `revise` is false."""
        body = {"text": text, "revise": revise}
        return await self._transport.ask(calls.REMARK, {"suggestion_id": suggestion_id}, body, key=key)


async def counted(
    transport: Transport,
    call: Call[Decided],
    ids: Mapping[str, str],
    body: Any,
    key: str | None,
    query: Mapping[str, Any] = NOTHING,
) -> Decided:
    """Asks with the same key until it is known whether the decision counts; after `retry_seconds` it is still `submitted`."""
    key = key or str(uuid4())
    backoff = Backoff(transport.retry_seconds)
    while True:
        found = await transport.ask(call, ids, body, key=key, query=query)
        if found.status != SUBMITTED or not await backoff.wait():
            return found
