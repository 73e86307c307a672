"""JWT bearer tokens: checked against the issuer's keys, and what they say of the caller."""

import base64
import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from handrail_runtime.settings import Settings

from handrail_gateway.identity.caller import KEY_USER, Caller
from handrail_gateway.identity.jwks import KeySource, key_source
from handrail_gateway.identity.refusals import Unauthenticated
from handrail_gateway.identity.rights import permissions_of, rights_of
from handrail_gateway.problems import Problem, forbidden

ALGORITHMS = ("ES256", "RS256")
LEEWAY_SECONDS = 60
MAX_TOKEN_BYTES = 8 * 1024
MOST_VERIFIED = 1000

Headers = Mapping[str, list[str]]
"""By lower-case name, with every value that was sent."""
Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Turns a token into a `Caller`, or raises a `Problem` (401 for the token, 403 for the tenant)."""

    keys: KeySource
    issuer: str
    audience: str
    roles_claim: tuple[str, ...] = ("roles",)
    default_role: str = "viewer"
    _verified: "OrderedDict[str, tuple[jwt.PyJWK, dict[str, Any]]]" = field(default_factory=OrderedDict)
    """Tokens that were found good, with the key that they were good for: to verify a signature is most of a request's cost."""

    @classmethod
    def from_settings(cls, settings: Settings) -> "Tokens":
        path = tuple(settings.auth_roles_claim.split("."))
        return cls(key_source(settings), settings.auth_issuer, settings.auth_audience, path, settings.auth_default_role)

    async def caller(self, token: str, headers: Headers) -> Caller:
        claims = await self._claims(token)
        user = claims["sub"]
        if not isinstance(user, str) or not user:
            raise Unauthenticated("no_subject", "The token's `sub` is empty: it must say who calls.")
        if user.startswith(KEY_USER):
            raise Unauthenticated("no_subject", f"The token's `sub` begins with {KEY_USER!r}, as only keys' names do.")
        if one(headers, "x-elevaite-userid") not in (None, user):
            raise forbidden("X-elevAIte-UserId names somebody else than the token does.")
        roles, permissions = self._rights(claims)
        return Caller(
            user,
            _select(claims, "organization", one(headers, "x-elevaite-organizationid")),
            _select(claims, "project", one(headers, "x-elevaite-projectid")),
            claims["exp"],
            roles,
            permissions,
            person=user,
        )

    def _rights(self, claims: Claims) -> tuple[frozenset[str], frozenset[str]]:
        """Words that are not ours are passed over; a token without one of ours has the default role."""
        named: Any = claims
        for part in self.roles_claim:
            named = named.get(part) if isinstance(named, dict) else None
        roles, _ = rights_of(_words(named))
        _, permissions = rights_of(_words(claims.get("permissions")) | _words(claims.get("scope")))
        if not roles and not permissions:
            roles, _ = rights_of({self.default_role})
        return roles, permissions_of(roles, permissions)

    async def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthenticated("too_long", f"The token is longer than {MAX_TOKEN_BYTES} bytes.", "invalid_request")
        if token in self._verified:
            key, claims = self._verified[token]
            if time.time() < claims["exp"] + LEEWAY_SECONDS and await self.keys.get(key.key_id or "") is key:
                return claims
            self._verified.pop(token, None)
        key, claims = await self._verify(token)
        self._verified[token] = key, claims
        if len(self._verified) > MOST_VERIFIED:
            self._verified.popitem(last=False)
        return claims

    async def _verify(self, token: str) -> tuple[jwt.PyJWK, dict[str, Any]]:
        try:
            header = jwt.get_unverified_header(token)
            if "crit" in header:
                raise Unauthenticated("crit", "The token's header has `crit`, which is not supported.")
            for part in token.split(".")[:2]:
                _refuse_doubles(part)
            key = await self.keys.get(str(header.get("kid", "")))
            if key is None or header.get("alg") not in ALGORITHMS or header["alg"] != key.algorithm_name:
                raise Unauthenticated("unknown_key", "The token is not signed with a key of this platform's issuer.")
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
            raise Unauthenticated("expired", "The token has expired; get a new one.") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Unauthenticated("invalid", f"The token is not valid here: {error}") from None
        return key, claims


def _refuse_doubles(part: str) -> None:
    """A claim that is there twice means one thing to us and another to somebody else. Raises ValueError."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a claim is there twice")
        return found

    json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), object_pairs_hook=unique)


def _words(claim: Any) -> frozenset[str]:
    """Of a list, or of a text with spaces between them."""
    if isinstance(claim, str):
        return frozenset(claim.split())
    return frozenset(word for word in claim if isinstance(word, str)) if isinstance(claim, list) else frozenset()


def one(headers: Headers, name: str) -> str | None:
    values = headers.get(name, [])
    if len(values) > 1:
        raise forbidden(f"{name} was sent more than once.")
    return values[0] if values else None


def _select(claims: Claims, kind: str, wanted: str | None) -> str:
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
