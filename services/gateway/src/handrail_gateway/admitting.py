"""The platform's own limit: while too many accepted executions have not begun, no more are accepted."""

import time
from dataclasses import dataclass

from handrail_gateway.database import Database
from handrail_gateway.problems import Problem

LOOK_EVERY_SECONDS = 1.0
RETRY_AFTER_SECONDS = 5


@dataclass(slots=True)
class Pending:
    """How many executions wait to begin, as of a second ago at most. Unknown counts as none: starting needs no database."""

    database: Database
    limit: int
    _count: int = 0
    _looked: float = 0.0

    async def check(self) -> None:
        """Raises a 429 `Problem` with Retry-After, before anything was published."""
        now = time.monotonic()
        if now - self._looked > LOOK_EVERY_SECONDS:
            self._looked = now
            try:
                row = await self.database.row("count_pending", self.limit + 1)
                self._count = 0 if row is None else row["count"]
            except Problem:
                self._count = 0
        if self._count > self.limit:
            detail = (
                f"{self._count:,} executions were accepted and have not begun; no more are accepted until some have. "
                "Nothing was started. It is safe to try again."
            )
            raise Problem(429, "TOO_MANY_PENDING", detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
