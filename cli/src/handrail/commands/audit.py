"""`handrail audit`."""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from aiokafka import TopicPartition
from handrail_contracts.journal import Fences
from handrail_contracts.topics import EXECUTION_EVENTS, WORKFLOW_DEFINED, catalogue
from handrail_runtime.machine.partition import PartitionMachine
from handrail_runtime.machine.recovery import read_to
from handrail_runtime.reader import Reader
from handrail_runtime.settings import Settings
from handrail_runtime.tables import TopicTable
from handrail_scheduler.core import SchedulerCore
from handrail_scheduler.definitions import Definitions
from handrail_scheduler.liveness import stuck, wakes
from handrail_scheduler.schedules import Schedule
from handrail_scheduler.state import Execution

from handrail.chains import read_chains
from handrail.commands.dlq import brokers_of, run_client
from handrail.commands.up import DataDir, fail

app = typer.Typer(help="Prove from the log that all is as it must be.", no_args_is_help=True)
OVERDUE_SECONDS = 60.0


@app.callback()
def audit() -> None:
    """Prove from the log that all is as it must be."""


@dataclass
class Findings:
    open: int = 0
    schedules: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    stuck: list[str] = field(default_factory=list)
    overdue: list[str] = field(default_factory=list)


@app.command()
def liveness(data_dir: DataDir = None) -> None:
    """Fold the whole journal, and show that every open execution has something that will wake it, or a named blocker.

    The exit code is 1 if one has not. Timers that are a minute overdue are named, too: then no scheduler runs.

    Example: handrail audit liveness
    """
    found = run_client(_audit(Settings().model_copy(update={"brokers": brokers_of(data_dir)})))
    typer.echo(f"{found.open:,} open executions, {found.schedules:,} schedules")
    for source, count in found.sources.most_common():
        typer.echo(f"{count:>9,}  wait for {source}")
    for line in found.overdue[:20]:
        typer.echo(f"overdue: {line}")
    if found.stuck:
        raise fail(f"{len(found.stuck)} executions are stuck:\n  " + "\n  ".join(found.stuck[:50]))
    typer.echo("every open execution has a wake source or a named blocker")


@app.command()
def verify(
    data_dir: DataDir = None,
    heads: Annotated[
        Path | None, typer.Option(help="Links that were kept elsewhere: each has to be in the chain.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write the newest links here, to be kept elsewhere.")] = None,
) -> None:
    """Read the journal of approvals, and show that no decision in it was changed, removed or put in between.

    Each record follows from all before it; the exit code is 1 where one does not. Who can write to the broker could write a
    whole new chain: keep the newest links elsewhere now and then (--save), and verify against them (--heads).

    Example: handrail audit verify --save links.json
    """
    settings = Settings().model_copy(update={"brokers": brokers_of(data_dir)})
    kept = json.loads(heads.read_text()) if heads is not None else []
    chains = run_client(read_chains(settings, kept))
    problems = [problem for chain in chains for problem in chain.problems]
    typer.echo(f"{sum(chain.records for chain in chains):,} records in {len(chains)} partitions")
    if problems:
        raise fail(f"{len(problems)} links do not hold:\n  " + "\n  ".join(problems[:50]))
    typer.echo("every record follows from all before it" + (f"; {len(kept)} kept links are among them" if kept else ""))
    if save is not None:
        save.write_text(json.dumps([chain.head for chain in chains if chain.records], indent=2))
        typer.echo(f"the newest links are in {save}")


async def _audit(settings: Settings) -> Findings:
    definitions, found = Definitions(), Findings()
    table = TopicTable(settings, WORKFLOW_DEFINED, definitions.add)
    await table.catch_up()
    await table.close()
    count = catalogue()[EXECUTION_EVENTS].partitions
    for partition in range(count):
        machine: PartitionMachine[Any] = PartitionMachine(SchedulerCore(definitions), partition, count, Fences({}))
        await _fold(settings, machine, TopicPartition(EXECUTION_EVENTS, partition))
        _look(machine, found, time.time())
    return found


async def _fold(settings: Settings, machine: PartitionMachine[Any], place: TopicPartition) -> None:
    reader = await Reader.start(settings, "handrail-audit")
    try:
        reader.assign(await reader.begin_offsets([place]))
        async for records in read_to(reader, await reader.end_offsets([place])):
            for record in records:
                machine.fold(record.offset, record.headers, record.value)
            await asyncio.sleep(0)
    finally:
        await reader.stop()


def _look(machine: PartitionMachine[Any], found: Findings, now: float) -> None:
    for packed in machine.states.values():
        state = machine.core.unpack(packed) if isinstance(packed, bytes) else packed
        if not isinstance(state, Execution):
            found.schedules += isinstance(state, Schedule)
            continue
        found.open += 1
        why = stuck(state)
        if why is not None:
            found.stuck.append(f"{state.execution_id} (workflow {state.workflow_id}): {why}")
        for wake in wakes(state):
            found.sources[wake.source] += 1
            if wake.at is not None and wake.at < now - OVERDUE_SECONDS:
                late = f"{now - wake.at:.0f} s late"
                found.overdue.append(f"{state.execution_id}: step {wake.step_id} waits for {wake.source}, {late}")
