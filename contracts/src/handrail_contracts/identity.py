"""Keys of programs: what they may, and when they were used. Never the keys themselves."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from handrail_contracts.envelope import Identifier, Message, Model

Role = Literal["viewer", "operator", "approver", "builder", "admin"]
"""What each may is the gateway's to say."""
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="HMAC-SHA-256 of the secret, hexadecimal")]


class EarlierSecret(Model):
    """The secret before the last rotation, which is good until then."""

    version: int = Field(ge=1)
    digest: Digest
    until: AwareDatetime


class ApiKeyDefined(Message):
    """An API key as it is from now on. The latest message per `key_id` counts; one that is `revoked` stays so.

    The tenant is the key's own. Whoever calls with it has the permissions of `roles`, and `permissions`.
    """

    event_type: Literal["api_key.defined"] = "api_key.defined"
    schema_version: Literal[1] = 1
    key_id: Identifier = Field(description="also the part of the key by which it is looked up")
    name: str = ""
    roles: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    version: int = Field(1, ge=1, description="counts rotations")
    digest: Digest
    earlier: EarlierSecret | None = None
    signs: bool = Field(False, description="requests may be signed with it")
    made_by: str = Field("", description="the person or program whose call made it")
    made_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    revoked: bool = False


class ApiKeyUsed(Message):
    """Somebody was let in with the key at `occurred_at`. Said now and then, not of every request."""

    event_type: Literal["api_key.used"] = "api_key.used"
    schema_version: Literal[1] = 1
    key_id: Identifier
