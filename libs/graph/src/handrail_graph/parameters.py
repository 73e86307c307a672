"""How the parameters of each step type are read. One function per type; a new type gets one entry in `READERS`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from handrail_contracts.steps import Choice
from handrail_contracts.triggers import Timetable
from pydantic import ValidationError

from handrail_graph.gates import FIELDS as GATE_RULES
from handrail_graph.gates import read_rules, rules_template
from handrail_graph.graph import (
    AgentParameters,
    ApiCallParameters,
    ApprovalParameters,
    ConditionParameters,
    DelayParameters,
    ParallelParameters,
    Parameters,
    SignalParameters,
    StepType,
    SubWorkflowParameters,
    SwitchParameters,
    ToolParameters,
    TransformParameters,
    TriggerParameters,
)
from handrail_graph.problems import TEN_YEARS, Problems, closest, shown
from handrail_graph.suggestions import GATE_FIELDS, read_suggestion
from handrail_graph.templates import compile_condition, compile_template
from handrail_graph.timetables import TimetableError, check

TRIGGER_KINDS = ("chat", "api", "schedule", "webhook", "event")
TRIGGER_FIELDS = {
    "schedule": ("cron", "timezone", "every_seconds", "start_at", "end_at", "overlap", "missed", "input"),
    "event": ("event", "source", "condition"),
}
OVERLAP = ("skip", "allow", "queue", "cancel_old")
MISSED = ("run_once", "run_all", "skip")
STRATEGIES = ("least_loaded", "round_robin")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")
PREVIOUS = "{{previous_output}}"


@dataclass(frozen=True, slots=True)
class Reader:
    """`fields` are all that the type knows; others are reported."""

    fields: tuple[str, ...]
    read: Callable[[dict[str, Any], str, Problems], Parameters]


def read_trigger(raw: dict[str, Any], path: str, problems: Problems) -> TriggerParameters:
    kind = raw.get("kind", "api")
    if kind not in TRIGGER_KINDS:
        problems.add(f"{path}kind", "wrong_value", f"must be one of {', '.join(TRIGGER_KINDS)}, not {shown(kind)}")
        kind = "api"
    for name in raw:
        if name != "kind" and name not in TRIGGER_FIELDS.get(kind, ()):
            kinds = [other for other, fields in TRIGGER_FIELDS.items() if name in fields]
            where = f"belongs to a trigger of kind {' or '.join(kinds)}" if kinds else "is no field of a trigger"
            problems.add(f"{path}{name}", "unknown_field", f"{name!r} {where}; this one is of kind {kind}")
    if kind == "schedule":
        return _schedule(raw, path, problems)
    if kind == "event":
        return _event(raw, path, problems)
    return TriggerParameters(kind)


def _schedule(raw: dict[str, Any], path: str, problems: Problems) -> TriggerParameters:
    overlap = problems.choice(raw, "overlap", path, OVERLAP)
    missed = problems.choice(raw, "missed", path, MISSED)
    try:
        fields = ("cron", "timezone", "every_seconds", "start_at", "end_at")
        timetable = Timetable.model_validate({name: raw[name] for name in fields if name in raw})
        check(timetable)
    except ValidationError as error:
        for found in error.errors(include_url=False, include_input=False):
            problems.add(f"{path}{'.'.join(map(str, found['loc']))}", "wrong_value", found["msg"])
        return TriggerParameters("schedule")
    except TimetableError as error:
        problems.add(f"{path}{error.field}", "wrong_value", str(error))
        return TriggerParameters("schedule")
    return TriggerParameters("schedule", timetable, overlap, missed, raw.get("input"))


def _event(raw: dict[str, Any], path: str, problems: Problems) -> TriggerParameters:
    name = problems.text(raw, "event", path)
    if not name.strip() and isinstance(raw.get("event", ""), str):
        problems.add(f"{path}event", "missing", "name the event that starts this workflow, such as new_support_ticket")
    condition = None
    if "condition" in raw:
        text = problems.text(raw, "condition", path, most=4096)
        condition = problems.expression(compile_condition, text or "true", f"{path}condition", "true")
        if condition.references and any(reference[0] not in ("input", "now") for reference in condition.references):
            problems.add(f"{path}condition", "bad_expression", "the condition of a trigger sees only input and now")
    return TriggerParameters("event", event=name, source=problems.text(raw, "source", path), condition=condition)


def agent_field(raw: Mapping[str, Any], standard: str = "agent_id") -> str:
    """Which field of a step says who is asked."""
    if "capabilities" in raw:
        return "capabilities"
    return "agent" if "agent" in raw and "agent_id" not in raw else standard


def read_agent(
    raw: Mapping[str, Any], path: str, problems: Problems, *, missing: str, standard: str = "agent_id"
) -> tuple[str, tuple[str, ...], Choice | None]:
    """The agent that is named, or the capabilities that one is chosen by, and how."""
    field = agent_field(raw, standard)
    if field == "capabilities":
        return "", _capabilities(raw, path, problems), _choice(raw, path, problems)
    if raw.get("choose") is not None:
        problems.add(f"{path}choose", "misplaced", "only an agent that is asked for by capabilities is chosen")
    agent = problems.text(raw, field, path)
    if not agent.strip() and isinstance(raw.get(field, ""), str):
        problems.add(f"{path}{field}", "missing", missing)
    return agent, (), None


def _capabilities(raw: Mapping[str, Any], path: str, problems: Problems) -> tuple[str, ...]:
    wanted = problems.texts(raw, "capabilities", path)
    if "agent" in raw or "agent_id" in raw:
        message = "a step names its agent, or the capabilities that one is chosen by; leave one of them out"
        problems.add(f"{path}capabilities", "misplaced", message)
    elif not all(each.strip() for each in wanted or ("",)):
        problems.add(f"{path}capabilities", "missing", 'name what the agent has to be able to: ["draft_response"]')
    return tuple(dict.fromkeys(wanted))


def _choice(raw: Mapping[str, Any], path: str, problems: Problems) -> Choice | None:
    """A text alone is the strategy. What is preferred is looked up in the input of each run."""
    given = raw.get("choose")
    if given is None:
        return None
    if isinstance(given, str):
        return _strategy(raw, "choose", path, problems, "")
    said, path = problems.mapping(raw, "choose", path), f"{path}choose."
    problems.unknown_fields(said, Choice.model_fields, path.removesuffix("."))
    prefer, passed = problems.text(said, "prefer", path), raw.get("input")
    if prefer and isinstance(passed, Mapping) and prefer not in passed:
        hint = closest(prefer, passed) or "; name one of its fields"
        problems.add(f"{path}prefer", "wrong_value", f"the input has no field {shown(prefer)}{hint}")
    return _strategy(said, "strategy", path, problems, prefer)


def _strategy(raw: Mapping[str, Any], name: str, path: str, problems: Problems, prefer: str) -> Choice:
    return Choice.model_validate({"strategy": problems.choice(raw, name, path, STRATEGIES), "prefer": prefer})


def _agent(raw: dict[str, Any], path: str, problems: Problems) -> Parameters:
    agent, capabilities, choice = read_agent(raw, path, problems, missing="name the agent that runs this step")
    iterations = problems.number(raw, "max_iterations", path, least=1, most=1000, whole=True)
    template = problems.expression(compile_template, raw.get("input", PREVIOUS), f"{path}input", PREVIOUS)
    suggestion = read_suggestion(raw.get("suggestion"), f"{path}suggestion", problems)
    most = None if iterations is None else int(iterations)
    return AgentParameters(agent, template, most, suggestion, capabilities, choice)


def _tool(raw: dict[str, Any], path: str, problems: Problems) -> Parameters:
    name = "tool" if "tool" in raw or "tool_name" not in raw else "tool_name"
    tool = problems.text(raw, name, path)
    if not tool.strip() and isinstance(raw.get(name, ""), str):
        problems.add(f"{path}{name}", "missing", "name the tool: a native one, or server:tool")
    arguments = raw.get("arguments") or {}
    if not isinstance(arguments, dict) and not (isinstance(arguments, str) and "{" in arguments):
        problems.add(f"{path}arguments", "wrong_type", "must be an object, or a template that gives one")
        arguments = {}
    ask_first = read_suggestion(raw.get("ask_first"), f"{path}ask_first", problems, GATE_FIELDS)
    return ToolParameters(tool, problems.expression(compile_template, arguments, f"{path}arguments", {}), ask_first)


def _sub_workflow(raw: dict[str, Any], path: str, problems: Problems) -> Parameters:
    workflow_id = problems.text(raw, "workflow_id", path)
    if not workflow_id.strip() and isinstance(raw.get("workflow_id", ""), str):
        problems.add(f"{path}workflow_id", "missing", "name the workflow that this step runs, by its id")
    version = problems.number(raw, "version", path, least=1, most=2**31 - 1, whole=True)
    template = problems.expression(compile_template, raw.get("input", PREVIOUS), f"{path}input", PREVIOUS)
    return SubWorkflowParameters(workflow_id, None if version is None else int(version), template)


def _api_call(raw: dict[str, Any], path: str, problems: Problems) -> Parameters:
    url = problems.text(raw, "url", path, most=4096)
    if not url:
        problems.add(f"{path}url", "missing", "give the address to call")
    elif not url.startswith(("http://", "https://", "{{", "${")):
        problems.add(f"{path}url", "wrong_value", "the address must begin with http:// or https://")
    expected = raw.get("expected_status", [])
    expected = expected if isinstance(expected, list) else [expected]
    if not all(isinstance(code, int) and 100 <= code <= 599 for code in expected):
        problems.add(f"{path}expected_status", "wrong_value", "must be HTTP status codes from 100 to 599")
        expected = []
    method = problems.choice({"method": str(raw.get("method", "POST")).upper()}, "method", path, ("POST", *METHODS))
    return ApiCallParameters(
        method,
        problems.expression(compile_template, url, f"{path}url", ""),
        problems.expression(compile_template, problems.mapping(raw, "headers", path), f"{path}headers", {}),
        problems.expression(compile_template, raw.get("body"), f"{path}body", None),
        tuple(expected),
    )


def _condition(raw: dict[str, Any], path: str, problems: Problems) -> Parameters:
    text = problems.text(raw, "condition", path, most=4096)
    if not text:
        problems.add(f"{path}condition", "missing", "write the condition, such as {{input.priority}} == 'high'")
    return ConditionParameters(problems.expression(compile_condition, text or "true", f"{path}condition", "true"))


def _switch(raw: dict[str, Any], path: str, problems: Problems) -> Parameters:
    cases = raw.get("cases")
    if not isinstance(cases, list) or not cases or not all(isinstance(case, Mapping) for case in cases):
        problems.add(f"{path}cases", "missing", 'give the cases: [{"condition": ..., "next_steps": [...]}]')
        cases = []
    conditions = []
    for index, case in enumerate(cases):
        where = f"{path}cases[{index}]"
        problems.unknown_fields(case, ("condition", "next_steps"), where)
        parameters = _condition(dict(case), f"{where}.", problems)
        assert isinstance(parameters, ConditionParameters)
        conditions.append(parameters.condition)
    every = problems.choice(raw, "mode", path, ("first", "all")) == "all"
    return SwitchParameters(tuple(conditions), every)


def read_cases(raw: Mapping[str, Any], path: str, problems: Problems) -> tuple[tuple[str, ...], ...]:
    """Where each case of a switch leads."""
    cases = raw.get("cases")
    found = [case for case in cases if isinstance(case, Mapping)] if isinstance(cases, list) else []
    return tuple(problems.texts(case, "next_steps", f"{path}cases[{index}].") for index, case in enumerate(found))


def _parallel(raw: dict[str, Any], path: str, problems: Problems) -> Parameters:
    return ParallelParameters(problems.choice(raw, "error_policy", path, ("fail_fast", "wait_all", "ignore")))


def _signal(raw: dict[str, Any], path: str, problems: Problems) -> Parameters:
    name = problems.text(raw, "name", path, most=100)
    if not name.strip():
        problems.add(f"{path}name", "missing", "name the signal that this step waits for")
    return SignalParameters(name, problems.choice(raw, "on_timeout", path, ("fail", "continue")))


def _delay(raw: dict[str, Any], path: str, problems: Problems) -> Parameters:
    given = [name for name in ("seconds", "minutes", "hours", "delay_seconds", "duration_seconds") if name in raw]
    if len(given) != 1:
        problems.add(f"{path}seconds", "missing", "say how long: one of seconds, minutes, hours")
        return DelayParameters(compile_template(0))
    name, value = given[0], raw[given[0]]
    if isinstance(value, str):
        return DelayParameters(problems.expression(compile_template, value, f"{path}{name}", "0"))
    factor = {"minutes": 60, "hours": 3600}.get(name, 1)
    amount = problems.number(raw, name, path, least=0, most=TEN_YEARS / factor)
    return DelayParameters(compile_template((amount or 0) * factor))


def _transform(raw: dict[str, Any], path: str, problems: Problems) -> Parameters:
    given = [name for name in ("output", "mapping", "expression") if name in raw]
    if len(given) != 1:
        problems.add(f"{path}output", "missing", "give the output as a template: one of output, mapping, expression")
        return TransformParameters(compile_template(None))
    value = raw[given[0]]
    if given[0] == "expression" and isinstance(value, str) and "{{" not in value:
        value = f"{{{{{value}}}}}"
    return TransformParameters(problems.expression(compile_template, value, f"{path}{given[0]}", None))


def _approval(raw: dict[str, Any], path: str, problems: Problems) -> Parameters:
    timeout = problems.deadline(raw, path)
    message = problems.text(raw, "message", path, most=10_000)
    approvers = problems.texts(raw, "approvers", path)
    return ApprovalParameters(
        approvers,
        problems.expression(compile_template, message, f"{path}message", ""),
        problems.expression(compile_template, raw.get("show", PREVIOUS), f"{path}show", PREVIOUS),
        timeout,
        problems.choice(raw, "on_timeout", path, ("fail", "reject", "approve")),
        problems.choice(raw, "on_reject", path, ("fail", "continue")),
        rules_template(read_rules(raw, approvers, path, problems)),
    )


READERS: Mapping[StepType, Reader] = {
    StepType.TRIGGER: Reader(
        ("kind", *(field for fields in TRIGGER_FIELDS.values() for field in fields)), read_trigger
    ),
    StepType.AGENT_EXECUTION: Reader(
        ("agent_id", "agent", "capabilities", "choose", "input", "max_iterations", "timeout_seconds", "suggestion"),
        _agent,
    ),
    StepType.API_CALL: Reader(("url", "method", "headers", "body", "expected_status", "timeout_seconds"), _api_call),
    StepType.CONDITION: Reader(("condition",), _condition),
    StepType.SWITCH: Reader(("cases", "mode"), _switch),
    StepType.TOOL_CALL: Reader(("tool", "tool_name", "arguments", "timeout_seconds", "ask_first"), _tool),
    StepType.SUB_WORKFLOW: Reader(("workflow_id", "version", "input", "timeout_seconds"), _sub_workflow),
    StepType.PARALLEL: Reader(("error_policy",), _parallel),
    StepType.SIGNAL: Reader(("name", "on_timeout", "timeout_seconds"), _signal),
    StepType.DELAY: Reader(("seconds", "minutes", "hours", "delay_seconds", "duration_seconds"), _delay),
    StepType.DATA_TRANSFORM: Reader(("output", "mapping", "expression"), _transform),
    StepType.HUMAN_APPROVAL: Reader(
        ("approvers", "message", "show", "timeout_hours", "timeout_seconds", "on_timeout", "on_reject", *GATE_RULES),
        _approval,
    ),
}
