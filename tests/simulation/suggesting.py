"""What must hold of suggestions and conversations: nothing happens unasked, and what must not happen twice happens once."""

from collections import Counter, defaultdict
from typing import Any

from handrail_contracts import topics
from handrail_contracts.codec import decode
from handrail_contracts.journal import COMMAND_HEADER, Fences

from simulation.violations import accepted, require
from simulation.world import Call, World

Stories = dict[str, list[Any]]


def check_suggestions(world: World, stories: Stories) -> None:
    closed = _check_gates(world)
    for execution_id, story in stories.items():
        _check_story(execution_id, [event for event, _ in story], closed)
    _check_requests(world, stories)


def _check_gates(world: World) -> dict[str, Any]:
    """Every gate that was opened is closed; decisions on suggestions are about what people were shown."""
    opened: dict[str, Any] = {}
    closed: dict[str, Any] = {}
    revisions: dict[str, int] = {}
    submitted = {message.event_id: message for message in world.submissions()}
    for record in accepted(world, topics.APPROVAL_EVENTS):
        for event in record.events:
            match event.type:
                case "approval.opened":
                    require(event.approval_id not in opened, event.approval_id, "was opened twice")
                    opened[event.approval_id] = event
                    revisions[event.approval_id] = 1
                case "suggestion.revised":
                    expected = revisions[event.approval_id] + 1
                    require(event.suggestion.revision == expected, event.approval_id, "revised out of order")
                    revisions[event.approval_id] = expected
                case "approval.closed" if event.approval_id in opened:
                    closed[event.approval_id] = event
                    latest = revisions[event.approval_id]
                    _check_closed(event, submitted.get(event.submission_id or ""), latest)
                case "approval.closed":
                    require(event.decision == "withdrawn", event.approval_id, "was decided and never opened")
                    opened[event.approval_id] = closed[event.approval_id] = event
    left = set(opened) - set(closed) - _withdrawn_in_vain(world)
    require(not left, "people are still asked, and nobody waits for it:", left)
    return closed


def _withdrawn_in_vain(world: World) -> set[str]:
    """Withdrawals that had arrived, and that a reader who began later refused, since their epoch was fenced by then."""
    fences = Fences({})
    for _, _, headers in world.logs[topics.FENCES, 0]:
        fences.observe(headers)
    found = set()
    for _, value, headers in world.logs[topics.APPROVAL_REQUESTED, 0]:
        if any(name == COMMAND_HEADER for name, _ in headers) and not fences.allows(headers):
            message = decode(topics.APPROVAL_REQUESTED, value)
            if message.event_type == "approval.withdrawn":
                found.add(message.approval_id)
    return found


def _check_closed(event: Any, asked: Any, latest: int) -> None:
    seen = None if asked is None else asked.revision
    require(seen in (None, latest), event.approval_id, "was decided on by who saw revision", seen)


def _check_story(execution_id: str, events: list[Any], closed: dict[str, Any]) -> None:
    made: dict[str, Any] = {}
    revisions: dict[tuple[str, int], Any] = {}
    settled: dict[str, str] = {}
    acts: dict[str, set[str]] = defaultdict(set)
    acting: dict[str, str] = {}
    done: Counter[str] = Counter()
    for event in events:
        match event.type:
            case "suggestion.made":
                known = made.get(event.suggestion_id)
                expected = 1 if known is None else known.revision + 1
                require(event.revision == expected, execution_id, event.step_id, "suggests out of order")
                require(event.suggestion_id not in settled, execution_id, event.step_id, "revises what was decided")
                made[event.suggestion_id] = revisions[event.suggestion_id, event.revision] = event
            case "suggestion.approved" | "suggestion.refused":
                told = closed.get(event.suggestion_id)
                require(event.suggestion_id in made, execution_id, event.step_id, "was approved without a suggestion")
                require(event.suggestion_id not in settled, execution_id, event.step_id, "was decided on twice")
                settled[event.suggestion_id] = event.type
                allowed = event.type == "suggestion.approved"
                require(
                    told is not None and (told.decision == "approved") == allowed, execution_id, event.step_id,
                    "heard", event.type, "and the gate says", told,
                )  # fmt: skip
                if allowed:
                    _check_approved(event, revisions[event.suggestion_id, _seen(event, made)], told)
                    acting[event.step_id] = event.suggestion_id
            case "step.started" if event.step_id in acting and event.agent in _actions_of(
                acting[event.step_id], revisions
            ):
                acts[acting[event.step_id]].add(event.run_id)
            case "action.executed":
                done[event.suggestion_id] += 1
                require(settled.get(event.suggestion_id) == "suggestion.approved", event, "and nobody has approved it")
            case "step.completed" | "step.steered":
                for step_id in (event.step_id, *getattr(event, "step_ids", ())):
                    acting.pop(step_id, None)
    require(max(done.values(), default=0) <= 1, execution_id, "has carried out twice:", done)
    for suggestion_id, runs in acts.items():
        require(len(runs) == 1, execution_id, suggestion_id, "was carried out by several runs:", runs)


def _actions_of(suggestion_id: str, revisions: dict[tuple[str, int], Any]) -> set[str]:
    return {made.action for (name, _), made in revisions.items() if name == suggestion_id}


def _seen(event: Any, made: dict[str, Any]) -> int:
    """The revision that was decided on: the one that people saw, if the next one was made meanwhile."""
    latest: int = made[event.suggestion_id].revision
    return latest if event.revision is None else int(event.revision)


def _check_approved(event: Any, made: Any, told: Any) -> None:
    data = made.suggested_data if told.data is None else told.data
    require(event.data == data, event.suggestion_id, "was approved as", data, "and goes on with", event.data)


def _check_requests(world: World, stories: Stories) -> None:
    """What a runner carried out that people have to allow was allowed, for that very step and with these data."""
    for request in world.effects:
        if request.kind != "action" and not request.granted:
            continue
        allowed = [
            (event.action, event.data)
            for event, _ in stories[request.execution_id]
            if event.type == "suggestion.approved" and event.step_id == request.step_id
        ]
        require((request.agent, request.input) in allowed, request, "was carried out, and allowed was only", allowed)


def check_conversations(world: World, stories: Stories) -> None:
    for execution_id, story in stories.items():
        _check_turns(execution_id, story)
    _check_one_speaker(world, stories)
    counts: Counter[str] = Counter(call.call_id for call in world.calls if not call.repeatable)
    for call in world.calls:
        _check_call(call, stories[call.request.execution_id], counts)


def _check_one_speaker(world: World, stories: Stories) -> None:
    """What must not happen twice is done in one turn by one of those who speak.

    Not where an attempt timed out before the scheduler had read a word of it, although it had spoken (docs/adr/0014).
    """
    speakers: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    begins = {execution_id: _begins(story) for execution_id, story in stories.items()}
    for call in world.calls:
        request = call.request
        if not call.repeatable and request.kind != "action":
            holder, turn, _ = call.call_id.split("/")
            begun = begins[request.execution_id][request.run_id, request.attempt]
            speakers[request.run_id, begun, turn].add(holder)
    for place, holders in speakers.items():
        require(len(holders) == 1, place, "was spoken by several:", holders)


def _begins(story: list[Any]) -> dict[tuple[str, int], int]:
    """For each attempt, how often its step's conversation has begun anew before it; of one whose predecessor nobody had heard
    yet, a number of its own.
    """
    anew: Counter[str] = Counter()
    begun = {}
    heard: set[str] = set()
    for event, _ in story:
        if event.type == "step.advanced":
            heard.add(event.step_id)
        for step_id in _forgotten_by(event):
            anew[step_id] += 1
        if event.type == "step.started":
            unheard = event.attempt > 1 and event.step_id not in heard
            begun[event.run_id, event.attempt] = -event.attempt if unheard else anew[event.step_id]
    return begun


def _forgotten_by(event: Any) -> tuple[str, ...]:
    """Steps whose conversation ends there, or goes on as a person says."""
    match event.type:
        case "steps.cancelled":
            return tuple(event.step_ids)
        case "step.steered":
            return (event.step_id, *event.step_ids)
        case "step.completed":
            return (event.step_id,)
        case "step.failed" if event.then != "wait":
            return (event.step_id,)
        case "suggestion.made" if not event.call_id:
            return (event.step_id,)
        case _:
            return ()


def _check_turns(execution_id: str, story: list[Any]) -> None:
    """Who goes on with a conversation has heard what was said before."""
    turns: dict[str, list[str]] = defaultdict(list)
    for event, _ in story:
        if event.type == "step.advanced" and event.said is not None and "before" in event.said:
            holders, heard = turns[event.step_id], [name for name, _ in event.said["before"]]
            require(heard == holders, execution_id, event.step_id, "goes on from", heard, "but there were", holders)
            holders.append(event.holder)
        if event.type != "step.steered" or event.action != "retry":
            for step_id in _forgotten_by(event):
                turns.pop(step_id, None)


def _check_call(call: Call, story: list[Any], counts: Counter[str]) -> None:
    request = call.request
    if request.kind == "action":
        _check_action(call, story, counts)
        return
    require(call.repeatable or counts[call.call_id] == 1, call.call_id, "was made", counts[call.call_id], "times")
    if call.asked:
        revisions = [event for event, _ in story if event.type == "suggestion.made"]
        made = {event.suggestion_id: event for event in revisions}
        calls = {(event.suggestion_id, event.revision): event.call_id for event in revisions}
        allowed = [
            event.data
            for event, _ in story
            if event.type == "suggestion.approved" and calls[event.suggestion_id, _seen(event, made)] == call.call_id
        ]
        require(call.granted in allowed, call.call_id, "was made, and allowed was only", allowed)


def _check_action(call: Call, story: list[Any], counts: Counter[str]) -> None:
    """Once, and again only after it has failed or a person has looked."""
    run, step_id = call.request.run_id, call.request.step_id
    looked = sum(event.type == "step.steered" and event.step_id == step_id for event, _ in story)
    failed = sum(
        event.type == "step.advanced" and event.step_id == step_id and event.result is not None
        and bool(event.result.error) for event, _ in story
    )  # fmt: skip
    require(counts[call.call_id] <= 1 + looked + failed, run, "happened", counts[call.call_id], "times")
