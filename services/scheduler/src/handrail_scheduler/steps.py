"""How a step of each type begins. A new step type gets its function here, and its parameters in `handrail_graph`."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from handrail_contracts.codec import first_mistake
from handrail_contracts.envelope import ErrorInfo, JsonObject, utc
from handrail_contracts.execution_events import StepStarted
from handrail_contracts.gates import GateRules
from handrail_graph import (
    AgentParameters,
    ApiCallParameters,
    ApprovalParameters,
    Condition,
    ConditionParameters,
    DelayParameters,
    ExpressionError,
    LoopParameters,
    Node,
    SignalParameters,
    StepType,
    SubWorkflowParameters,
    SwitchParameters,
    Template,
    ToolParameters,
    TransformParameters,
    prefix_of,
    turn_of,
    user_input,
)
from pydantic import ValidationError

from handrail_scheduler.decision import Decision
from handrail_scheduler.ending import fail
from handrail_scheduler.loops import turn_output
from handrail_scheduler.state import Execution, Step, StepStatus
from handrail_scheduler.suggestions import begins_with
from handrail_scheduler.tasks import agent_of, assignee_of

Path = tuple[str, ...]

MOST_DEPTH = 8
"""How deep workflows may run in each other."""


def scope_of(decision: Decision, node: Node, references: frozenset[Path]) -> dict[str, Any]:
    """What expressions of the step see: only what they name, so that cost does not grow with the workflow."""
    scope: dict[str, Any] = {}
    for path in references:
        root = path[0]
        if root == "steps":
            steps = scope.setdefault("steps", {})
            if len(path) > 1 and (found := _find(decision.state, node.id, path[1])) is not None:
                steps[path[1]] = _seen(decision.state, found)
        elif root not in scope:
            scope[root] = _SEEN[root](decision, node)
    return scope


def _find(state: Execution, seeker: str, name: str) -> str | None:
    """A step of that name that the seeker can see: in its own turn, in the turns around it, in the workflow."""
    prefix = prefix_of(seeker)
    while prefix:
        if prefix + name in state.steps:
            return prefix + name
        place = turn_of(prefix + name)
        prefix = prefix_of(place[0]) if place is not None else ""
    return name if name in state.steps else None


def _turn(decision: Decision, step_id: str) -> dict[str, Any] | None:
    place = turn_of(step_id)
    if place is None:
        return None
    loop_id, turn = place
    items = decision.state.steps[loop_id].input
    runs = loop_id in decision.state.turns
    last = turn_output(decision, loop_id, turn - 1) if runs and items is None and turn else None
    seen = {"index": turn, "item": None if items is None else items[turn], "last": last}
    outer = _turn(decision, loop_id)
    return seen if outer is None else {**seen, "outer": outer}


def _seen(state: Execution, step_id: str) -> dict[str, Any]:
    step = state.steps[step_id]
    return {"output": step.output, "status": step.status.value}


def _previous_output(state: Execution, node: Node) -> Any:
    """The output of the one predecessor that ran; of several, their outputs by step; at the entry, the input.

    At the entry of a loop's turn it is the turn's item.
    """
    if not node.predecessors:
        place = turn_of(node.id)
        items = None if place is None else state.steps[place[0]].input
        return state.input if place is None else None if items is None else items[place[1]]
    own = len(prefix_of(node.id))
    outputs = {
        step_id[own:]: state.steps[step_id].output
        for step_id in node.predecessors
        if step_id in state.steps and _gave_something(state.steps[step_id])
    }
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs


def _gave_something(step: Step) -> bool:
    """It was completed, or it failed and the error was passed on."""
    return step.status is StepStatus.COMPLETED or (step.status is StepStatus.FAILED and step.output is not None)


def _say_started(decision: Decision, node: Node, waits_for: str | None = None, **fields: Any) -> None:
    """A step that would ask somebody, and whose answer is given already, is done at once."""
    state, known = decision.state, decision.state.steps.get(node.id)
    answered = waits_for is not None and node.id in state.stubs
    if answered:
        fields = {name: value for name, value in fields.items() if name in ("agent", "input")}
    decision.say(
        StepStarted,
        step_id=node.id,
        step_type=node.type.value,
        run_id=state.run_id(node.id),
        attempt=1 + (state.attempts.get(node.id, 0) if known is None else known.attempt),
        waits_for=None if answered else waits_for,
        **fields,
    )
    if answered:
        decision.complete(node.id, state.stubs[node.id])


def _rendered(decision: Decision, node: Node, *templates: Template) -> list[Any]:
    return [template.render(scope_of(decision, node, template.references)) for template in templates]


def _begin_remote(decision: Decision, node: Node, agent: str, rendered: Any, *, acts: bool = False) -> None:
    """An agent's attempt asks its budgets first, if there are any; one that `acts` carries out what was approved."""
    by_agent = node.type is StepType.AGENT_EXECUTION and not acts
    budgets = decision.budgets_of(decision, agent) if by_agent else ()
    if budgets and node.id not in decision.state.stubs:
        _say_started(decision, node, waits_for="budget", agent=agent or None, input=rendered, budgets=tuple(budgets))
    else:
        deadline = _deadline(decision, node)
        _say_started(decision, node, waits_for="agent", agent=agent or None, input=rendered, deadline=deadline)


def _begin_suggested(decision: Decision, node: Node) -> bool:
    """Whether the step begins with what its suggestion has come to."""
    own = begins_with(decision.state, node.id)
    if own is not None:
        _begin_remote(decision, node, own["asked"], own["input"], acts=own["phase"] == "acts")
    return own is not None


def _deadline(decision: Decision, node: Node) -> datetime | None:
    return None if node.timeout_seconds is None else utc(decision.now + node.timeout_seconds)


_SEEN: Mapping[str, Callable[[Decision, Node], Any]] = {
    "input": lambda decision, node: decision.state.input,
    "user_input": lambda decision, node: user_input(decision.state.input),
    "context": lambda decision, node: decision.state.context,
    "previous_output": lambda decision, node: _previous_output(decision.state, node),
    "loop": lambda decision, node: _turn(decision, node.id) or {},
    "now": lambda decision, node: utc(decision.now).isoformat(),
}


def _begin_trigger(decision: Decision, node: Node) -> None:
    _say_started(decision, node)
    decision.complete(node.id, decision.state.input)


def _begin_agent(decision: Decision, node: Node) -> None:
    assert isinstance(node.parameters, AgentParameters)
    if decision.state.suggestions and _begin_suggested(decision, node):
        return
    [rendered] = _rendered(decision, node, node.parameters.input)
    _ask_agent(decision, node, rendered)


def _ask_agent(decision: Decision, node: Node, rendered: Any) -> None:
    """Whoever has the step: the agent of its definition, the one that it was handed over to, or a person, who is not asked."""
    if assignee_of(decision.state, node.id):
        _say_started(decision, node, waits_for="person", input=rendered, deadline=_deadline(decision, node))
    else:
        _begin_remote(decision, node, agent_of(decision.state, node), rendered)


def _begin_tool(decision: Decision, node: Node) -> None:
    assert isinstance(node.parameters, ToolParameters)
    if decision.state.suggestions and _begin_suggested(decision, node):
        return
    [arguments] = _rendered(decision, node, node.parameters.arguments)
    if not isinstance(arguments, dict):
        raise ExpressionError(f"a tool's arguments are an object, not {type(arguments).__name__}", "", None)
    _begin_remote(decision, node, node.parameters.tool, arguments)


def _begin_sub_workflow(decision: Decision, node: Node) -> None:
    assert isinstance(node.parameters, SubWorkflowParameters)
    [rendered] = _rendered(decision, node, node.parameters.input)
    _start_child(decision, node, rendered)


def _start_child(decision: Decision, node: Node, rendered: Any) -> None:
    parent = decision.state.parent
    if parent is not None and parent["depth"] >= MOST_DEPTH:
        raise ExpressionError(f"workflows may be nested {MOST_DEPTH} deep", "", None)
    _say_started(decision, node, waits_for="workflow", input=rendered, deadline=_deadline(decision, node))


def _begin_api_call(decision: Decision, node: Node) -> None:
    assert isinstance(node.parameters, ApiCallParameters)
    call = node.parameters
    url, headers, body = _rendered(decision, node, call.url, call.headers, call.body)
    request = {"method": call.method, "url": url, "headers": headers, "body": body}
    if call.expected_status:
        request["expected_status"] = list(call.expected_status)
    _begin_remote(decision, node, "api_call", request)


def _begin_condition(decision: Decision, node: Node) -> None:
    assert isinstance(node.parameters, ConditionParameters)
    condition = node.parameters.condition
    result = condition.evaluate(scope_of(decision, node, condition.references))
    _say_started(decision, node)
    decision.complete(node.id, {"result": result})


def _begin_switch(decision: Decision, node: Node) -> None:
    assert isinstance(node.parameters, SwitchParameters)
    taken: list[int] = []
    for index, condition in enumerate(node.parameters.conditions):
        if condition.evaluate(scope_of(decision, node, condition.references)):
            taken.append(index)
            if not node.parameters.every:
                break
    _say_started(decision, node)
    decision.complete(node.id, {"taken": taken})


def _begin_parallel(decision: Decision, node: Node) -> None:
    """Passes on what came in, so that the branches see what the step before made."""
    passed_on = _previous_output(decision.state, node)
    _say_started(decision, node)
    decision.complete(node.id, passed_on)


def _begin_signal(decision: Decision, node: Node) -> None:
    """One that came before the step did is taken at once."""
    assert isinstance(node.parameters, SignalParameters)
    name = node.parameters.name
    _say_started(decision, node, waits_for="signal", input=name, deadline=_deadline(decision, node))
    if decision.state.steps[node.id].status is not StepStatus.RUNNING:
        return
    for signal, data in decision.state.signals:
        if signal == name:
            decision.complete(node.id, data)
            return


def _begin_loop(decision: Decision, node: Node) -> None:
    assert isinstance(node.parameters, LoopParameters)
    items = None
    if node.parameters.over is not None:
        [items] = _rendered(decision, node, node.parameters.over)
        if not isinstance(items, list):
            raise ExpressionError(f"a loop runs over a list, not {type(items).__name__}", "", None)
        if len(items) > node.parameters.max_turns:
            raise ExpressionError(f"a loop may have {node.parameters.max_turns} turns, not {len(items)}", "", None)
    _say_started(decision, node, waits_for="loop", input=items, deadline=_deadline(decision, node))


def _begin_transform(decision: Decision, node: Node) -> None:
    assert isinstance(node.parameters, TransformParameters)
    [output] = _rendered(decision, node, node.parameters.output)
    _say_started(decision, node)
    decision.complete(node.id, output)


def _begin_delay(decision: Decision, node: Node) -> None:
    """The step's output is what came in, so that a delay can stand between any two steps."""
    assert isinstance(node.parameters, DelayParameters)
    [delay] = _rendered(decision, node, node.parameters.seconds)
    _wait(decision, node, delay, _previous_output(decision.state, node))


def _wait(decision: Decision, node: Node, delay: Any, passed_on: Any) -> None:
    if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= 10 * 366 * 86_400:
        raise ExpressionError(f"a delay must be a number of seconds between 0 and ten years, not {delay!r}", "", None)
    _say_started(decision, node, waits_for="timer", wake_at=utc(decision.now + delay), input=passed_on)


def _begin_approval(decision: Decision, node: Node) -> None:
    assert isinstance(node.parameters, ApprovalParameters)
    parameters = node.parameters
    message, show = _rendered(decision, node, parameters.message, parameters.show)
    gate = {"approvers": list(parameters.approvers), "message": str(message), "show": show}
    if parameters.rules is not None:
        gate["rules"] = _rules(*_rendered(decision, node, parameters.rules))
    _open_gate(decision, node, parameters, gate)


def _rules(given: Any) -> JsonObject:
    try:
        return GateRules.model_validate(given).model_dump(mode="json", exclude_defaults=True)
    except ValidationError as error:
        place, why = first_mistake(error)
        raise ExpressionError(f"the gate's rules can't be used: {place}: {why}", "", None) from error


def _open_gate(decision: Decision, node: Node, parameters: ApprovalParameters, gate: dict[str, Any]) -> None:
    timeout = parameters.timeout_seconds
    deadline = None if timeout is None else utc(decision.now + timeout)
    _say_started(decision, node, waits_for="approval", input=gate, deadline=deadline)


def begin_with(decision: Decision, step_id: str, before: Any, given: Any) -> None:
    """Begins a step again with an input that a person gives.

    Of an approval the given object replaces approvers, message or show; of a delay the given number is the seconds that
    it still waits. What can't be an input of the step fails it, as an expression would.
    """
    node = decision.graph.nodes[step_id]
    try:
        match node.parameters:
            case AgentParameters():
                _ask_agent(decision, node, given)
            case ToolParameters(tool=tool):
                _begin_remote(decision, node, tool, given)
            case ApiCallParameters():
                _begin_remote(decision, node, "api_call", given)
            case SubWorkflowParameters():
                _start_child(decision, node, given)
            case DelayParameters():
                _wait(decision, node, given, before)
            case ApprovalParameters() as parameters:
                changes = given if isinstance(given, dict) else {"show": given}
                kept = before if isinstance(before, dict) else {"approvers": [], "message": "", "show": None}
                known = {name: changes[name] for name in ("approvers", "message", "show") if name in changes}
                _open_gate(decision, node, parameters, kept | known)
    except ExpressionError as error:
        _say_started(decision, node)
        fail(decision, node.id, ErrorInfo(code="VALIDATION_ERROR", message=f"step {node.id}: {error}"))


_BEGIN: Mapping[StepType, Callable[[Decision, Node], None]] = {
    StepType.TRIGGER: _begin_trigger,
    StepType.AGENT_EXECUTION: _begin_agent,
    StepType.TOOL_CALL: _begin_tool,
    StepType.SUB_WORKFLOW: _begin_sub_workflow,
    StepType.API_CALL: _begin_api_call,
    StepType.CONDITION: _begin_condition,
    StepType.SWITCH: _begin_switch,
    StepType.PARALLEL: _begin_parallel,
    StepType.SIGNAL: _begin_signal,
    StepType.LOOP: _begin_loop,
    StepType.DATA_TRANSFORM: _begin_transform,
    StepType.DELAY: _begin_delay,
    StepType.HUMAN_APPROVAL: _begin_approval,
}


def _guarded(begin: Callable[[Decision, Node], None]) -> Callable[[Decision, Node], None]:
    """A step whose expressions can't be evaluated fails, with the expression's own error."""

    def begin_or_fail(decision: Decision, node: Node) -> None:
        try:
            begin(decision, node)
        except ExpressionError as error:
            _say_started(decision, node)
            fail(decision, node.id, ErrorInfo(code="VALIDATION_ERROR", message=f"step {node.id}: {error}"))

    return begin_or_fail


BEGIN: Mapping[str, Callable[[Decision, Node], None]] = {kind: _guarded(begin) for kind, begin in _BEGIN.items()}


def evaluate(decision: Decision, step_id: str, condition: Condition, loop: dict[str, Any]) -> bool:
    """A condition of a loop as the loop sees it, with this as its `loop`, and the turn that it is in itself as `loop.outer`."""
    scope = scope_of(decision, decision.graph.nodes[step_id], condition.references)
    outer = _turn(decision, step_id)
    return condition.evaluate(scope | {"loop": loop if outer is None else {**loop, "outer": outer}})
