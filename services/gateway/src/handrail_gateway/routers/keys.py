"""API keys of programs."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Response

from handrail_gateway.answers import Answer, renamed
from handrail_gateway.gateway import CallerDep, GatewayDep
from handrail_gateway.idempotency import Key
from handrail_gateway.identity import issuing
from handrail_gateway.paging import CursorText, Limit, decode_cursor, page
from handrail_gateway.problems import invalid
from handrail_gateway.schemas import IssuedKey, KeyPage, KeyRequest, KeySummary, RotateRequest

router = APIRouter(prefix="/keys", tags=["keys"])

KeyId = Annotated[str, Path(min_length=1, max_length=200)]
SECRET = {"Cache-Control": "no-store"}


@router.post("", status_code=201, response_model=IssuedKey)
async def create_key(body: KeyRequest, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Answer:
    """The key is shown here, and never again. It can't have permissions that its maker doesn't have."""
    if not body.roles and not body.permissions:
        raise invalid("Say what the key may.", [{"path": "roles", "message": "at least one role or permission"}])
    if body.expires_at is not None and body.expires_at.timestamp() <= gateway.now():
        raise invalid("The key would have expired already.", [{"path": "expires_at", "message": "is over"}])
    said = {**body.model_dump(), "roles": tuple(body.roles), "permissions": tuple(map(str, body.permissions))}
    whose = (caller.organization_id, caller.project_id, caller.user_id)
    gateway.recent.check("/".join(("keys", *whose, key or "")), key, body.model_dump(mode="json"))
    made = (await issuing.make(gateway, caller, key, **said)).shown()
    return Answer(made, 201, {"Location": f"/api/v1/keys/{made['id']}", **SECRET})


@router.get("", response_model=KeyPage)
async def list_keys(gateway: GatewayDep, caller: CallerDep, limit: Limit = 50, cursor: CursorText = None) -> Answer:
    """Newest first, also those that were revoked."""
    after = decode_cursor(cursor, datetime, str)
    rows = await issuing.look(gateway, caller, None, after, limit + 1)
    kept, next_cursor = page(rows, limit, lambda row: (row["made_at"], row["key_id"]))
    return Answer({"items": [renamed(row, "key_id") for row in kept], "next_cursor": next_cursor})


@router.get("/{key_id}", response_model=KeySummary)
async def get_key(key_id: KeyId, gateway: GatewayDep, caller: CallerDep) -> Answer:
    return Answer(renamed(await issuing.find(gateway, caller, key_id), "key_id"))


@router.post("/{key_id}/rotate", response_model=IssuedKey)
async def rotate_key(
    key_id: KeyId, gateway: GatewayDep, caller: CallerDep, body: RotateRequest | None = None, key: Key = None
) -> Answer:
    """A new secret. The one before it stays good for `overlap_seconds`, so that nobody is locked out while it is replaced."""
    overlap = (body or RotateRequest()).overlap_seconds
    return Answer((await issuing.rotate(gateway, caller, key_id, overlap, key)).shown(), headers=SECRET)


@router.delete("/{key_id}", status_code=204, response_class=Response)
async def revoke_key(key_id: KeyId, gateway: GatewayDep, caller: CallerDep, key: Key = None) -> Response:
    """For ever; every gateway knows within a second."""
    await issuing.revoke(gateway, caller, key_id, key)
    return Response(status_code=204)
