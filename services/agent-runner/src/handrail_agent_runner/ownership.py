"""Which partitions of commands are ours, and what happens before they go elsewhere."""

from collections.abc import Awaitable, Callable, Iterable

from aiokafka import TopicPartition
from handrail_contracts import topics
from handrail_runtime.membership import Membership
from handrail_runtime.settings import Settings

GROUP = "handrail.agent-runner"


class Ownership(Membership):
    """The group waits for `let_go` before it gives partitions to somebody else, so the next owner finds their state whole.

    The assignor takes everything away and gives most of it back, and a word may be overtaken by the next one before
    anybody looks. So what was lost in between is remembered: it may have been worked on elsewhere.
    """

    def __init__(self, settings: Settings, let_go: Callable[[], Awaitable[None]]) -> None:
        super().__init__(settings, GROUP, topics.STEP_REQUESTED)
        self._let_go, self._lost = let_go, set[int]()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        if list(revoked):
            await self._let_go()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        before = self.assigned
        await super().on_partitions_assigned(assigned)
        self._lost |= before - self.assigned

    def take_lost(self) -> set[int]:
        """What was lost since the last call, at least for a while."""
        lost, self._lost = self._lost, set()
        return lost
