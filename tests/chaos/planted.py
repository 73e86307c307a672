"""Runs a service with a fault planted into it: `python -m chaos.planted`, the fault's name in `CHAOS_PLANT`.

The service is the one that `HANDRAIL_INSTANCE_ID` names. Faults are put in from outside, so that no service has a switch
that makes it unsafe; one that finds nothing to change any more shows up as a fault that nobody catches.
"""

import os
import runpy
from collections.abc import Callable
from typing import Any, cast


def commands_before_acknowledgement() -> None:
    from handrail_runtime.machine import shell

    life = cast(Any, shell._Life)
    append = life._append

    def hasty(self: Any, machine: Any) -> None:
        if machine._appends:
            self._send_commands(machine, machine._appends[-1].seq)
        append(self, machine)

    life._append = hasty


def no_fence() -> None:
    from handrail_runtime.machine.recovery import Recovery

    async def nothing(self: Any, machines: Any) -> None:
        """Claims without a fence."""

    cast(Any, Recovery)._fence = nothing


def nothing_requested_again() -> None:
    from handrail_runtime.machine.partition import PartitionMachine

    cast(Any, PartitionMachine).outstanding = lambda self, ids: iter(())


def committed_before_carried_out() -> None:
    from aiokafka import TopicPartition
    from handrail_agent_runner.runner import Runner
    from handrail_contracts.topics import STEP_REQUESTED

    runner = cast(Any, Runner)
    fetch = runner._fetch

    async def hasty(self: Any, most: int) -> Any:
        fetched = await fetch(self, most)
        done = {tp: records[-1].offset + 1 for tp, records in fetched.items() if tp.topic == STEP_REQUESTED}
        if done:
            await self._positions.commit({TopicPartition(*tp): offset for tp, offset in done.items()})
        return fetched

    async def nothing(self: Any) -> None:
        """The real commits would put the positions back."""

    runner._fetch, runner._commit = hasty, nothing


def fences_ignored() -> None:
    from handrail_contracts.journal import Fences

    cast(Any, Fences).allows = lambda self, headers: True


def attempts_repeated() -> None:
    from handrail_agent_runner.answered import Answered

    cast(Any, Answered).begin = lambda self, key: True


def positions_in_a_transaction_of_their_own() -> None:
    from handrail_projector import feed, writer

    advance = writer._advance

    async def torn(connection: Any, batch: Any, before: Any, after: Any) -> None:
        await advance(connection, before, after)
        async with connection.transaction():
            await writer._write_executions(connection, batch)
            await writer._write_steps(connection, batch)

    cast(Any, feed).write = torn


def a_mistake_in_the_core() -> None:
    """Deciding on an answer, or on a timer, of a step named `cursed` fails."""
    from handrail_scheduler import core

    decide = cast(Any, core.SchedulerCore).decide

    def mistaken(self: Any, state: Any, message: Any, *rest: Any) -> None:
        cursed = getattr(message, "step_id", "") == "cursed" or "cursed" in getattr(message, "token", "")
        if cursed:
            raise KeyError("a mistake of ours")
        decide(self, state, message, *rest)

    cast(Any, core.SchedulerCore).decide = mistaken


PLANTS: dict[str, Callable[[], None]] = {
    plant.__name__: plant
    for plant in (
        commands_before_acknowledgement,
        no_fence,
        nothing_requested_again,
        committed_before_carried_out,
        fences_ignored,
        attempts_repeated,
        positions_in_a_transaction_of_their_own,
    )
}
MISTAKES: dict[str, Callable[[], None]] = {"a_mistake_in_the_core": a_mistake_in_the_core}
"""What a service has to survive."""

if __name__ == "__main__":
    if plant := os.environ.get("CHAOS_PLANT"):
        (PLANTS | MISTAKES)[plant]()
    service = os.environ["HANDRAIL_INSTANCE_ID"].rsplit("-", 1)[0].replace("-", "_")
    runpy.run_module(f"handrail_{service}", run_name="__main__")
