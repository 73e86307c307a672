"""Who calls. Everything that a route knows of it is here."""

from dataclasses import dataclass, field
from enum import StrEnum

from handrail_contracts.envelope import Tenant


class Permission(StrEnum):
    READ = "read"
    OPERATE = "operate"
    DECIDE = "decide"
    BUILD = "build"
    ADMINISTER = "administer"
    CUSTOMER_SERVICE = "customer_service"
    PRIORITY = "priority"


KEY_USER = "key:"
"""How the user ids of API keys begin, and no others."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A person or program, in one project of one organization. Everything is filtered by the latter two.

    A program with an API key is `key:<key id>`; `person` is then whoever made the key, otherwise the caller.
    """

    user_id: str
    organization_id: str
    project_id: str
    expires_at: float
    """Seconds since 1970, after which nothing may be told any more; infinity if never."""
    roles: frozenset[str] = frozenset()
    permissions: frozenset[str] = frozenset()
    key_id: str | None = None
    """Of the API key that let it in; None for a token."""
    key_version: int = 0
    person: str = field(default="", kw_only=True)

    @property
    def tenant(self) -> Tenant:
        return Tenant(user_id=self.user_id, organization_id=self.organization_id, project_id=self.project_id)

    def may(self, permission: str) -> bool:
        return permission in self.permissions
