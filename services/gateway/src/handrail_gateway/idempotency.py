"""What a request with an `Idempotency-Key` makes has ids that belong to the key, so doing it twice makes it once."""

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Any
from uuid import uuid4

import orjson
from fastapi import Header
from handrail_contracts.ids import derive

from handrail_gateway.identity.caller import Caller
from handrail_gateway.problems import Problem

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key with the same body does it once, however often it is sent; with another body: 422.",
    ),
]


def request_id(caller: Caller, route: str, key: str | None) -> str:
    """The id of what a request makes: random without a key, else the same for the same caller, route and key."""
    if key is None:
        return str(uuid4())
    return derive("gateway", caller.organization_id, caller.project_id, caller.user_id, route, key)


def fingerprint(body: Any) -> bytes:
    """Equal for equal JSON, whatever the order of its keys."""
    return sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()


def key_reused() -> Problem:
    return Problem(422, "IDEMPOTENCY_KEY_REUSED", "This Idempotency-Key was used before, with another body.")


@dataclass(slots=True)
class RecentKeys:
    """Bodies of recent keyed requests: catches a reused key that the read models do not show yet."""

    limit: int = 10_000
    _seen: "OrderedDict[str, bytes]" = field(default_factory=OrderedDict)

    def check(self, identifier: str, key: str | None, body: Any) -> None:
        if key is None:
            return
        print_ = fingerprint(body)
        if self._seen.setdefault(identifier, print_) != print_:
            raise key_reused()
        self._seen.move_to_end(identifier)
        while len(self._seen) > self.limit:
            self._seen.popitem(last=False)
