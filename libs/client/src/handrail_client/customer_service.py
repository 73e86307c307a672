"""A service desk in one object: it configures itself, lets clients in by keys of their own, and waits for answers."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from handrail_client.client import Handrail
from handrail_client.desk import Desk, Priority
from handrail_client.errors import ExecutionFailed, UnknownKey
from handrail_client.models import DeskSettings, Inquiry, Json

TIERS = ("Frontline", "Specialist", "Expert")
AGENTS = (3, 2, 1)
ANSWERED, FAILED = "answered", "failed"
LONGEST_WAIT = 10.0
"""Seconds that one request waits, so that a connection that was cut unseen is not waited on for long."""
FIRST_LOOK, LAST_LOOK = 0.1, 2.0
"""Seconds between two looks at what takes longer."""


@dataclass(frozen=True, slots=True)
class _Client:
    """Who comes in with a key: by the platform's own key, which is kept here and nowhere else."""

    key_id: str
    handrail: Handrail


class CustomerServiceDesk:
    """Use it with `async with`, or `aclose` it. Nothing is asked of the platform before the first request.

    The desk becomes what `tiers`, `agents_per_tier` and `settings` say, if it isn't that already; what they don't say stays.
    `settings` are those of `PUT /desk`, such as `strategy` and `sla`; `connection` is what `Handrail` takes. Its caller needs
    `administer` where something has to be set up, and `decide` to answer.
    """

    def __init__(
        self,
        *,
        tiers: Sequence[str] | None = None,
        agents_per_tier: Sequence[int] | None = None,
        enable_auth: bool = False,
        name: str = "default",
        settings: Json | None = None,
        **connection: Any,
    ) -> None:
        self._name, self._enable_auth, self._connection = name, enable_auth, connection
        self._handrail = Handrail(**connection)
        self._desk = self._handrail.desk(name)
        self._clients: dict[str, _Client] = {}
        self._added: dict[str, object] = {}
        wanted = dict(settings or {})
        if tiers is not None or agents_per_tier is not None:
            wanted["tiers"] = _tiers(tiers, agents_per_tier)
        self._todo: deque[Callable[[], Awaitable[Any]]] = deque()
        if wanted:
            self._todo.append(partial(self._configure, wanted))
        self._preparing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """The keys that were made for `add_api_key` end with it."""
        try:
            for client in self._clients.values():
                await self._handrail.keys.revoke(client.key_id)
        finally:
            for client in self._clients.values():
                await client.handrail.close()
            self._clients.clear()
            await self._handrail.close()

    def add_human_reviewer(
        self, reviewer_id: str, name: str = "", specialties: Iterable[str] = (), *, email: str = "", **more: Any
    ) -> None:
        """Before the next request; `more` is what else `PUT /reviewers` takes, such as `capacity`."""
        said = {"name": name, "email": email, "specialties": sorted(specialties), **more}
        self._once(f"reviewer {reviewer_id}", said, partial(self._desk.add_reviewer, reviewer_id, **said))

    def add_api_key(self, api_key: str, client_id: str, permissions: Iterable[str] = ("customer_service",)) -> None:
        """Before the next request. `api_key` is known to this object alone: for the platform it stands for a key of its own."""
        may = sorted(permissions)
        self._once(f"key {api_key}", (client_id, may), partial(self._let_in, api_key, client_id, may, key=str(uuid4())))

    async def handle(
        self,
        customer_id: str,
        inquiry: str,
        *,
        api_key: str | None = None,
        priority: Priority | None = None,
        topic: str | None = None,
        escalate: bool = False,
        session_id: str | None = None,
        callback_url: str | None = None,
        timeout: float = 60.0,
        key: str | None = None,
    ) -> Json:
        """Its answer: `response`, `agent`, `tier`, `escalated`, `reviewer`, `confidence`, `status`, `id` and more.

        What has no answer after `timeout` seconds comes back all the same, without `response`: `status` is `waiting` where a
        person is asked, and `open` otherwise; it goes on: `find` has it later. `ExecutionFailed` if none will come.
        """
        await self._prepare()
        until = asyncio.get_running_loop().time() + timeout
        desk = self._as(api_key)
        found = await desk.inquire(
            customer_id, inquiry, topic=topic, priority=priority, escalate=escalate, session_id=session_id,
            callback_url=callback_url, wait_seconds=math.ceil(min(timeout, LONGEST_WAIT)), key=key,
        )  # fmt: skip
        return await _answered(desk, found, until)

    async def find(self, inquiry_id: str, *, api_key: str | None = None, timeout: float = 0.0) -> Json:
        """An inquiry of before, as `handle` gives it, once it is answered or `timeout` seconds are over."""
        await self._prepare()
        until = asyncio.get_running_loop().time() + timeout
        desk = self._as(api_key)
        return await _answered(desk, await desk.find(inquiry_id), until)

    async def history(self, customer_id: str) -> AsyncIterator[Json]:
        """The customer's inquiries, the latest first."""
        await self._prepare()
        async for found in self._desk.history(customer_id):
            yield found.model_dump()

    async def escalations(self, status: str | None = "pending") -> AsyncIterator[Json]:
        """What people are asked, the most urgent first."""
        await self._prepare()
        async for found in self._desk.escalations(status=status):
            yield found.model_dump()

    async def answer(self, escalation_id: str, response: str) -> Json:
        """As the person whose token this desk has; `Forbidden` if it is another one's to answer."""
        await self._prepare()
        return (await self._desk.answer(escalation_id, response)).model_dump()

    async def status(self) -> Json:
        """How the desk is set up, and under `stats` what it does."""
        await self._prepare()
        configuration, stats = await asyncio.gather(self._desk.get(), self._desk.stats())
        return {**configuration.model_dump(), "stats": stats.model_dump()}

    def _once(self, what: str, said: object, do: Callable[[], Awaitable[Any]]) -> None:
        if self._added.get(what) != said:
            self._added[what] = said
            self._todo.append(do)

    async def _prepare(self) -> None:
        """What has failed is tried again before the next request."""
        async with self._preparing:
            while self._todo:
                await self._todo[0]()
                self._todo.popleft()

    async def _configure(self, wanted: Json) -> None:
        found = (await self._desk.get()).model_dump(mode="json")
        if any(not _holds(found.get(name), value) for name, value in wanted.items()):
            await self._desk.configure({name: found[name] for name in DeskSettings.model_fields} | wanted)

    async def _let_in(self, api_key: str, client_id: str, permissions: Sequence[str], *, key: str) -> None:
        made = await self._handrail.keys.make(client_id, permissions=permissions, key=key)
        while made.key is None:
            made = await self._handrail.keys.rotate(made.id)
        connection = {**self._connection, "token": None, "api_key": made.key}
        before = self._clients.pop(api_key, None)
        self._clients[api_key] = _Client(made.id, Handrail(**connection))
        if before is not None:
            await before.handrail.close()
            await self._handrail.keys.revoke(before.key_id)

    def _as(self, api_key: str | None) -> Desk:
        if api_key is None and not self._enable_auth:
            return self._desk
        client = self._clients.get(api_key or "")
        if client is None:
            what = "no api_key" if api_key is None else "an api_key that nobody has added"
            raise UnknownKey(f"the desk {self._name!r} was given {what}; `add_api_key` lets a client in")
        return client.handrail.desk(self._name)


async def _answered(desk: Desk, found: Inquiry, until: float) -> Json:
    pause = FIRST_LOOK
    while found.status not in (ANSWERED, FAILED):
        left = until - asyncio.get_running_loop().time()
        if left <= 0:
            break
        await asyncio.sleep(min(pause, left))
        pause = min(LAST_LOOK, pause * 1.5)
        found = await desk.find(found.id)
    if found.status == FAILED:
        raise ExecutionFailed(found.id, FAILED, None, found.error or "it will get no answer")
    return found.model_dump()


def _tiers(names: Sequence[str] | None, agents: Sequence[int] | None) -> list[Json]:
    if names is None:
        names = TIERS
    if agents is None:
        agents = [*AGENTS, *[1] * len(names)][: len(names)]
    if len(names) != len(agents):
        raise ValueError(f"{len(names)} tiers and {len(agents)} numbers of agents; each tier needs one")
    return [{"name": name, "agents": count} for name, count in zip(names, agents, strict=True)]


def _holds(found: Any, wanted: Any) -> bool:
    """Whether all that is wanted is so already; what is not said may be anything."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_holds(found.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list | tuple):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_holds, found, wanted))
    return bool(found == wanted)
