"""One run: a hostile time, then a healed world that must come to rest, then the checks."""

from collections import Counter
from typing import Any

from handrail_approvals.core import ApprovalsCore
from handrail_scheduler.core import SchedulerCore
from handrail_scheduler.liveness import stuck
from handrail_scheduler.queues import Queue
from handrail_scheduler.state import Execution

from simulation.checks import Violation, check, check_memory, require
from simulation.graphs import APPROVERS, DEFINITIONS, SIGNALS
from simulation.owners import Owner, Runner
from simulation.world import Fault, World

ACTS = 220
ACTIONS = (
    *("cancel", "terminate", "pause", "pause", "resume", "resume", "signal", "signal", "signal"),
    *("rewind", "rewind", "skip", "edit", "retry", "migrate"),
)


def run(seed: int, faults: frozenset[Fault] = frozenset()) -> Counter[str]:
    """Raises `Violation` with the seed in it."""
    try:
        return _run(World(seed, faults))
    except Violation as violation:
        raise Violation(f"seed {seed}: {violation}") from violation
    except Exception as error:
        raise Violation(f"seed {seed}: {error!r}") from error


class AuditedCore(SchedulerCore):
    """Asks after each decision what will wake the execution."""

    def decide(self, state: Any, message: Any, now: float, emit: Any, ended: Any) -> None:
        super().decide(state, message, now, emit, ended)
        why = stuck(state) if isinstance(state, Execution) else None
        require(why is None, state.execution_id, why)


def _run(world: World) -> Counter[str]:
    dice = world.dice
    limit = dice.choice([0, 0, 0, 1, 2])
    schedulers = [Owner(world, AuditedCore(DEFINITIONS, limit), f"s{n}") for n in range(dice.choice([1, 2, 2, 3]))]
    gates = [Owner(world, ApprovalsCore(), f"a{n}") for n in range(dice.choice([1, 2]))]
    runners = [Runner(world, "r0")]
    planned = dice.randint(1, 4)
    crashes = dice.choice([0.0, 0.01, 0.03])
    for _ in range(ACTS):
        world.now += dice.choice([0.01, 0.1, 1.0, 5.0])
        if len(world.started) < planned and dice.random() < 0.1:
            world.start_execution()
        _act(world, schedulers, gates, runners, crashes)
    _heal(world, schedulers, gates, runners)
    for owner in (schedulers[0], gates[0]):
        check_memory(owner)
    return check(world)


def _act(world: World, schedulers: list[Owner], gates: list[Owner], runners: list[Runner], crashes: float) -> None:
    dice = world.dice
    chance = dice.random()
    if chance < 0.40:
        world.deliver()
    elif chance < 0.65:
        owner = dice.choice(schedulers)
        owner.act()
        if dice.random() < 0.05:
            check_memory(owner)
    elif chance < 0.73:
        dice.choice(gates).act()
    elif chance < 0.90:
        runners[0].act()
    elif chance < 0.93:
        open_gates = world.open_gates()
        if open_gates:
            world.decide_gate(dice.choice(open_gates), dice.choice([*APPROVERS, "stranger@example.com"]))
    elif chance < 0.945 and world.started:
        action = dice.choice(ACTIONS)
        step = f"s{dice.randrange(8)}"
        world.control(
            dice.choice(list(world.started)), action, dice.choice(SIGNALS) if action == "signal" else "", step
        )
    elif chance < 0.945 + crashes:
        everybody: list[Owner | Runner] = [*schedulers, *gates, *runners]
        dice.choice(everybody).crash()


def _heal(world: World, schedulers: list[Owner], gates: list[Owner], runners: list[Runner]) -> None:
    """What is under way lands, one process of each kind finishes; time passes, people decide. The rest dies; in half of
    the runs the owner of the journal lives on, so that nothing is asked for again only because somebody claims."""
    lives = world.dice.random() < 0.5
    for owners in (schedulers, gates):
        owners.sort(key=lambda owner: not (lives and owner.owns_journal()))
    everybody: list[Owner | Runner] = [*schedulers, *gates, *runners]
    for actor in everybody:
        if not (lives and isinstance(actor, Owner) and actor.owns_journal()):
            actor.crash()
    world.hostile = False
    if not world.started:
        world.start_execution()
    while world.wire:
        world.deliver()
    actors: list[Owner | Runner] = [schedulers[0], gates[0], runners[0]]
    idle = 0
    for _ in range(1000):
        busy = [actor.everything() for actor in actors]
        while world.wire:
            world.deliver()
            busy.append(True)
        if any(busy):
            continue
        if _all_ended(schedulers[0]):
            return
        idle += 1
        world.now += 40.0
        for gate in world.open_gates():
            world.decide_gate(gate, APPROVERS[0])
        machine = schedulers[0].machine
        assert machine is not None
        for execution_id, packed in machine.states.items():
            state = machine.core.unpack(packed) if isinstance(packed, bytes) else packed
            if not isinstance(state, Execution):
                continue
            world.control(execution_id, "resume")
            for signal in SIGNALS:
                world.control(execution_id, "signal", signal)
            for step_id in [step_id for step_id, step in state.steps.items() if step.status == "blocked"]:
                world.control(execution_id, world.dice.choice(["skip", "retry"]), step_id=step_id)
        if idle > 40:
            break
    machine = schedulers[0].machine
    require(_all_ended(schedulers[0]), "never came to rest:", list(machine.states) if machine else "no owner")


def _all_ended(owner: Owner) -> bool:
    """Only queues are left, and they are empty."""
    machine = owner.machine
    if machine is None or owner.mode != "active":
        return False
    left = [machine.core.unpack(state) if isinstance(state, bytes) else state for state in machine.states.values()]
    return all(isinstance(state, Queue) and not state.running and not state.waits for state in left)
