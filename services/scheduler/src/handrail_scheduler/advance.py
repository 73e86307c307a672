"""What follows when steps are settled."""

from collections import deque
from typing import Any

from handrail_contracts.envelope import ErrorInfo
from handrail_contracts.execution_events import ExecutionCompleted, ExecutionFailed, StatusChanged, StepsSkipped
from handrail_graph import Graph, Node, turn_of

from handrail_scheduler.decision import MOVING, Decision
from handrail_scheduler.ending import compensate, end, give_up, inside
from handrail_scheduler.loops import next_turns, runs, turn_over
from handrail_scheduler.state import SETTLED, Execution, Status, StepStatus


def advance(decision: Decision, settled: tuple[str, ...]) -> None:
    """Begins or skips every step that the settled ones decide, until nothing moves; then says where that leaves us."""
    graph, state = decision.graph, decision.state
    if state.status is Status.COMPENSATING:
        compensate(decision)
        return
    queue = deque(settled)
    while queue and state.status in MOVING:
        step_id = queue.popleft()
        if (place := turn_of(step_id)) is not None and not runs(state, place[0]):
            queue.append(place[0])  # the loop has ended under it
            continue
        step = state.steps.get(step_id)
        if step is None:  # of a turn that is done, and forgotten
            queue += turn_over(decision, step_id)
            continue
        if step.status is StepStatus.RUNNING and step.waits_for == "loop":
            queue += next_turns(decision, step_id)
        if step.status not in SETTLED or (state.failing and _has_failed(decision)):
            continue
        for target in graph.nodes[step_id].targets:
            if target in state.steps or (state.unresolved.get(target) != 0 and not _is_joined(graph, state, target)):
                continue
            if target in state.reached:
                _release_rest(decision, graph.nodes[target])
                decision.begin(target)
            else:
                decision.say(StepsSkipped, step_ids=(target,), reason="branch_not_taken")
            if state.status not in MOVING:
                return
            queue.append(target)
        queue += turn_over(decision, step_id)
    if state.status in MOVING:
        _conclude(decision)


def enter(decision: Decision) -> tuple[str, ...]:
    """Begins the steps that nothing leads to, as far as they have not begun."""
    begun = []
    for step_id in decision.graph.entry:
        if decision.state.status in MOVING and step_id not in decision.state.steps:
            decision.begin(step_id)
            begun.append(step_id)
    return tuple(begun)


def _is_joined(graph: Graph, state: Execution, step_id: str) -> bool:
    """Enough edges were taken for a step that does not wait for all."""
    join = graph.nodes[step_id].join
    return join is not None and state.taken.get(step_id, 0) >= join


def _release_rest(decision: Decision, join: Node) -> None:
    """What nobody needs once the join begins is given up."""
    if not join.rest:
        return
    give_up(decision, [step_id for rest in join.rest for step_id in within(decision.state, rest)])
    not_begun = tuple(step_id for step_id in join.rest if step_id not in decision.state.steps)
    if not_begun:
        decision.say(StepsSkipped, step_ids=not_begun, reason="not_needed")


def within(state: Execution, step_id: str) -> list[str]:
    """The step, and if it is a loop, all steps of its turns."""
    return [step_id, *inside(state, step_id)]


def _has_failed(decision: Decision) -> bool:
    """Ends the execution if a branch failed and the others, which were waited for, are done."""
    state = decision.state
    for parallel, (step_id, error) in state.failing.items():
        members = decision.graph.nodes[parallel].members
        if all(member in state.steps and state.steps[member].status in SETTLED for member in members):
            end(decision, ExecutionFailed, step_id=step_id, error=ErrorInfo.model_validate(error))
            return True
    return False


def _conclude(decision: Decision) -> None:
    state = decision.state
    if not state.working and not state.idle:
        decision.say(ExecutionCompleted, result=_result(decision.graph, state))
        return
    status = Status.RUNNING if state.working else Status.WAITING
    if status is not state.status:
        decision.say(StatusChanged, status=status.value)


def _result(graph: Graph, state: Execution) -> Any:
    """The output of the last step; of several last steps that ran, their outputs by id."""
    outputs = {
        step_id: state.steps[step_id].output
        for step_id in graph.sinks
        if state.steps[step_id].status is StepStatus.COMPLETED
    }
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs or None
