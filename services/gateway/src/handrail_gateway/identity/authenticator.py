"""One request, one caller: by a token, an API key or a signature, and never by two of them."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from handrail_runtime.settings import Settings
from starlette.types import Scope

from handrail_gateway.identity.caller import Caller
from handrail_gateway.identity.keys import PREFIX, KeyTable
from handrail_gateway.identity.limits import RateLimits
from handrail_gateway.identity.refusals import Unauthenticated
from handrail_gateway.identity.signatures import Signatures
from handrail_gateway.identity.tokens import Headers, Tokens, one
from handrail_gateway.problems import forbidden


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Turns a request into a `Caller`, or raises a `Problem`: 401 for its credentials, 403 for the tenant, 429, or 503."""

    tokens: Tokens
    keys: KeyTable = field(default_factory=KeyTable)
    limits: RateLimits = field(default_factory=RateLimits)
    clock: Callable[[], float] = time.time
    signatures: Signatures = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "signatures", Signatures(self.keys))

    @classmethod
    def from_settings(cls, settings: Settings, keys: KeyTable) -> "Authenticator":
        return cls(Tokens.from_settings(settings), keys, RateLimits.from_settings(settings))

    async def caller(self, scope: Scope) -> Caller:
        headers: Headers = defaultdict(list)
        for name, value in scope["headers"]:
            headers[name.decode("latin-1").lower()].append(value.decode("latin-1"))
        given = [headers[name] for name in ("authorization", "x-api-key", "signature-input") if name in headers]
        if len(given) > 1 or any(len(values) > 1 for values in given):
            raise Unauthenticated("several", "There must be one credential, sent once.", "invalid_request")
        if "signature-input" in headers:
            return _of_key(self.signatures.check(scope, self.clock()), headers)
        if "x-api-key" in headers:
            return _of_key(self.keys.check(headers["x-api-key"][0], self.clock()), headers)
        token = _bearer(headers.get("authorization", []))
        if token.startswith(PREFIX):
            return _of_key(self.keys.check(token, self.clock()), headers)
        return await self.tokens.caller(token, headers)


def _bearer(values: list[str]) -> str:
    if not values:
        raise Unauthenticated("none", "This needs a token, or an API key: `Authorization: Bearer <token>`.", error="")
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("malformed", "The Authorization header must be `Bearer <token>`.", "invalid_request")
    return token.strip()


def _of_key(caller: Caller, headers: Headers) -> Caller:
    """The tenant headers may repeat what the key says; they change nothing."""
    said = {"userid": caller.user_id, "organizationid": caller.organization_id, "projectid": caller.project_id}
    for name, own in said.items():
        if one(headers, f"x-elevaite-{name}") not in (None, own):
            raise forbidden(f"The API key is not for what X-elevAIte-{name} says.")
    return caller
