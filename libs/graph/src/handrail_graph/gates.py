"""How many people decide on a gate, who is asked next, and what they are told: read from a step's parameters."""

from collections.abc import Mapping
from typing import Any

from handrail_contracts.gates import GateRules
from pydantic import ValidationError

from handrail_graph.problems import Problems
from handrail_graph.templates import Template, compile_template

HOURS = {"remind_after_hours": "remind_after_seconds", "after_hours": "after_seconds"}
FIELDS = (*GateRules.model_fields, "remind_after_hours")
OF_LEVELS = ("after_hours", "after_seconds", "approvers", "specialties")
Rules = dict[str, Any]


def read_rules(
    raw: Mapping[str, Any], approvers: tuple[str, ...], path: str, problems: Problems, *, expressions: bool = True
) -> Rules | None:
    """The rules as they were written, hours as seconds; None without any. What has expressions is checked when it is used."""
    given = {name: raw[name] for name in FIELDS if raw.get(name) is not None}
    if not given:
        return None
    levels = given.get("escalation")
    for index, level in enumerate(levels if isinstance(levels, list) else ()):
        if isinstance(level, Mapping):
            problems.unknown_fields(level, OF_LEVELS, f"{path}escalation[{index}]")
    rules = {HOURS.get(name, name): _in_seconds(value, name) for name, value in given.items()}
    reminders = rules.get("remind_after_seconds", [])
    rules |= {} if isinstance(reminders, list) else {"remind_after_seconds": [reminders]}
    rules.setdefault("notify", rules.get("assign", False))
    if not (expressions and problems.expression(compile_template, rules, f"{path}rules", {}).references):
        _check(rules, approvers, path, problems)
    return rules


def _in_seconds(value: Any, name: str) -> Any:
    """What is given under a name that says hours, and the levels of an escalation, in seconds."""
    if isinstance(value, list):
        return [_in_seconds(item, name) for item in value]
    if isinstance(value, Mapping) and name == "escalation":
        return {HOURS.get(inner, inner): _in_seconds(item, inner) for inner, item in value.items()}
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value * 3600 if name in HOURS and is_number else value


def _check(rules: Rules, approvers: tuple[str, ...], path: str, problems: Problems) -> None:
    try:
        read = GateRules.model_validate(rules)
    except ValidationError as error:
        for mistake in error.errors(include_url=False)[:5]:
            where = ".".join(str(part) for part in mistake["loc"][:3])
            problems.add(f"{path}{where}", "wrong_value", mistake["msg"])
        return
    people = len(approvers)
    if isinstance(read.require, int) and 0 < people < read.require:
        problems.add(f"{path}require", "out_of_range", f"there are {people} approvers, so {read.require} can't approve")
    if read.require in ("all", "in_order") and not people:
        problems.add(f"{path}approvers", "missing", f"`require` is {read.require}: name the approvers")
    if read.assign and read.require != "any":
        problems.add(f"{path}assign", "wrong_value", "one reviewer is assigned, so `require` can only be any")


def rules_template(rules: Rules | None) -> Template | None:
    return None if rules is None else compile_template(rules)
