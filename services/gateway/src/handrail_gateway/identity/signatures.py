"""Signed requests: RFC 9421 with HMAC-SHA-256, over method, path, query and the body's digest."""

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from http_message_signatures import (
    ContentDigest,
    HTTPMessageSignaturesException,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    InvalidSignature,
    algorithms,
)
from starlette.types import Scope

from handrail_gateway.identity.caller import Caller
from handrail_gateway.identity.keys import ApiKey, KeyTable, signing_secret
from handrail_gateway.identity.refusals import Unauthenticated
from handrail_gateway.problems import unavailable

SIGNED_DIGEST = "handrail.signed_digest"
"""Where the scope has the signed Content-Digest of a signed request, or None if none was signed."""
COVERED = ("@method", "@path", "@query")
MAX_AGE = datetime.timedelta(seconds=300)
SKEW = datetime.timedelta(seconds=60)
MOST_NONCES = 100_000
LONGEST_NONCE = 200


class _Verifier(HTTPMessageVerifier):
    max_clock_skew = SKEW


@dataclass(frozen=True, slots=True)
class _Fields:
    lines: tuple[tuple[str, str], ...]

    def items(self) -> Iterable[tuple[str, str]]:
        return self.lines

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.lines))

    def __contains__(self, name: str) -> bool:
        return any(each.lower() == name.lower() for each, _ in self.lines)


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: str
    headers: _Fields

    @classmethod
    def of(cls, scope: Scope) -> "_Request":
        lines = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        host = next((value for name, value in lines if name.lower() == "host"), "gateway")
        path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        return cls(scope["method"], f"{scope['scheme']}://{host}{path}{'?' if query else ''}{query}", _Fields(lines))


@dataclass(slots=True)
class _Secrets(HTTPSignatureKeyResolver):
    """Of one request: the secret of the `keyid` that it names, `<key id>.<version>`."""

    keys: KeyTable
    found: ApiKey | None = None
    version: int = 0

    def resolve_public_key(self, key_id: str) -> bytes | None:
        name, _, version = str(key_id).partition(".")
        key = self.keys.get(name)
        if key is None or not key.said.signs or not version.isascii() or not version.isdigit() or len(version) > 6:
            return None
        self.found, self.version = key, int(version)
        return signing_secret(self.keys.pepper, name, self.version).encode() if key.until(self.version) else None


@dataclass(slots=True)
class Signatures:
    """Nonces are remembered for as long as their signatures hold, by each gateway for itself."""

    keys: KeyTable
    _nonces: dict[tuple[str, str], float] = field(default_factory=dict)

    def check(self, scope: Scope, now: float) -> Caller:
        """Raises a 401 `Problem`. What the body has to be goes into the scope, for whoever reads it (`check_body`)."""
        self.keys.check_ready()
        resolver = _Secrets(self.keys)
        try:
            [signed] = _Verifier(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=resolver).verify(
                _Request.of(scope), max_age=MAX_AGE, require_components=COVERED
            )
        except (HTTPMessageSignaturesException, ValueError) as error:
            raise Unauthenticated("bad_signature", _told(error), "invalid_request") from None
        assert resolver.found is not None
        caller = self.keys.admit(resolver.found, resolver.version, now)
        self._remember(str(resolver.found.said.key_id), signed.parameters.get("nonce"), now)
        scope[SIGNED_DIGEST] = signed.covered_components.get('"content-digest"')
        return caller

    def _remember(self, key_id: str, nonce: object, now: float) -> None:
        if not isinstance(nonce, str) or not 0 < len(nonce) <= LONGEST_NONCE:
            raise Unauthenticated(
                "bad_signature", "A signature needs a `nonce` that was never sent before.", "invalid_request"
            )
        if self._nonces.get((key_id, nonce), 0) > now:
            raise Unauthenticated("replayed", "This signed request was sent before: sign it anew.", "invalid_request")
        if len(self._nonces) >= MOST_NONCES:
            self._forget(now)
        self._nonces[key_id, nonce] = now + (MAX_AGE + 2 * SKEW).total_seconds()

    def _forget(self, now: float) -> None:
        self._nonces = {nonce: until for nonce, until in self._nonces.items() if until > now}
        if len(self._nonces) >= MOST_NONCES:
            raise unavailable("TOO_MANY_SIGNATURES", "This gateway remembers as many signed requests as it can.", 30)


def check_body(scope: Scope, body: bytes) -> None:
    """Raises a 401 `Problem` if the request is signed, and its body is not what was signed."""
    if SIGNED_DIGEST not in scope:
        return
    digest = scope[SIGNED_DIGEST]
    if digest is None and not body:
        return
    if digest is None:
        raise Unauthenticated(
            "bad_signature", "The signature must cover `content-digest`: there is a body.", "invalid_request"
        )
    try:
        ContentDigest.verify(digest, body)
    except InvalidSignature as error:
        raise Unauthenticated("bad_signature", _told(error), "invalid_request") from None


def _told(error: Exception) -> str:
    return f"The signature is not valid here: {str(error)[:300]}"
