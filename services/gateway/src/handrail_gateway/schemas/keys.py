"""API keys."""

from datetime import datetime

from handrail_contracts.identity import Role
from pydantic import AwareDatetime, BaseModel, Field

from handrail_gateway.identity.caller import Permission
from handrail_gateway.schemas.base import Name, Request


class KeyRequest(Request):
    """At least one role or permission."""

    name: Name
    roles: list[Role] = Field([], max_length=10)
    permissions: list[Permission] = Field([], max_length=20, description="beside those of the roles")
    expires_at: AwareDatetime | None = Field(None, description="never, if absent")
    signs: bool = Field(False, description="requests may be signed (RFC 9421) instead of sending the key")


class RotateRequest(Request):
    overlap_seconds: float = Field(0, ge=0, le=30 * 86_400, description="how long the secret before is good yet")


class KeySummary(BaseModel):
    id: str = Field(description="also the middle part of the key, `hrk_ID_...`")
    name: str
    roles: list[str]
    permissions: list[str]
    version: int = Field(description="counts rotations")
    earlier_until: datetime | None = Field(description="until when the secret before is good")
    signs: bool
    made_by: str
    made_at: datetime
    changed_by: str
    changed_at: datetime
    expires_at: datetime | None
    revoked: bool
    last_used: datetime | None = Field(description="about a minute behind")


class IssuedKey(KeySummary):
    """The secrets are shown once. An answer that was lost is not given again: `key` is null then; rotate the key."""

    key: str | None
    signing_key_id: str | None = Field(description="`keyid` of signatures")
    signing_secret: str | None


class KeyPage(BaseModel):
    items: list[KeySummary]
    next_cursor: str | None
