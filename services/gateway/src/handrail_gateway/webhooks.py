"""Webhooks: an address that nobody guesses, and a signature over the raw body. Pure.

Three ways to sign are understood: our own, and Stripe's, over a time stamp and the body; GitHub's, over the body alone.
"""

import hmac
import re
from collections.abc import Mapping

from handrail_runtime.signing import derived, sign

from handrail_gateway.problems import Problem

WINDOW_SECONDS = 300
_HEX = re.compile(r"[0-9a-f]{64}")


def token_of(key: str, organization_id: str, project_id: str, workflow_id: str) -> str:
    """The part of the address that makes it secret."""
    return derived(key, "path", organization_id, project_id, workflow_id)[:40]


def secret_of(key: str, organization_id: str, project_id: str, workflow_id: str) -> str:
    """What the sender signs with."""
    return "whsec_" + derived(key, "secret", organization_id, project_id, workflow_id)


def verified(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> str:
    """The signature that fits. Raises a 401 `Problem` that says which rule was broken.

    A request that comes again has the same signature, and so names the same execution.
    """
    for name in ("x-handrail-signature", "stripe-signature"):
        if name in headers:
            return _stamped(name, headers[name], body, secret, now)
    if "x-hub-signature-256" in headers:
        given = headers["x-hub-signature-256"].removeprefix("sha256=")
        return _compared(given, [sign(secret, body)])
    raise _refused("There is no signature: send X-Handrail-Signature, Stripe-Signature or X-Hub-Signature-256.")


def _stamped(name: str, header: str, body: bytes, secret: str, now: float) -> str:
    """`t=<seconds>,v1=<hex>`; several v1 are allowed while a secret is being changed."""
    parts = [part.strip().partition("=") for part in header.split(",")]
    stamps = [value for key, _, value in parts if key == "t"]
    if len(stamps) != 1 or not stamps[0].isascii() or not stamps[0].isdigit() or len(stamps[0]) > 12:
        raise _refused(f"{name} has no time stamp: write t=<seconds since 1970>,v1=<hex>.")
    if abs(now - int(stamps[0])) > WINDOW_SECONDS:
        raise _refused(
            f"The time stamp is more than {WINDOW_SECONDS} s from now: the request is old, or a clock is wrong."
        )
    expected = sign(secret, stamps[0].encode() + b"." + body)
    given = [value for key, _, value in parts if key == "v1"][:5]
    for signature in given:
        if hmac.compare_digest(signature.encode(), expected.encode()):
            return expected
    raise _refused("The signature does not fit the body and the secret.")


def _compared(given: str, expected: list[str]) -> str:
    for signature in expected:
        if _HEX.fullmatch(given) and hmac.compare_digest(given.encode(), signature.encode()):
            return signature
    raise _refused("The signature does not fit the body and the secret.")


def _refused(detail: str) -> Problem:
    return Problem(401, "BAD_SIGNATURE", detail)
