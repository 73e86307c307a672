"""What the routes work with: one composition for the process, handed to every handler."""

import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request, Security
from handrail_runtime.settings import Settings

from handrail_gateway.admitting import Pending
from handrail_gateway.database import Database
from handrail_gateway.generation.asking import Architect, ModelArchitect
from handrail_gateway.idempotency import RecentKeys
from handrail_gateway.identity.caller import Caller
from handrail_gateway.identity.following import Following, KeysFollowed, NotFollowed
from handrail_gateway.identity.keys import KeyTable, pepper_of
from handrail_gateway.identity.rights import caller_of, guard
from handrail_gateway.known import KnownWorkflows
from handrail_gateway.live import LiveTail
from handrail_gateway.progress import Missed, ProgressLog
from handrail_gateway.publisher import Publisher
from handrail_gateway.waiting import BrokerEnds, Positions, ReadYourWrites


@dataclass(frozen=True, slots=True)
class Gateway:
    database: Database
    publisher: Publisher
    positions: Positions
    ends: BrokerEnds
    tail: LiveTail
    progress: Missed
    recent: RecentKeys = field(default_factory=RecentKeys)
    known: KnownWorkflows = field(default_factory=KnownWorkflows)
    architect: Architect = field(default_factory=lambda: ModelArchitect(Settings()))
    keys: KeyTable = field(default_factory=KeyTable)
    follow: Following = field(default_factory=NotFollowed)
    webhook_key: str = ""
    max_pending: int = 100_000
    mcp_hosts: tuple[str, ...] = ()
    ws_origins: tuple[str, ...] = ()
    ws_connections: int = 10_000
    pending: Pending = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pending", Pending(self.database, self.max_pending))

    @classmethod
    def from_settings(cls, settings: Settings) -> "Gateway":
        database, publisher = Database(settings.database_url), Publisher.from_settings(settings)
        keys = KeyTable(pepper_of(settings.key_pepper))
        return cls(
            database,
            publisher,
            Positions(database),
            BrokerEnds.from_settings(settings),
            LiveTail.from_settings(database, settings),
            ProgressLog(settings),
            architect=ModelArchitect(settings),
            keys=keys,
            follow=KeysFollowed(settings, keys, publisher),
            webhook_key=settings.webhook_key,
            max_pending=settings.max_pending,
            mcp_hosts=_several(settings.mcp_hosts),
            ws_origins=_several(settings.ws_origins),
            ws_connections=settings.ws_connections,
        )

    @property
    def reads(self) -> ReadYourWrites:
        return ReadYourWrites(self.positions, self.ends)

    @staticmethod
    def now() -> float:
        return time.time()

    async def open(self) -> None:
        """Begins to connect; returns at once."""
        await self.database.open()
        self.publisher.connection.open()
        self.ends.connection.open()

    async def close(self) -> None:
        await self.tail.close()
        await self.progress.close()
        await self.follow.close()
        await self.architect.close()
        await self.positions.close()
        await self.publisher.connection.close()
        await self.ends.connection.close()
        await self.database.close()


def _several(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _gateway(request: Request) -> Gateway:
    found: Gateway = request.app.state.gateway
    return found


def _caller(request: Request) -> Caller:
    return caller_of(request.scope)


GatewayDep = Annotated[Gateway, Depends(_gateway)]
CallerDep = Annotated[Caller, Depends(_caller)]
Guarded = Security(guard)
"""What every router but that of the webhooks is included with; see identity/rights.py."""
