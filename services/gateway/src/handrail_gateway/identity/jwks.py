"""The issuer's public keys, by kid: from a file, from a URL, or from where the issuer's discovery document says."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx2
import jwt
import orjson
import structlog
from handrail_runtime.settings import Settings

from handrail_gateway.problems import unavailable

log = structlog.get_logger()

MIN_RSA_BITS = 2048
FILE_SECONDS = 2.0
"""How often the file is looked at."""
FRESH_SECONDS, RETRY_SECONDS = 300.0, 5.0
UNKNOWN_SECONDS = 10.0
"""A kid that nobody knows makes us ask the issuer, but no more often than this: anybody can make kids up."""
FETCH_SECONDS = 3.0
MAX_BYTES = 256 * 1024
DISCOVERY = "/.well-known/openid-configuration"

Keys = Mapping[str, jwt.PyJWK]


class KeySource(Protocol):
    async def get(self, kid: str) -> jwt.PyJWK | None: ...

    async def run(self) -> None:
        """Keeps the keys fresh, until it is cancelled."""

    @property
    def read(self) -> asyncio.Event:
        """Set once there were keys."""


def key_source(settings: Settings) -> KeySource:
    """Raises SystemExit if the settings name none."""
    if settings.auth_jwks_file is not None:
        return FileKeys.load(settings.auth_jwks_file)
    issuer = settings.auth_issuer
    if settings.auth_jwks_url:
        return UrlKeys(_secure(settings.auth_jwks_url, "HANDRAIL_AUTH_JWKS_URL"))
    if issuer.startswith(("https:", "http:")):
        return UrlKeys("", _secure(issuer, "HANDRAIL_AUTH_ISSUER"))
    raise SystemExit(
        "nobody says where the issuer's public keys are, and without them nobody can be let in: set "
        "HANDRAIL_AUTH_JWKS_FILE or HANDRAIL_AUTH_JWKS_URL, or HANDRAIL_AUTH_ISSUER to the https URL of an OpenID provider. "
        "`handrail up` does it for development."
    )


def _secure(url: str, name: str) -> str:
    if not _is_secure(url):
        raise SystemExit(f"{name} must be an https URL, not {url!r}: whoever can change the keys can be anybody")
    return url


def _is_secure(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))


def parse_keys(data: bytes) -> dict[str, jwt.PyJWK]:
    """The usable keys of a JWKS: P-256 and RSA of at least 2048 bits, with a kid. Raises ValueError if there is none."""
    keys: dict[str, jwt.PyJWK] = {}
    for raw in _object(data).get("keys", ()):
        algorithm = {("EC", "P-256"): "ES256", ("RSA", None): "RS256"}.get((raw.get("kty"), raw.get("crv")))
        if algorithm is None or raw.get("alg", algorithm) != algorithm or not raw.get("kid"):
            continue
        if raw.get("use", "sig") != "sig":
            continue
        key = jwt.PyJWK.from_dict(raw, algorithm)
        if getattr(key.key, "key_size", 0) >= (MIN_RSA_BITS if algorithm == "RS256" else 256):
            keys[raw["kid"]] = key
    if not keys:
        raise ValueError("the JWKS holds no ES256 or RS256 key with a kid")
    return keys


def _object(data: bytes) -> dict[str, Any]:
    found = orjson.loads(data)
    if not isinstance(found, dict):
        raise ValueError("a JSON object was expected")
    return found


@dataclass(slots=True)
class FileKeys:
    """Read again when the file changes. A kid is looked up here and nowhere else."""

    path: Path
    _keys: Keys = field(default_factory=dict)
    _modified: int = 0
    _looked: float = 0.0
    read: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def load(cls, path: Path) -> "FileKeys":
        if not path.is_file():
            raise SystemExit(
                f"HANDRAIL_AUTH_JWKS_FILE names no file ({path}): without the issuer's public keys nobody can be let in. "
                "`handrail up` writes one for development."
            )
        found = cls(path)
        found._modified, found._keys = path.stat().st_mtime_ns, parse_keys(path.read_bytes())
        found._looked = time.monotonic()
        found.read.set()
        return found

    async def run(self) -> None:
        await asyncio.Event().wait()  # nothing to do: it looks when it is asked

    async def get(self, kid: str) -> jwt.PyJWK | None:
        if time.monotonic() - self._looked > FILE_SECONDS:
            self._reload()
        return self._keys.get(kid)

    def _reload(self) -> None:
        self._looked = time.monotonic()
        try:
            modified = self.path.stat().st_mtime_ns
            if modified != self._modified:
                self._keys, self._modified = parse_keys(self.path.read_bytes()), modified
        except (OSError, ValueError, jwt.PyJWTError) as error:
            log.error("jwks_unreadable", path=str(self.path), error=str(error), using="the keys read before")


class UrlKeys:
    """Fetched in the background, and once for a kid that is not known. An outage of the issuer keeps the keys read before."""

    def __init__(
        self,
        url: str,
        issuer: str = "",
        *,
        fresh_seconds: float = FRESH_SECONDS,
        unknown_seconds: float = UNKNOWN_SECONDS,
    ) -> None:
        """Without a URL it is looked up in the issuer's discovery document."""
        self._url, self._issuer = url, issuer.rstrip("/")
        self._fresh_seconds, self._unknown_seconds = fresh_seconds, unknown_seconds
        self.read = asyncio.Event()
        self._keys: Keys = {}
        self._asked = float("-inf")
        self._asking: asyncio.Task[bool] | None = None

    async def get(self, kid: str) -> jwt.PyJWK | None:
        """Raises a 503 `Problem` if the issuer was never reached: it is not the caller's fault."""
        found = self._keys.get(kid)
        if found is None:
            await self._ask_again()
            found = self._keys.get(kid)
        if not self.read.is_set():
            raise unavailable(
                "ISSUER_UNAVAILABLE", "The issuer's keys could not be read yet, so no token can be checked."
            )
        return found

    async def run(self) -> None:
        while True:
            answered = await self._ask()
            await asyncio.sleep(self._fresh_seconds if answered else RETRY_SECONDS)

    async def _ask_again(self) -> None:
        if self._asking is not None or time.monotonic() - self._asked > self._unknown_seconds:
            await self._ask()

    async def _ask(self) -> bool:
        """One question at a time, whoever waits for its answer; whether it was answered."""
        if self._asking is None:
            self._asked = time.monotonic()
            self._asking = asyncio.create_task(self._fetch(), name="jwks")
            self._asking.add_done_callback(self._answered)
        return await asyncio.shield(self._asking)

    def _answered(self, _: "asyncio.Task[bool]") -> None:
        self._asking = None

    async def _fetch(self) -> bool:
        try:
            async with httpx2.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False, trust_env=False) as client:
                url = self._url or await self._discover(client)
                self._keys = parse_keys(await _body(client, url))
                self.read.set()
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, TypeError, AttributeError, jwt.PyJWTError) as error:
            log.error(
                "jwks_unreadable", url=self._url or self._issuer, error=str(error) or repr(error), keys=len(self._keys)
            )
            return False
        return True

    async def _discover(self, client: httpx2.AsyncClient) -> str:
        found = _object(await _body(client, self._issuer + DISCOVERY))
        said, url = str(found.get("issuer", "")).rstrip("/"), str(found.get("jwks_uri", ""))
        if said != self._issuer:
            raise ValueError(f"the discovery document is of the issuer {said!r}")
        if not _is_secure(url):
            raise ValueError(f"its jwks_uri is no https URL: {url!r}")
        return url


async def _body(client: httpx2.AsyncClient, url: str) -> bytes:
    async with client.stream("GET", url) as answer:
        if answer.status_code != 200:
            raise ValueError(f"{url} answered {answer.status_code}")
        data = b""
        async for chunk in answer.aiter_bytes():
            data += chunk
            if len(data) > MAX_BYTES:
                raise ValueError(f"{url} answered with more than {MAX_BYTES} bytes")
    return data
