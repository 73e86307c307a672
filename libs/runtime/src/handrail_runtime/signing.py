"""Secrets that follow from the platform's key, and what is signed with them. Pure."""

import base64
import binascii
import hmac
from hashlib import sha256
from typing import NamedTuple

LINK = "decision link"


def derived(key: str, purpose: str, *parts: str) -> str:
    """Hex; nobody who knows one of them learns another."""
    text = "".join(f"{len(part)}:{part}" for part in (purpose, *parts))
    return hmac.new(key.encode(), text.encode(), sha256).hexdigest()


def callback_secret(key: str, organization_id: str, project_id: str) -> str:
    """What callbacks to a tenant are signed with."""
    return "whsec_" + derived(key, "callback", organization_id, project_id)


def sign(secret: str, data: bytes) -> str:
    return hmac.new(secret.encode(), data, sha256).hexdigest()


def stamped(secret: str, body: bytes, seconds: int) -> str:
    """`t=<seconds>,v1=<hex>`, over the time stamp and the body."""
    return f"t={seconds},v1={sign(secret, b'%d.' % seconds + body)}"


class DecisionLink(NamedTuple):
    """What a link in an e-mail allows: this person, one decision on this gate. `expires` in seconds since 1970."""

    approval_id: str
    organization_id: str
    project_id: str
    person: str
    notice_id: str
    expires: int


def link_token(key: str, link: DecisionLink) -> str:
    text = "\x1f".join(map(str, link)).encode()
    return _encoded(text) + "." + _encoded(bytes.fromhex(derived(key, LINK, text.decode())))


def read_link(key: str, token: str) -> DecisionLink | None:
    """None of one that we have not signed; whether it has expired is for the caller to see."""
    text, _, signature = token.partition(".")
    try:
        said = _decoded(text).decode()
        fits = hmac.compare_digest(_decoded(signature), bytes.fromhex(derived(key, LINK, said)))
        gate, organization, project, person, notice, expires = said.split("\x1f")
        return DecisionLink(gate, organization, project, person, notice, int(expires)) if fits else None
    except (ValueError, TypeError, binascii.Error):
        return None


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
