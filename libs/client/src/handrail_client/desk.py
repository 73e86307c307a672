"""The service desk: inquiries that agents answer tier by tier, and people where agents can't. See docs/guides/desk.md."""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Literal

from handrail_client import calls
from handrail_client.models import (
    DeskConfiguration,
    DeskStats,
    Escalation,
    Inquiry,
    IssuedKey,
    Json,
    Nothing,
    Reviewer,
)
from handrail_client.people import counted
from handrail_client.transport import Transport, given

Priority = Literal["low", "medium", "high", "urgent"]


class Desk:
    """One desk of the tenant, by its name."""

    def __init__(self, transport: Transport, name: str = "default") -> None:
        self._transport, self._query = transport, {"desk": name}
        self.name = name

    async def get(self) -> DeskConfiguration:
        return await self._transport.ask(calls.DESK, query=self._query)

    async def configure(self, configuration: Mapping[str, Any]) -> DeskConfiguration:
        """What is left out is as a new desk has it. Inquiries under way go on as the desk was."""
        return await self._transport.ask(calls.CONFIGURE, body=dict(configuration), query=self._query)

    async def inquire(
        self,
        customer_id: str,
        inquiry: str,
        *,
        topic: str | None = None,
        priority: Priority | None = None,
        escalate: bool = False,
        session_id: str | None = None,
        callback_url: str | None = None,
        wait_seconds: float | None = None,
        key: str | None = None,
    ) -> Inquiry:
        """As it is once it is answered or waits for a person, or after `wait_seconds`, 60 at most.

        `escalate`: to a person at once.
        """
        body = {
            "customer_id": customer_id,
            "inquiry": inquiry,
            "escalate": escalate,
            **given(
                topic=topic,
                priority=priority,
                session_id=session_id,
                callback_url=callback_url,
                wait_seconds=wait_seconds,
            ),
        }
        return await self._transport.ask(calls.INQUIRE, body=body, key=key, query=self._query)

    async def find(self, inquiry_id: str) -> Inquiry:
        return await self._transport.ask(calls.INQUIRY, {"inquiry_id": inquiry_id}, query=self._query)

    def inquiries(self, *, status: str | None = None, customer_id: str | None = None) -> AsyncIterator[Inquiry]:
        """Latest first."""
        query = {**self._query, **given(status=status, customer_id=customer_id)}
        return self._transport.pages(calls.INQUIRIES, query=query)

    def history(self, customer_id: str) -> AsyncIterator[Inquiry]:
        """The customer's inquiries, the latest first."""
        return self._transport.pages(calls.CUSTOMER, {"customer_id": customer_id}, query=self._query)

    def escalations(self, *, status: str | None = "pending") -> AsyncIterator[Escalation]:
        """The most urgent first."""
        return self._transport.pages(calls.ESCALATIONS, query={**self._query, **given(status=status)})

    async def answer(self, escalation_id: str, response: str, *, key: str | None = None) -> Escalation:
        """`AlreadyDecided` if another was first, `Forbidden` if it is somebody else's to answer."""
        ids, body = {"approval_id": escalation_id}, {"response": response}
        return await counted(self._transport, calls.ANSWER, ids, body, key, self._query)

    async def add_reviewer(
        self, reviewer_id: str, *, name: str = "", email: str = "", specialties: Iterable[str] = (), **more: Any
    ) -> Reviewer:
        """A person whom escalations of all desks go to; anew if there is one with that id."""
        body = {"name": name, "email": email, "specialties": sorted(specialties), **more}
        return await self._transport.ask(calls.REVIEWER, {"reviewer_id": reviewer_id}, body)

    async def stats(self) -> DeskStats:
        return await self._transport.ask(calls.DESK_STATS, query=self._query)


class Keys:
    """API keys of programs."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def make(
        self, name: str, *, permissions: Iterable[str] = (), roles: Iterable[str] = (), key: str | None = None
    ) -> IssuedKey:
        """The secret is in this answer and in no other one: `key` is None where an answer before was lost; rotate it then."""
        body: Json = {"name": name, "permissions": sorted(permissions), "roles": sorted(roles)}
        return await self._transport.ask(calls.MAKE_KEY, body=body, key=key)

    async def rotate(self, key_id: str) -> IssuedKey:
        """A new secret in place of the one before."""
        return await self._transport.ask(calls.ROTATE_KEY, {"key_id": key_id})

    async def revoke(self, key_id: str) -> Nothing:
        return await self._transport.ask(calls.REVOKE_KEY, {"key_id": key_id})
