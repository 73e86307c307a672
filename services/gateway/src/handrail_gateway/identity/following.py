"""Keeps a gateway's table of keys up with its topic, and tells when keys were used."""

import asyncio
import time
from typing import Protocol

import structlog
from handrail_contracts.envelope import utc
from handrail_contracts.identity import ApiKeyUsed
from handrail_contracts.ids import derive
from handrail_contracts.topics import API_KEY_DEFINED, API_KEY_USED
from handrail_runtime.settings import Settings
from handrail_runtime.tables import TopicTable

from handrail_gateway.identity.keys import ApiKey, KeyTable
from handrail_gateway.problems import Problem, unavailable
from handrail_gateway.publisher import Publisher

log = structlog.get_logger()

FOLLOW_SECONDS = 0.25
CATCH_UP_SECONDS = 4.0


class Following(Protocol):
    async def catch_up(self) -> None:
        """Returns when the table has everything that was said before the call. Raises a 503 `Problem`."""

    async def run(self) -> None:
        """Keeps on doing so, until it is cancelled."""

    async def close(self) -> None: ...


class NotFollowed:
    """Of a gateway without a broker: its table is what it was given."""

    async def catch_up(self) -> None: ...

    async def run(self) -> None: ...

    async def close(self) -> None: ...


class KeysFollowed:
    def __init__(self, settings: Settings, keys: KeyTable, publisher: Publisher) -> None:
        self._keys, self._publisher = keys, publisher
        self._table = TopicTable(settings, API_KEY_DEFINED, keys.add)

    async def catch_up(self) -> None:
        try:
            await asyncio.wait_for(self._table.catch_up(), CATCH_UP_SECONDS)
        except Exception as error:
            raise unavailable("BROKER_UNAVAILABLE", "The API keys cannot be read from the broker just now.") from error
        self._keys.ready.set()

    async def run(self) -> None:
        """While the broker is away, the keys are those that were read before."""
        behind = False
        while True:
            try:
                await self.catch_up()
                behind = False
                await self._tell()
            except Problem as problem:
                if not behind:
                    log.warning("api_keys_not_followed", cause=problem.detail, error=repr(problem.__cause__))
                behind = True
            await asyncio.sleep(FOLLOW_SECONDS)

    async def _tell(self) -> None:
        for key, used in self._keys.unsaid(time.time()):
            await self._publisher.publish(API_KEY_USED, key.said.key_id, _used(key, used))

    async def close(self) -> None:
        await self._table.close()


def _used(key: ApiKey, at: float) -> ApiKeyUsed:
    return ApiKeyUsed(
        event_id=derive(API_KEY_USED, key.said.key_id, at),
        occurred_at=utc(at),
        organization_id=key.said.organization_id,
        project_id=key.said.project_id,
        key_id=key.said.key_id,
    )
