"""What must hold at the end of every run, whatever happened in it."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from handrail_approvals.core import ApprovalsCore
from handrail_contracts import topics
from handrail_contracts.admission import QUEUE_PREFIX
from handrail_contracts.budgets import BUDGET_PREFIX
from handrail_contracts.codec import decode, encode
from handrail_contracts.journal import Fences
from handrail_contracts.triggers import EVENT_PREFIX
from handrail_scheduler.core import SchedulerCore

from simulation.graphs import DEFINITIONS
from simulation.owners import new_filter
from simulation.reviewing import check_reviews
from simulation.spending import check_budgets
from simulation.suggesting import check_conversations, check_suggestions
from simulation.tries import Tries
from simulation.violations import accepted, require
from simulation.world import World

ENDS = {
    "execution.completed": "workflow.completed",
    "execution.failed": "workflow.failed",
    "execution.rejected": "workflow.failed",
    "execution.cancelled": "workflow.cancelled",
    "execution.timed_out": "workflow.timeout",
}


def check(world: World) -> Counter[str]:
    """Raises `Violation`; returns what was seen, so that a dead world can't pass."""
    records = accepted(world, topics.EXECUTION_EVENTS)
    stories: dict[str, list[Any]] = defaultdict(list)
    workflows = {record.execution_id: record.workflow_id for record in reversed(records) if record.events}
    for record in records:
        for event in record.events:
            stories[record.execution_id].append((event, record.at.timestamp()))
    seen: Counter[str] = Counter()
    for execution_id in world.started:
        require(execution_id in stories, execution_id, "was accepted and never began")
    stories = {
        name: story
        for name, story in stories.items()
        if not name.startswith((QUEUE_PREFIX, BUDGET_PREFIX, EVENT_PREFIX))
    }
    _check_limits(records)
    for execution_id in stories:
        _check_story(execution_id, workflows[execution_id], stories[execution_id])
        seen.update(event.type for event, _ in stories[execution_id])
        seen.update(f"{event.step_type} step" for event, _ in stories[execution_id] if event.type == "step.started")
    _check_inputs_once(records)
    _check_facts(world, stories)
    _check_gates(world)
    _check_effects(world, stories)
    _check_same_id_same_content(world)
    check_suggestions(world, stories)
    check_reviews(world)
    check_conversations(world, stories)
    check_budgets(records)
    seen.update(event.type for record in records for event in record.events if event.type.startswith("budget."))
    seen.update(event.type for record in accepted(world, topics.APPROVAL_EVENTS) for event in record.events)
    seen["calls"] = len(world.calls)
    seen["effects"] = len(world.effects)
    return seen


def _check_limits(records: list[Any]) -> None:
    """No queue ever admits more than its limit."""
    running: dict[str, set[str]] = defaultdict(set)
    limits: dict[str, int] = {}
    for record in records:
        for event in record.events:
            if event.type == "queue.entered":
                limits[record.execution_id] = event.limit
            elif event.type == "queue.admitted":
                running[record.execution_id].add(event.requester_id)
                limit = limits[record.execution_id]
                require(len(running[record.execution_id]) <= limit, record.execution_id, "admitted more than", limit)
            elif event.type == "queue.left":
                running[record.execution_id].discard(event.requester_id)


def _check_story(execution_id: str, workflow_id: str, story: list[Any]) -> None:
    events = [event for event, _ in story]
    require(
        [event.n for event in events] == list(range(1, len(events) + 1)), execution_id, "events are not in sequence"
    )
    ends = [event.type for event in events if event.type in ENDS]
    require(len(ends) == 1 and events[-1].type in ENDS, execution_id, "ended", len(ends), "times:", ends)
    if ends == ["execution.rejected"]:
        require(len(events) == 1, execution_id, "was rejected after it had begun")
        return
    graph: Any = _graph(workflow_id, events[0].workflow_version)
    admitted = len(events[0].admissions)
    open_steps: dict[str, int] = {}
    settled: set[str] = set()
    due: dict[str, float] = {}
    promised: dict[str, Any] = {}
    blocked: set[str] = set()
    undoing: list[str] = []
    asked_again: set[str] = set()
    suggested: set[str] = set()
    tries = Tries(graph)
    for event, at in story:
        tries.note(event)
        match event.type:
            case "execution.version_changed":
                graph = _graph(workflow_id, event.workflow_version)
                tries.graph = graph
            case "tasks.planned":
                promised |= {task.step_id: task.due_date for task in event.tasks if task.due_date is not None}
            case "step.annotated" if event.changes.due_date is not None:
                promised[event.step_id] = event.changes.due_date
            case "step.overdue":
                require(
                    promised.pop(event.step_id, None) == event.due_date, execution_id, "tells a due date that is none"
                )
                late = at >= event.due_date.timestamp() and (event.step_id not in settled or event.step_id in blocked)
                require(late, execution_id, event.step_id, "is not overdue")
            case "suggestion.made":
                suggested.add(event.step_id)
            case "suggestion.sent_back" | "suggestion.approved" | "suggestion.refused":
                asked_again.add(event.step_id)
                due.pop(event.step_id, None)
            case "step.steered":
                touched = event.step_ids if event.action == "rewind" else (event.step_id,)
                settled = {step_id for step_id in settled if step_id.partition("[")[0] not in touched}
                settled -= set(touched)
                for step_id in touched:
                    due.pop(step_id, None)
                if event.action in ("skip", "complete", "fail"):
                    open_steps[event.step_id] = -1
            case "compensation.started":
                undoing = list(event.step_ids)
                require(undoing == _undone(graph, events, event.n), execution_id, "undoes", undoing)
            case "execution.admitted":
                admitted -= 1
            case "step.started":
                require(not admitted, execution_id, event.step_id, "began before its execution was admitted")
                node = graph.nodes[event.step_id]
                before = set(node.predecessors)
                enough = before <= settled if node.join is None else not before or before & settled
                require(enough, execution_id, event.step_id, "began before", before - settled)
                goes_on = event.step_id in asked_again or tries.may_have_spent()
                require(event.step_id not in open_steps or goes_on, execution_id, event.step_id, "began while it ran")
                asked_again.discard(event.step_id)
                settled = {step_id for step_id in settled if not step_id.startswith(f"{event.step_id}[")}
                require(event.step_id not in settled, execution_id, event.step_id, "began after it ended")
                require(at >= due.pop(event.step_id, 0.0), execution_id, event.step_id, "began too early")
                if event.step_id in undoing:
                    beside = set(open_steps) - {event.step_id}
                    require(not beside, execution_id, event.step_id, "began to undo beside", beside)
                    require(
                        set(undoing[: undoing.index(event.step_id)]) <= settled, execution_id, "undoes out of order"
                    )
                open_steps[event.step_id] = event.attempt
                if event.wake_at is not None:
                    due[event.step_id] = event.wake_at.timestamp()
            case "step.completed" | "step.failed" | "step.retry_scheduled":
                attempt = open_steps.pop(event.step_id, None)
                decided = event.step_id in suggested  # perhaps while its agent waited for another attempt
                expected = attempt in (event.attempt, -1) or decided
                require(expected, execution_id, event.step_id, "ended an attempt that did not run")
                due_at = due.pop(event.step_id, 0.0)
                require(at >= due_at or decided, execution_id, event.step_id, "woke too early")
                if event.type == "step.retry_scheduled":
                    settled = {step_id for step_id in settled if not step_id.startswith(f"{event.step_id}[")}
                    due[event.step_id] = event.retry_at.timestamp()
                else:
                    settled.add(event.step_id)
                blocked = blocked - {event.step_id} | (
                    {event.step_id} if getattr(event, "then", "") == "wait" else set()
                )
            case "steps.skipped":
                require(not set(event.step_ids) & (settled | set(open_steps)), execution_id, "skipped what had begun")
                settled |= set(event.step_ids)
            case "steps.cancelled":
                for step_id in event.step_ids:
                    open_steps.pop(step_id, None)
                    due.pop(step_id, None)
                    settled.add(step_id)
    require(not open_steps, execution_id, "ended with steps under way:", open_steps)
    require(settled >= set(graph.order), execution_id, "ended without", set(graph.order) - settled)


def _graph(workflow_id: str, version: int) -> Any:
    definition = DEFINITIONS.find(workflow_id, version)
    assert definition is not None
    return definition.graph()


def _undone(graph: Any, events: list[Any], until: int) -> list[str]:
    """What undoes the steps that were completed and not rewound, latest first."""
    done: list[str] = []
    for event in events[: until - 1]:
        if event.type == "step.completed" and graph.nodes[event.step_id].compensation is not None:
            done.append(event.step_id)
        elif event.type == "step.steered" and event.action == "rewind":
            done = [step_id for step_id in done if step_id not in event.step_ids]
    return [graph.nodes[step_id].compensation for step_id in reversed(done)]


def _check_inputs_once(records: list[Any]) -> None:
    places = Counter(
        (record.source.topic, record.source.offset)
        for record in records
        if record.source is not None and record.source.topic != "timer"
    )
    for place, count in places.items():
        require(count == 1, "input", place, "was decided", count, "times")


def _check_facts(world: World, stories: dict[str, list[Any]]) -> None:
    ends: dict[str, set[str]] = defaultdict(set)
    for _, value, _ in world.logs[topics.WORKFLOW_COMPLETED, 0]:
        message = decode(topics.WORKFLOW_COMPLETED, value)
        ends[message.execution_id].add(message.event_type)
    for execution_id, story in stories.items():
        truth = ENDS[story[-1][0].type]
        require(
            ends.get(execution_id) == {truth},
            execution_id,
            "ended as",
            truth,
            "and the public was told",
            ends.get(execution_id),
        )


def _check_gates(world: World) -> None:
    closed: dict[str, list[str]] = defaultdict(list)
    for record in accepted(world, topics.APPROVAL_EVENTS):
        for event in record.events:
            if event.type == "approval.closed":
                closed[event.approval_id].append(event.decision)
    for approval_id, decisions in closed.items():
        require(len(decisions) == 1, approval_id, "was decided", decisions)
    for _, value, _ in world.logs[topics.APPROVAL_DECIDED, 0]:
        message = decode(topics.APPROVAL_DECIDED, value)
        truth = closed.get(message.approval_id)
        require(truth == [message.decision], message.approval_id, "announced as", message.decision, "but", truth)


def _check_effects(world: World, stories: dict[str, list[Any]]) -> None:
    ordered = {attempt for story in stories.values() for attempt in _ordered(story)}
    counts = Counter((request.run_id, request.attempt) for request in world.effects)
    for attempt, count in counts.items():
        require(attempt in ordered, attempt, "was carried out and history never ordered it")
        require(count == 1 or attempt in world.excused, attempt, "was carried out", count, "times without a crash")


def _ordered(story: list[Any]) -> Iterator[tuple[str, int]]:
    """Attempts that were asked of runners: those with budgets when the last of them has allowed it."""
    asks: dict[str, list[Any]] = {}
    for event, _ in story:
        if event.type == "step.started" and event.waits_for == "agent":
            yield event.run_id, event.attempt
        elif event.type == "step.started":
            asks[event.step_id] = [event.run_id, len(event.budgets)]
        elif event.type == "budget.granted":
            asks[event.step_id][1] -= 1
            if not asks[event.step_id][1]:
                yield asks[event.step_id][0], event.attempt


def _check_same_id_same_content(world: World) -> None:
    for place in list(world.logs):
        if place[0] in (
            topics.STEP_REQUESTED,
            topics.APPROVAL_REQUESTED,
            topics.WORKFLOW_COMPLETED,
            topics.APPROVAL_DECIDED,
            topics.SUGGESTION_CREATED,
            topics.SUGGESTION_REVISION_REQUESTED,
        ):
            contents: dict[str, bytes] = {}
            fences = Fences({})
            for _, value, headers in world.logs[place]:
                if fences.observe(headers) or (headers and not fences.allows(headers)):
                    continue
                message = decode(place[0], value)
                if (
                    place[0] == topics.STEP_REQUESTED
                ):  # asked for again, it tells how far the conversation has come since
                    value = encode(message.model_copy(update={"turns": ()}))
                if message.event_type == "approval.withdrawn":  # as often as something ends that waited for it
                    value = b""
                same = contents.setdefault(message.event_id, value) == value
                require(same, place, message.event_id, "was said twice with other words")


def check_memory(owner: Any) -> None:
    """What an owner at rest holds in memory is what a reader of the journal folds."""
    machine = owner.machine
    if machine is None or owner.mode != "active" or not machine.is_quiet() or machine.next_offset != len(owner.journal):
        return
    from handrail_runtime.machine.partition import PartitionMachine

    core = SchedulerCore(DEFINITIONS) if owner.wiring.service == "scheduler" else ApprovalsCore()
    fresh: PartitionMachine[Any] = PartitionMachine(core, 0, 1, Fences({}))
    fresh.filter = new_filter(owner.world)
    for offset, (_, value, headers) in enumerate(owner.journal):
        fresh.fold(offset, headers, value)
    require(_packed(fresh) == _packed(machine), owner.name, "remembers another state than the journal tells")
    require(
        all(machine.positions[topic] >= position for topic, position in fresh.positions.items()),
        owner.name,
        "is behind its own journal",
    )


def _packed(machine: Any) -> dict[str, bytes]:
    return {key: s if isinstance(s, bytes) else machine.core.pack(s) for key, s in machine.states.items()}
