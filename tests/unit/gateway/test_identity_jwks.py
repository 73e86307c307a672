"""Keys of an issuer elsewhere: by URL and by discovery, through outages, and for kids that nobody knows."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from handrail_gateway.identity.jwks import MAX_BYTES, FileKeys, UrlKeys, key_source
from handrail_gateway.identity.tokens import Tokens
from handrail_gateway.problems import Problem
from handrail_runtime.settings import Settings
from unit.gateway.builders import AUDIENCE, ISSUER, Issuer, until


@dataclass
class Provider:
    """An issuer's web server."""

    issuer: Issuer = field(default_factory=Issuer)
    answers: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    away: bool = False
    url: str = ""

    def publish(self, **discovery: Any) -> None:
        said = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **discovery}
        self.answers = {
            "/keys": orjson.dumps(self.issuer.jwks()),
            "/.well-known/openid-configuration": orjson.dumps(said),
        }

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        self.asked.append(path)
        body = self.answers.get(path)
        status = b"503 Away" if self.away else b"200 OK" if body is not None else b"404 Not Found"
        writer.write(
            b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
            % (status, len(body or b""), body or b"")
        )
        await writer.drain()
        writer.close()


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    found = Provider()
    server = await asyncio.start_server(found.handle, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    found.publish()
    async with server:
        yield found


def tokens(keys: UrlKeys) -> Tokens:
    return Tokens(keys, ISSUER, AUDIENCE)


@pytest.mark.parametrize("discovered", [False, True])
async def test_keys_come_from_the_url_or_from_where_the_issuer_says(discovered: bool) -> None:
    async with provider() as there:
        keys = UrlKeys("", there.url + "/") if discovered else UrlKeys(there.url + "/keys")
        found = await tokens(keys).caller(there.issuer.token(), {})
        assert found.user_id == "ada"
        assert there.asked == (["/.well-known/openid-configuration"] if discovered else []) + ["/keys"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p.publish(issuer="http://127.0.0.1:1"),
        lambda p: p.publish(jwks_uri="http://keys.example.com/"),
        lambda p: p.publish(jwks_uri=None),
        lambda p: p.answers.update({"/.well-known/openid-configuration": b"[]"}),
        lambda p: p.answers.update({"/keys": b"<html>"}),
        lambda p: p.answers.update({"/keys": b'{"keys": [7]}'}),
        lambda p: p.answers.update({"/keys": b'{"keys": []}'}),
        lambda p: p.answers.update({"/keys": b" " * (MAX_BYTES + 1)}),
    ],
    ids=["another's document", "plain http", "no keys", "a list", "a page", "no objects", "none", "endless"],
)
async def test_an_issuer_that_makes_no_sense_lets_nobody_in(spoil: Callable[[Provider], None]) -> None:
    async with provider() as there:
        spoil(there)
        with pytest.raises(Problem) as refused:
            await tokens(UrlKeys("", there.url)).caller(there.issuer.token(), {})
        assert (refused.value.status, refused.value.code) == (503, "ISSUER_UNAVAILABLE")


async def test_an_outage_of_the_issuer_keeps_the_keys_read_before() -> None:
    async with provider() as there:
        keys = UrlKeys(there.url + "/keys", fresh_seconds=0.01)
        running = asyncio.create_task(keys.run())
        await until(lambda: keys.read.is_set())
        there.away = True
        seen = len(there.asked)
        await until(lambda: len(there.asked) > seen)
        assert (await tokens(keys).caller(there.issuer.token(), {})).user_id == "ada"
        running.cancel()


async def test_keys_that_the_issuer_changed_are_taken_over_in_the_background() -> None:
    async with provider() as there:
        keys = UrlKeys(there.url + "/keys", fresh_seconds=0.01)
        running = asyncio.create_task(keys.run())
        await until(lambda: keys.read.is_set())
        before, there.issuer = there.issuer, Issuer()
        there.publish()
        seen = len(there.asked)
        await until(lambda: len(there.asked) > seen + 1)
        assert (await tokens(keys).caller(there.issuer.token(), {})).user_id == "ada"
        with pytest.raises(Problem) as refused:
            await tokens(keys).caller(before.token(), {})
        assert refused.value.status == 401
        running.cancel()


async def test_an_unknown_kid_asks_the_issuer_once_however_many_come() -> None:
    async with provider() as there:
        keys = UrlKeys(there.url + "/keys")
        made_up = [there.issuer.token(headers={"kid": f"made-up-{number}"}) for number in range(20)]
        results = await asyncio.gather(*(tokens(keys).caller(token, {}) for token in made_up), return_exceptions=True)
        assert [getattr(result, "status", None) for result in results] == [401] * 20
        assert there.asked == ["/keys"]


async def test_a_kid_that_is_new_is_found_without_waiting_for_the_next_round() -> None:
    async with provider() as there:
        keys = UrlKeys(there.url + "/keys", unknown_seconds=0)
        await tokens(keys).caller(there.issuer.token(), {})
        renamed = there.issuer.jwks()["keys"][0] | {"kid": "new"}
        there.answers["/keys"] = orjson.dumps({"keys": [renamed]})
        assert (await tokens(keys).caller(there.issuer.token(headers={"kid": "new"}), {})).user_id == "ada"


def test_where_the_keys_are_is_told_or_the_gateway_does_not_start(tmp_path: Any) -> None:
    file = Issuer().write(tmp_path / "jwks.json")
    assert isinstance(key_source(Settings(auth_jwks_file=file, auth_jwks_url="https://x/keys")), FileKeys)
    assert isinstance(key_source(Settings(auth_jwks_url="https://issuer.example.com/keys")), UrlKeys)
    assert isinstance(key_source(Settings(auth_issuer="https://issuer.example.com")), UrlKeys)
    for bad in (
        Settings(),
        Settings(auth_jwks_url="http://issuer.example.com/keys"),
        Settings(auth_issuer="http://issuer.example.com"),
    ):
        with pytest.raises(SystemExit, match="HANDRAIL_AUTH_"):
            key_source(bad)
