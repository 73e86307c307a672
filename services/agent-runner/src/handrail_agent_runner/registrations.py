"""What all who follow registrations share."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from handrail_contracts.steps import AgentRegistered, StepRequested

T = TypeVar("T")

LATE_SECONDS = 2.0


class Arrivals:
    """Wakes those who wait for a registration that is on its way."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def tell(self) -> None:
        came, self._next = self._next, asyncio.Event()
        came.set()

    async def soon(self, look: Callable[[], T | None]) -> T | None:
        """Looks again whenever a registration comes, for a moment."""
        deadline = asyncio.get_running_loop().time() + LATE_SECONDS
        while (found := look()) is None:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return None
            try:
                await asyncio.wait_for(self._next.wait(), left)
            except TimeoutError:
                pass
        return found


def may_use(request: StepRequested, registered: AgentRegistered) -> bool:
    """The tenant of a step has what is its own, and what is the platform's, which belongs to nobody."""
    owner = (registered.organization_id, registered.project_id)
    return not registered.organization_id or owner == (request.organization_id, request.project_id)
