"""Ids that clients give: each tenant has its own, whatever others have named theirs. Pure.

`wf-001` of a tenant is `wf-001~` and the tenant's mark on the bus and in the read models; people see what they gave.
"""

import re
from functools import lru_cache
from hashlib import sha256
from uuid import UUID

from handrail_gateway.identity.caller import Caller

GIVEN_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
MOST_GIVEN = 150
_MARKED = re.compile(r"~[0-9a-f]{10}$")


@lru_cache(maxsize=4096)
def _mark(organization_id: str, project_id: str) -> str:
    return "~" + sha256(f"{organization_id}\x1f{project_id}".encode()).hexdigest()[:10]


def scoped(caller: Caller, given: str) -> str:
    """The id of that name in the caller's tenant; what is marked already stays as it is."""
    return given if _MARKED.search(given) else given + _mark(caller.organization_id, caller.project_id)


def plain(identifier: str) -> str:
    """As it was given."""
    return _MARKED.sub("", identifier)


def may_be_given(identifier: str) -> bool:
    """Ids that the platform makes are UUIDs, and what is marked needs no second look."""
    if _MARKED.search(identifier):
        return False
    try:
        UUID(identifier)
    except ValueError:
        return True
    return False
