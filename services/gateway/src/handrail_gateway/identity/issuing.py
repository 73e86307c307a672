"""Making, rotating and revoking API keys. A secret is in the answer to its maker, and nowhere else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from handrail_contracts.envelope import utc
from handrail_contracts.identity import ApiKeyDefined, EarlierSecret
from handrail_contracts.topics import API_KEY_DEFINED

from handrail_gateway.database import Row
from handrail_gateway.gateway import Gateway
from handrail_gateway.idempotency import request_id
from handrail_gateway.identity.caller import Caller
from handrail_gateway.identity.keys import ApiKey, digest_of, new_secret, shown, signing_secret
from handrail_gateway.identity.rights import permissions_of
from handrail_gateway.problems import Problem, conflict, not_found, unavailable

MOST_KEYS = 1000
"""Of a project, revoked ones not counted: every gateway keeps all of them in memory."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A key, with its secrets if it was made or rotated just now. `signing` has its own id, since it belongs to a version."""

    said: ApiKeyDefined
    secret: str | None = None
    signing: str | None = None

    def shown(self) -> dict[str, Any]:
        said = self.said
        names = ("name", "roles", "permissions", "version", "signs", "made_by", "made_at", "expires_at", "revoked")
        earlier = None if said.earlier is None else said.earlier.until
        return {
            "id": said.key_id,
            **{name: getattr(said, name) for name in names},
            "changed_by": said.user_id,
            "changed_at": said.occurred_at,
            "earlier_until": earlier,
            "last_used": None,
            "key": self.secret,
            "signing_key_id": f"{said.key_id}.{said.version}" if said.signs else None,
            "signing_secret": self.signing,
        }


async def look(
    gateway: Gateway, caller: Caller, key_id: str | None, after: Sequence[Any], limit: int
) -> Sequence[Mapping[str, Any]]:
    whose = (caller.organization_id, caller.project_id, key_id)
    return await gateway.database.fetch("list_keys", *whose, *after, limit)


async def find(gateway: Gateway, caller: Caller, key_id: str) -> Row:
    """Raises a 404 `Problem` if there is none."""

    async def look_once() -> Row | None:
        return next(iter(await look(gateway, caller, key_id, (None, None), 1)), None)

    found = await gateway.reads.find(look_once, API_KEY_DEFINED, [0])
    if found is None:
        raise not_found("API key", key_id)
    return found


async def make(
    gateway: Gateway, caller: Caller, key: str | None, *, expires_at: datetime | None, **fields: Any
) -> Issued:
    """A request with an `Idempotency-Key` that has made a key before gets that one, without its secret."""
    _check_pepper(gateway)
    check_not_wider(caller, fields["roles"], fields["permissions"])
    event_id = request_id(caller, "keys", key)
    key_id = event_id.replace("-", "")[:16]
    await gateway.follow.catch_up()
    if (known := gateway.keys.get(key_id)) is not None:
        if known.said.made_by == caller.user_id and _is_of(caller, known):
            return Issued(known.said)
        raise conflict(
            "KEY_ID_TAKEN", "Another key has the id that this request leads to: use another Idempotency-Key."
        )
    if gateway.keys.count(caller.organization_id, caller.project_id) >= MOST_KEYS:
        raise conflict("TOO_MANY_KEYS", f"A project may have {MOST_KEYS} API keys; revoke one that is not used.")
    secret, now = new_secret(), utc(gateway.now())
    said = ApiKeyDefined(
        **caller.tenant.model_dump(),
        event_id=event_id,
        occurred_at=now,
        key_id=key_id,
        **fields,
        digest=digest_of(gateway.keys.pepper, key_id, secret).hex(),
        made_by=caller.user_id,
        made_at=now,
        expires_at=expires_at,
    )
    return await _publish(gateway, said, secret)


async def rotate(gateway: Gateway, caller: Caller, key_id: str, overlap_seconds: float, key: str | None) -> Issued:
    """A new secret; the one before is good for so many seconds yet, and the one before that not any more."""
    _check_pepper(gateway)
    known = await _own(gateway, caller, key_id)
    event_id = request_id(caller, f"keys/{key_id}/rotate", key)
    if known.said.event_id == event_id:
        return Issued(known.said)
    if known.said.revoked:
        raise conflict("KEY_REVOKED", "The key was revoked, which is for ever; make another.")
    check_not_wider(caller, known.said.roles, known.said.permissions)
    secret, now, before = new_secret(), gateway.now(), known.said
    earlier = EarlierSecret(version=before.version, digest=before.digest, until=utc(now + overlap_seconds))
    said = before.model_copy(
        update={
            "event_id": event_id,
            "occurred_at": utc(now),
            "user_id": caller.user_id,
            "version": before.version + 1,
            "digest": digest_of(gateway.keys.pepper, key_id, secret).hex(),
            "earlier": earlier if overlap_seconds else None,
        }
    )
    return await _publish(gateway, said, secret)


async def revoke(gateway: Gateway, caller: Caller, key_id: str, key: str | None) -> None:
    """For ever. Every gateway knows within a second, and ends what is open with the key."""
    known = await _own(gateway, caller, key_id)
    if known.said.revoked:
        return
    said = known.said.model_copy(
        update={
            "event_id": request_id(caller, f"keys/{key_id}/delete", key),
            "occurred_at": utc(gateway.now()),
            "user_id": caller.user_id,
            "earlier": None,
            "revoked": True,
        }
    )
    await _publish(gateway, said, "")


def check_not_wider(caller: Caller, roles: Iterable[str], permissions: Iterable[str]) -> None:
    """Raises a 403 `Problem`: whoever has a key's secret may what the key may, so nobody gets one that may more."""
    if beyond := sorted(permissions_of(roles, permissions) - caller.permissions):
        detail = f"The key would have permissions that you don't have: {', '.join(beyond)}."
        raise Problem(403, "FORBIDDEN", detail, more={"permission": beyond[0]})


async def _own(gateway: Gateway, caller: Caller, key_id: str) -> ApiKey:
    """By the newest word. Raises a 404 `Problem` for one of another tenant, too."""
    await gateway.follow.catch_up()
    known = gateway.keys.get(key_id)
    if known is None or not _is_of(caller, known):
        raise not_found("API key", key_id)
    return known


def _is_of(caller: Caller, key: ApiKey) -> bool:
    return (key.said.organization_id, key.said.project_id) == (caller.organization_id, caller.project_id)


async def _publish(gateway: Gateway, said: ApiKeyDefined, secret: str) -> Issued:
    """Waits until this gateway goes by it, and the read models show it, for as long as callers wait."""
    partition, offset = await gateway.publisher.publish(API_KEY_DEFINED, said.key_id, said)
    await gateway.follow.catch_up()
    known = gateway.keys.get(said.key_id)
    if known is None or known.said.digest != said.digest or known.said.revoked != said.revoked:
        raise conflict("KEY_CHANGED", "Somebody else has changed this key at the same moment; look at it again.")
    await gateway.positions.wait({(API_KEY_DEFINED, partition): offset + 1})
    signing = signing_secret(gateway.keys.pepper, said.key_id, said.version) if said.signs else None
    return Issued(said, shown(said.key_id, secret), signing)


def _check_pepper(gateway: Gateway) -> None:
    if not gateway.keys.pepper:
        raise unavailable(
            "KEYS_NOT_CONFIGURED", "API keys need HANDRAIL_KEY_PEPPER, a long random text, in the gateway."
        )
