"""API keys: what they look like, and the table of them by which a gateway checks without asking anybody.

The secret is 256 random bits. What is kept of it is a digest keyed with the pepper, which only gateways know: a slow hash would
add nothing to so much entropy but its slowness, and to know the topic is not enough to try a guess.
"""

import asyncio
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from handrail_contracts.envelope import utc
from handrail_contracts.identity import ApiKeyDefined

from handrail_gateway.identity.caller import KEY_USER, Caller
from handrail_gateway.identity.refusals import Unauthenticated
from handrail_gateway.identity.rights import ROLES, permissions_of, rights_of
from handrail_gateway.problems import unavailable

PREFIX = "hrk_"
FORM = re.compile(r"hrk_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
SHORTEST_PEPPER = 32
USED_SECONDS = 60.0
"""So often at most a gateway says that a key was used."""


def new_secret() -> str:
    return secrets.token_urlsafe(32)


def shown(key_id: str, secret: str) -> str:
    return f"{PREFIX}{key_id}_{secret}"


def pepper_of(setting: str) -> bytes:
    """Raises SystemExit for one that could be guessed. Empty: there are no API keys."""
    if setting and len(setting) < SHORTEST_PEPPER:
        raise SystemExit(f"HANDRAIL_KEY_PEPPER must be a random text of at least {SHORTEST_PEPPER} characters")
    return setting.encode()


def digest_of(pepper: bytes, key_id: str, secret: str) -> bytes:
    return hmac.digest(pepper, f"api-key\x1f{key_id}\x1f{secret}".encode(), "sha256")


def signing_secret(pepper: bytes, key_id: str, version: int) -> str:
    """What requests are signed with. It is not kept anywhere: whoever has the pepper can make it again."""
    made = hmac.digest(pepper, f"signing\x1f{key_id}\x1f{version}".encode(), "sha256")
    return "hrs_" + urlsafe_b64encode(made).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is defined now, ready to be compared."""

    said: ApiKeyDefined
    digests: tuple[bytes, bytes]
    """Of the secret, and of the one before it, or of nothing."""
    roles: frozenset[str]
    permissions: frozenset[str]

    @classmethod
    def of(cls, said: ApiKeyDefined) -> "ApiKey":
        earlier = bytes.fromhex(said.earlier.digest) if said.earlier else secrets.token_bytes(32)
        roles = frozenset(said.roles) & ROLES.keys()
        _, permissions = rights_of(said.permissions)
        return cls(said, (bytes.fromhex(said.digest), earlier), roles, permissions_of(roles, permissions))

    def until(self, version: int) -> float:
        """When the secret of that version ends, in seconds since 1970; 0 for one that is gone."""
        ends = inf if self.said.expires_at is None else self.said.expires_at.timestamp()
        if self.said.revoked:
            return 0.0
        if version == self.said.version:
            return ends
        earlier = self.said.earlier
        return min(ends, earlier.until.timestamp()) if earlier is not None and earlier.version == version else 0.0

    def caller(self, version: int) -> Caller:
        """Whoever proved to have the secret of that version."""
        said = self.said
        whose = (said.organization_id, said.project_id)
        rights = (self.roles, self.permissions)
        return Caller(
            KEY_USER + said.key_id, *whose, self.until(version), *rights, said.key_id, version, person=said.made_by
        )


NOBODY = ApiKey.of(
    ApiKeyDefined(
        event_id="nobody",
        occurred_at=utc(0),
        key_id="nobody",
        digest=secrets.token_hex(32),
        made_at=utc(0),
        revoked=True,
    )
)
"""Compared where there is no such key, so that this takes as long."""


@dataclass(slots=True)
class KeyTable:
    """All keys of the installation, as the topic says. `ready` is set once it was read to its end."""

    pepper: bytes = b""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    _keys: dict[str, ApiKey] = field(default_factory=dict)
    _used: dict[str, float] = field(default_factory=dict)
    _told: dict[str, float] = field(default_factory=dict)
    _ends: dict[tuple[str, int], asyncio.Event] = field(default_factory=dict)

    def add(self, said: ApiKeyDefined) -> None:
        key = self._keys[said.key_id] = ApiKey.of(said)
        for (key_id, version), ended in list(self._ends.items()):
            if key_id == said.key_id and not key.until(version):
                ended.set()
                del self._ends[key_id, version]

    def get(self, key_id: str) -> ApiKey | None:
        return self._keys.get(key_id)

    def count(self, organization_id: str, project_id: str) -> int:
        """How many keys a project has that are not revoked."""
        whose = (organization_id, project_id)
        said = (key.said for key in self._keys.values())
        return sum(not each.revoked and (each.organization_id, each.project_id) == whose for each in said)

    def check(self, given: str, now: float) -> Caller:
        """Raises a 401 `Problem`. The same work is done for a key id that there is, and for one that there is not."""
        self.check_ready()
        match = FORM.fullmatch(given)
        key_id, secret = match.groups() if match else ("", "")
        known = self._keys.get(key_id, NOBODY)
        digest = digest_of(self.pepper, key_id, secret)
        current, earlier = [hmac.compare_digest(digest, each) for each in known.digests]
        if known is NOBODY or not (current or earlier):
            raise Unauthenticated("unknown_api_key", "There is no such API key.")
        version = known.said.version if current else known.said.earlier.version if known.said.earlier else 0
        return self.admit(known, version, now)

    def admit(self, key: ApiKey, version: int, now: float) -> Caller:
        """The caller, whose secret of that version was proved. Raises a 401 `Problem` if it has ended."""
        if key.said.revoked:
            raise Unauthenticated("revoked_api_key", "The API key was revoked.")
        if now >= key.until(version):
            raise Unauthenticated("expired_api_key", "The API key has expired, or was rotated; get the new one.")
        self._used[key.said.key_id] = now
        return key.caller(version)

    def check_ready(self) -> None:
        if self.pepper and not self.ready.is_set():
            raise unavailable("KEYS_NOT_READ", "The gateway has not read the API keys yet.")

    def ended(self, caller: Caller) -> asyncio.Event:
        """Set when the secret that the caller came in with is revoked or rotated away."""
        assert caller.key_id is not None
        return self._ends.setdefault((caller.key_id, caller.key_version), asyncio.Event())

    def unsaid(self, now: float) -> Iterator[tuple[ApiKey, float]]:
        """Keys whose latest use is due to be told, each once: what is given counts as told."""
        for key_id, used in list(self._used.items()):
            if now - self._told.get(key_id, -inf) >= USED_SECONDS:
                self._told[key_id] = now
                del self._used[key_id]
                yield self._keys[key_id], used
