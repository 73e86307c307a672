"""Secrets that registrations refer to by the name of an environment variable."""

import os
from collections.abc import Iterable
from urllib.parse import urlsplit

from handrail_runtime.errors import RuntimeFault
from handrail_runtime.settings import Settings

SHORTEST = 8
"""Shorter values would blot out ordinary words."""


class SecretRefused(RuntimeFault):
    """There is no such variable, or it is not for that host."""


def secret(variable: str, url: str, settings: Settings, *, trusted: bool) -> str:
    """The variable's value, for requests to `url`. Raises `SecretRefused`.

    What a tenant registers (`trusted` is false) may only be told what the operator keeps for that host: otherwise any of a
    service's secrets could be had by registering a server of one's own.
    """
    host = urlsplit(url).hostname or ""
    if not trusted and settings.secrets.get(variable) != host:
        raise SecretRefused(
            f"the variable {variable} is not for {host}: the operator says what is, in HANDRAIL_SECRETS"
        )
    value = os.environ.get(variable, "")
    if not value:
        raise SecretRefused(f"there is no environment variable {variable} here")
    return value


def masked(text: str, secrets: Iterable[str], shortest: int = SHORTEST) -> str:
    """The text without them: a server may repeat what it refuses, and nobody else is told."""
    for value in sorted(secrets, key=len, reverse=True):  # one may be a part of another
        if len(value) >= shortest:
            text = text.replace(value, "***")
    return text
