"""Tokens, and in-memory twins of what the gateway stands on."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from handrail_contracts.identity import ApiKeyDefined
from handrail_contracts.topics import API_KEY_DEFINED, catalogue
from handrail_gateway.app import InFlight, create_app
from handrail_gateway.channels.backlog import Backlog
from handrail_gateway.channels.hub import Hub
from handrail_gateway.channels.reading import Reading
from handrail_gateway.connection import Connection
from handrail_gateway.database import Row
from handrail_gateway.gateway import Gateway
from handrail_gateway.identity.authenticator import Authenticator
from handrail_gateway.identity.following import NotFollowed
from handrail_gateway.identity.jwks import FileKeys, parse_keys
from handrail_gateway.identity.keys import KeyTable
from handrail_gateway.identity.limits import RateLimits
from handrail_gateway.identity.tokens import Tokens
from handrail_gateway.live import LiveTail
from handrail_gateway.problems import unavailable
from handrail_gateway.progress import ProgressLog
from handrail_gateway.publisher import Publisher
from handrail_gateway.waiting import Positions
from handrail_runtime.service import Health
from handrail_runtime.settings import Settings

ISSUER, AUDIENCE, KID = "handrail-dev", "handrail", "k1"
PEPPER = b"a pepper for tests, long enough to be one"


@dataclass
class Issuer:
    """Signs tokens as the development issuer does."""

    private: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    rsa: Any = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    def jwks(self) -> dict[str, Any]:
        elliptic = orjson.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.private.public_key()))
        classic = orjson.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.rsa.public_key()))
        return {"keys": [{**elliptic, "kid": KID, "alg": "ES256"}, {**classic, "kid": "r1", "alg": "RS256"}]}

    def write(self, path: Path) -> Path:
        path.write_bytes(orjson.dumps(self.jwks()))
        return path

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Claims of a good token; a change to None takes one away."""
        standard = {
            "sub": "ada",
            "organization_id": "acme",
            "project_id": "apollo",
            "roles": ["admin"],
            "iss": ISSUER,
            "aud": AUDIENCE,
            "exp": int(time.time()) + 600,
        }
        return {name: value for name, value in {**standard, **changes}.items() if value is not None}

    def token(
        self, *, headers: dict[str, Any] | None = None, algorithm: str = "ES256", key: Any = None, **claims: Any
    ) -> str:
        return jwt.encode(
            self.claims(**claims), key or self.private, algorithm=algorithm, headers={"kid": KID, **(headers or {})}
        )

    def bearer(self, **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(**claims)}"}

    def tokens(self) -> Tokens:
        public = FileKeys(Path("unused"), parse_keys(orjson.dumps(self.jwks())), _looked=float("inf"))
        return Tokens(public, ISSUER, AUDIENCE)

    def authenticator(self) -> Authenticator:
        return Authenticator(self.tokens())


Script = Callable[..., Sequence[Row]]


def nothing(*_: object) -> Sequence[Row]:
    return []


@dataclass
class FakeDatabase:
    """Answers named queries by script, and keeps what was asked. A query without a script finds nothing."""

    scripts: dict[str, Script] = field(default_factory=dict)
    asked: list[tuple[str, tuple[object, ...]]] = field(default_factory=list)
    away: bool = False

    async def fetch(self, name: str, *arguments: object) -> Sequence[Row]:
        self.asked.append((name, arguments))
        if self.away:
            raise unavailable("DATABASE_UNAVAILABLE", "away")
        return self.scripts.get(name, nothing)(*arguments)

    async def row(self, name: str, *arguments: object) -> Row | None:
        rows = await self.fetch(name, *arguments)
        return rows[0] if rows else None


@dataclass
class FakeProducer:
    """Acknowledges at once; `hangs` makes it behave as with a broker that went away."""

    sent: list[tuple[str, int, bytes, dict[str, Any]]] = field(default_factory=list)
    hangs: bool = False
    discarded: bool = False

    async def send(
        self, topic: str, value: bytes, key: bytes, partition: int, *, headers: list[tuple[str, bytes]]
    ) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self.hangs:
            self.sent.append((topic, partition, key, orjson.loads(value)))
            future.set_result(SimpleNamespace(offset=len(self.sent) - 1))
        return future


@dataclass
class FollowsProducer(NotFollowed):
    """The table of keys, from what was sent."""

    keys: KeyTable
    producer: FakeProducer

    async def catch_up(self) -> None:
        for topic, _, _, said in self.producer.sent:
            if topic == API_KEY_DEFINED:
                self.keys.add(ApiKeyDefined.model_validate(said))


@dataclass
class FakeEnds:
    """Every partition is empty, so whatever is not there was never written."""

    async def of(self, topic: str, partitions: Sequence[int]) -> Mapping[tuple[str, int], int]:
        return {(topic, partition): 0 for partition in partitions}


async def until(true: Callable[[], Any], seconds: float = 20) -> None:
    """Waits for something to become true; how long it takes is not what is tested."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


async def _no_broker() -> Any:
    raise OSError("no broker in unit tests")


@dataclass
class World:
    """An app over the twins, and a client for it."""

    issuer: Issuer = field(default_factory=Issuer)
    database: FakeDatabase = field(default_factory=FakeDatabase)
    producer: FakeProducer = field(default_factory=FakeProducer)
    mcp_hosts: tuple[str, ...] = ()
    limits: RateLimits = field(default_factory=RateLimits)

    def __post_init__(self) -> None:
        self.starts: list[FakeProducer] = []
        publisher = Publisher(Connection("publisher", self._start, self._discard), send_seconds=0.1)
        database: Any = self.database
        ends: Any = FakeEnds()
        positions, tail = Positions(database, 0.001), LiveTail(database, _no_broker)
        progress = ProgressLog(Settings())
        keys = KeyTable(PEPPER)
        keys.ready.set()
        self.gateway = Gateway(
            database,
            publisher,
            positions,
            ends,
            tail,
            progress,
            mcp_hosts=self.mcp_hosts,
            keys=keys,
            follow=FollowsProducer(keys, self.producer),
        )
        self.authenticator = Authenticator(self.issuer.tokens(), keys, self.limits)
        hub = Hub(tail, positions, Reading(database), Backlog(Settings()))
        self.app = create_app(self.gateway, self.authenticator, Health(), InFlight(), hub)

    async def _start(self) -> FakeProducer:
        producer = FakeProducer() if self.starts else self.producer
        self.starts.append(producer)
        return producer

    async def _discard(self, producer: FakeProducer) -> None:
        producer.discarded = True

    async def connect(self) -> None:
        self.gateway.publisher.connection.open()
        await asyncio.wait_for(self.gateway.publisher.connection.connected_once.wait(), 5)

    def client(self, **claims: Any) -> httpx2.AsyncClient:
        return self.anonymous(self.issuer.bearer(**claims))

    def anonymous(self, headers: dict[str, str] | None = None) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(app=self.app, raise_app_exceptions=False)
        return httpx2.AsyncClient(transport=transport, base_url="http://gateway", headers=headers)

    def projected(self) -> None:
        """From now on the projector has passed everything that is sent."""
        self.database.scripts["positions"] = lambda topics: [
            {"topic": topic, "partition": partition, "next_offset": 2**40, "epoch": -1, "next_seq": 0}
            for topic in topics
            for partition in range(catalogue()[topic].partitions)
        ]
