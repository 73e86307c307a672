"""Who calls, and for which tenant: JWT bearer tokens, checked against the keys of a JWKS file."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import orjson
import structlog
from handrail_contracts.envelope import Tenant
from handrail_runtime.settings import Settings

from handrail_gateway.problems import Problem, forbidden

log = structlog.get_logger()

ALGORITHMS = ("ES256", "RS256")
LEEWAY_SECONDS = 60
MAX_TOKEN_BYTES = 8 * 1024
MIN_RSA_BITS = 2048
RELOAD_EVERY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Caller:
    """A person or program, in one project of one organization. Everything is filtered by the latter two."""

    user_id: str
    organization_id: str
    project_id: str
    expires_at: float

    @property
    def tenant(self) -> Tenant:
        return Tenant(user_id=self.user_id, organization_id=self.organization_id, project_id=self.project_id)


@dataclass(slots=True)
class KeySet:
    """The public keys by kid, read again when the file changes. A kid is looked up here and nowhere else."""

    path: Path
    _keys: Mapping[str, jwt.PyJWK] = field(default_factory=dict)
    _modified: int = 0
    _looked: float = 0.0

    @classmethod
    def load(cls, path: Path | None) -> "KeySet":
        if path is None or not path.is_file():
            raise SystemExit(
                f"HANDRAIL_AUTH_JWKS_FILE names no file ({path}): without the issuer's public keys nobody can be let in. "
                "`handrail up` writes one for development."
            )
        found = cls(path)
        found._modified, found._keys = path.stat().st_mtime_ns, parse_keys(path.read_bytes())
        found._looked = time.monotonic()
        return found

    def get(self, kid: str) -> jwt.PyJWK | None:
        if time.monotonic() - self._looked > RELOAD_EVERY_SECONDS:
            self._reload()
        return self._keys.get(kid)

    def _reload(self) -> None:
        self._looked = time.monotonic()
        try:
            modified = self.path.stat().st_mtime_ns
            if modified != self._modified:
                self._keys, self._modified = parse_keys(self.path.read_bytes()), modified
        except (OSError, ValueError) as error:
            log.error("jwks_unreadable", path=str(self.path), error=str(error), using="the keys read before")


def parse_keys(data: bytes) -> dict[str, jwt.PyJWK]:
    """The usable keys of a JWKS: P-256 and RSA of at least 2048 bits, with a kid. Raises ValueError if there is none."""
    keys: dict[str, jwt.PyJWK] = {}
    for raw in orjson.loads(data).get("keys", ()):
        algorithm = {("EC", "P-256"): "ES256", ("RSA", None): "RS256"}.get((raw.get("kty"), raw.get("crv")))
        if algorithm is None or raw.get("alg", algorithm) != algorithm or not raw.get("kid"):
            continue
        key = jwt.PyJWK.from_dict(raw, algorithm)
        if getattr(key.key, "key_size", 0) >= (MIN_RSA_BITS if algorithm == "RS256" else 256):
            keys[raw["kid"]] = key
    if not keys:
        raise ValueError("the JWKS holds no ES256 or RS256 key with a kid")
    return keys


def unauthenticated(detail: str, error: str = "invalid_token") -> Problem:
    challenge = f'Bearer realm="handrail", error="{error}"' if error else 'Bearer realm="handrail"'
    return Problem(401, "UNAUTHENTICATED", detail, headers={"WWW-Authenticate": challenge})


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Turns request headers into a `Caller`, or raises a `Problem` (401 for the token, 403 for the tenant)."""

    keys: KeySet
    issuer: str
    audience: str

    @classmethod
    def from_settings(cls, settings: Settings) -> "Authenticator":
        return cls(KeySet.load(settings.auth_jwks_file), settings.auth_issuer, settings.auth_audience)

    def caller(self, headers: Mapping[str, list[str]]) -> Caller:
        """`headers` by lower-case name, with every value that was sent."""
        claims = self._claims(_bearer(headers.get("authorization", [])))
        user = claims["sub"]
        if not isinstance(user, str) or not user:
            raise unauthenticated("The token's `sub` is empty: it must say who calls.")
        if _one(headers, "x-elevaite-userid") not in (None, user):
            raise forbidden("X-elevAIte-UserId names somebody else than the token does.")
        return Caller(
            user,
            _select(claims, "organization", _one(headers, "x-elevaite-organizationid")),
            _select(claims, "project", _one(headers, "x-elevaite-projectid")),
            claims["exp"],
        )

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            if "crit" in header:
                raise unauthenticated("The token's header has `crit`, which is not supported.")
            key = self.keys.get(str(header.get("kid", "")))
            if key is None or header.get("alg") not in ALGORITHMS or header["alg"] != key.algorithm_name:
                raise unauthenticated("The token is not signed with a key of this platform's issuer.")
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm_name],
                audience=self.audience,
                issuer=self.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "aud", "iss", "sub"], "strict_aud": False},
            )
            claims["exp"] = float(claims["exp"])
        except jwt.ExpiredSignatureError:
            raise unauthenticated("The token has expired; get a new one.") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise unauthenticated(f"The token is not valid here: {error}") from None
        return claims


def _bearer(values: list[str]) -> str:
    if not values:
        raise unauthenticated("This needs a bearer token: `Authorization: Bearer <token>`.", error="")
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise unauthenticated(
            "There must be one Authorization header, and it must be `Bearer <token>`.", "invalid_request"
        )
    if len(token) > MAX_TOKEN_BYTES:
        raise unauthenticated(f"The token is longer than {MAX_TOKEN_BYTES} bytes.", "invalid_request")
    return token.strip()


def _one(headers: Mapping[str, list[str]], name: str) -> str | None:
    values = headers.get(name, [])
    if len(values) > 1:
        raise forbidden(f"{name} was sent more than once.")
    return values[0] if values else None


def _select(claims: Mapping[str, Any], kind: str, wanted: str | None) -> str:
    """The organization or project to act in: the one asked for if the token allows it, else the token's own."""
    own, others = claims.get(f"{kind}_id"), claims.get(f"{kind}s", [])
    allowed = [
        value for value in (own, *(others if isinstance(others, list) else [])) if isinstance(value, str) and value
    ]
    if wanted is not None:
        if wanted not in allowed:
            raise forbidden(f"The token does not allow the {kind} {wanted!r}.")
        return wanted
    if isinstance(own, str) and own:
        return own
    if len(allowed) == 1:
        return allowed[0]
    if not allowed:
        raise forbidden(f"The token names no {kind} (claim `{kind}_id` or `{kind}s`).")
    raise Problem(
        400, "TENANT_REQUIRED", f"The token allows several {kind}s: say which with X-elevAIte-{kind.title()}Id."
    )
