"""One run: a hostile time, then a healed world that must come to rest, then the checks."""

from collections import Counter
from typing import Any

from handrail_approvals.core import ApprovalsCore
from handrail_contracts.budgets import Limits, Scope
from handrail_scheduler.budgets import Budget
from handrail_scheduler.core import SchedulerCore
from handrail_scheduler.liveness import stuck, wakes
from handrail_scheduler.queues import Queue
from handrail_scheduler.state import Execution

from simulation.checks import check, check_memory
from simulation.faults import planted
from simulation.graphs import AGENTS, APPROVERS, DEFINITIONS, REVIEWERS, SIGNALS, STRANGER, TALKERS, random_limits
from simulation.owners import Owner
from simulation.runners import Runner
from simulation.spending import check_nobody_waits_for_what_is_there
from simulation.violations import Violation, require
from simulation.world import Fault, World

ACTS = 220
UNSAFE = 60
"""In so many turns of the healed world processes still crash, and messages take their time."""
WAYWARD, FIRM, LONGEST_IDLE = 12, 40, 90
"""So often people still have wishes of their own before they only help."""
ACTIONS = (
    *("cancel", "terminate", "pause", "pause", "resume", "resume", "signal", "signal", "signal"),
    *("rewind", "rewind", "skip", "edit", "retry", "migrate"),
    *("complete", "complete", "fail", "reassign", "reassign", "annotate"),
)


def run(seed: int, faults: frozenset[Fault] = frozenset()) -> Counter[str]:
    """Raises `Violation` with the seed in it."""
    try:
        with planted(faults):
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
    schedulers = [_scheduler(world, limit, f"s{n}") for n in range(dice.choice([1, 2, 2, 3]))]
    gates = [Owner(world, ApprovalsCore(), f"a{n}") for n in range(dice.choice([1, 2]))]
    runners = [Runner(world, "r0")]
    planned = dice.randint(1, 4)
    crashes = dice.choice([0.0, 0.01, 0.03])
    thrifty = dice.random() < 0.4
    for _ in range(ACTS):
        world.now += dice.choice([0.01, 0.1, 1.0, 5.0])
        if len(world.started) < planned and dice.random() < 0.1:
            world.start_execution()
        if thrifty and dice.random() < 0.03:
            _change_budget(world)
        if dice.random() < 0.01:
            world.define_reviewer(dice.choice(REVIEWERS))
        _act(world, schedulers, gates, runners, crashes)
    _heal(world, schedulers, gates, runners)
    for owner in (schedulers[0], gates[0]):
        check_memory(owner)
    return check(world)


def _scheduler(world: World, limit: int, name: str) -> Owner:
    definitions = DEFINITIONS.with_own_budgets()
    return Owner(world, AuditedCore(definitions, limit), name, definitions)


def _change_budget(world: World) -> None:
    """Of any scope; sometimes it is taken away."""
    dice = world.dice
    choices: list[tuple[Scope, str]] = [("tenant", ""), ("agent", dice.choice(AGENTS + TALKERS))]
    for execution_id, workflow_id in list(world.started.items())[-2:]:
        choices += [("execution", execution_id), ("workflow", workflow_id)]
    scope, name = dice.choice(choices)
    limits = None if dice.random() < 0.1 else random_limits(dice)
    world.set_budget(scope, name, limits, dice.choice(["total", "total", "day", "month"]))


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
        open_gates, user = world.open_gates(), dice.choice([*APPROVERS, *REVIEWERS, STRANGER])
        if open_gates and dice.random() < 0.3:
            world.direct_gate(dice.choice(open_gates), user, dice.choice([*APPROVERS, *REVIEWERS]))
        elif open_gates:
            world.decide_gate(dice.choice(open_gates), user)
        if made := world.suggestions():
            world.answer_suggestion(dice.choice(made[-3:]), user)
    elif chance < 0.945 and world.started:
        _wish(world, dice.choice(list(world.started)))
    elif chance < 0.945 + crashes:
        everybody: list[Owner | Runner] = [*schedulers, *gates, *runners]
        dice.choice(everybody).crash()


def _wish(world: World, execution_id: str) -> None:
    action = world.dice.choice(ACTIONS)
    step_id = f"s{world.dice.randrange(8)}"
    world.control(execution_id, action, world.dice.choice(SIGNALS) if action == "signal" else "", step_id)


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
    _come_to_rest(world, schedulers[0], gates[0], runners[0], lives=lives)
    left = schedulers[0].states()
    require(_all_ended(schedulers[0]), "never came to rest:", *(_blockers(state) for state in left))


def _come_to_rest(world: World, scheduler: Owner, gate: Owner, runner: Runner, *, lives: bool) -> None:
    actors: list[Owner | Runner] = [runner] if lives else [runner, scheduler, gate]
    idle = 0
    for turn in range(1000):
        if turn < UNSAFE and world.dice.random() < 0.05:
            world.dice.choice(actors).crash()
        busy = [scheduler.everything(), gate.everything(), runner.everything(), bool(world.wire)]
        while world.wire and (turn >= UNSAFE or world.dice.random() < 0.8):
            world.deliver()
        if any(busy):
            continue
        if idle > LONGEST_IDLE or _all_ended(scheduler):
            return
        idle += 1
        if world.dice.random() < 0.1:
            check_memory(scheduler)
        _help(world, scheduler, willing=idle >= WAYWARD, firm=idle >= FIRM)


def _help(world: World, scheduler: Owner, *, willing: bool, firm: bool) -> None:
    """Time passes, and people do what is waited for; until they are `willing`, they have wishes of their own.

    `firm`: nothing that failed is tried again, or some loop never ends.
    """
    check_nobody_waits_for_what_is_there(world, scheduler)
    world.now += world.dice.choice([1.0, 10.0, 40.0]) if not willing else 40.0
    people = [*APPROVERS, *REVIEWERS, STRANGER]
    if willing:
        world.define_reviewer(REVIEWERS[0])
    for gate in world.open_gates():
        for person in people:
            world.decide_gate(gate, person)
    for made in {made.suggestion_id: made for made in world.suggestions()}.values():
        for person in people:
            if willing:
                world.approve(made, person)
            elif world.dice.random() < 0.4:
                world.answer_suggestion(made, person)
    if not willing and world.dice.random() < 0.3:
        _wish(world, world.dice.choice(list(world.started)))
        return
    for state in scheduler.states():
        if isinstance(state, Budget) and state.waits:
            scope: Any = state.scope
            world.set_budget(scope, state.name, world.dice.choice([None, Limits(tokens=1_000_000)]))
        if not isinstance(state, Execution):
            continue
        world.control(state.execution_id, "resume")
        for signal in SIGNALS:
            world.control(state.execution_id, "signal", signal)
        for step_id in [step_id for step_id, step in state.steps.items() if step.status == "blocked"]:
            world.control(state.execution_id, world.dice.choice(["skip", "skip" if firm else "retry"]), step_id=step_id)
        for step_id in [step_id for step_id, step in state.steps.items() if step.waits_for == "person"]:
            world.control(state.execution_id, world.dice.choice(["complete", "skip"]), step_id=step_id)


def _all_ended(owner: Owner) -> bool:
    """Only queues and budgets are left; nobody waits there, and nobody holds anything."""
    return owner.mode == "active" and not any(_blockers(state) for state in owner.states())


def _blockers(state: Any) -> str:
    match state:
        case Queue():
            return f"{state.execution_id}: {state.running} {state.waits}" if state.running or state.waits else ""
        case Budget():
            return f"{state.execution_id}: {state.open} {state.waits}" if state.open or state.waits else ""
        case _:
            return f"{state.execution_id}: {list(wakes(state))}"
