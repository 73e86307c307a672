"""How a step's agent may suggest actions: who decides, what happens then, and what needs nobody."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from handrail_graph.gates import FIELDS as GATE_RULES
from handrail_graph.gates import Rules, read_rules
from handrail_graph.problems import Problems, closest, shown

ACTIONS = ("email", "webhook", "tool", "none")
GATE_FIELDS = ("approvers", "message", "timeout_hours", "timeout_seconds", "on_timeout", "on_reject", *GATE_RULES)
FIELDS = (*GATE_FIELDS, "actions", "auto_approve", "max_revisions")


@dataclass(frozen=True, slots=True)
class ActionRule:
    """How an approved action is carried out: by an e-mail, by a call of `url`, by `tool`; `none`: not by the platform."""

    type: str
    url: str = ""
    tool: str = ""


@dataclass(frozen=True, slots=True)
class SuggestionRules:
    """`actions` are all that the agent may suggest, if any are named; `auto_approve` says from which confidence on.

    `on_timeout`: fail or reject. `on_reject`: fail, or continue with the decision as output. `said` is how it was written.
    """

    approvers: tuple[str, ...] = ()
    message: str = ""
    timeout_seconds: float | None = None
    on_timeout: str = "fail"
    on_reject: str = "fail"
    actions: Mapping[str, ActionRule] = field(default_factory=dict)
    auto_approve: Mapping[str, float] = field(default_factory=dict)
    max_revisions: int = 20
    said: Any = True
    rules: Rules | None = None


def read_suggestion(
    raw: Any, path: str, problems: Problems, fields: tuple[str, ...] = FIELDS
) -> SuggestionRules | None:
    """Of `true` or an object; None without one."""
    if raw is None or raw is False:
        return None
    if raw is True:
        return SuggestionRules()
    if not isinstance(raw, Mapping):
        problems.add(path, "wrong_type", f"must be true or an object, not {shown(raw)}")
        return None
    problems.unknown_fields(raw, fields, path)
    inside = f"{path}."
    timeout = problems.deadline(raw, inside)
    actions = _actions(raw, inside, problems)
    most = problems.number(raw, "max_revisions", inside, least=0, most=1000, whole=True)
    approvers = problems.texts(raw, "approvers", inside)
    return SuggestionRules(
        approvers,
        problems.text(raw, "message", inside, most=10_000),
        timeout,
        problems.choice(raw, "on_timeout", inside, ("fail", "reject")),
        problems.choice(raw, "on_reject", inside, ("fail", "continue")),
        actions,
        _auto_approve(raw, actions, inside, problems),
        20 if most is None else int(most),
        dict(raw),
        read_rules(raw, approvers, inside, problems, expressions=False),
    )


def _actions(raw: Mapping[str, Any], path: str, problems: Problems) -> dict[str, ActionRule]:
    """By name; a text alone is the type."""
    found = {}
    for name, rule in problems.mapping(raw, "actions", path).items():
        here = f"{path}actions.{name}"
        rule = {"type": rule} if isinstance(rule, str) else rule
        if not isinstance(rule, Mapping):
            problems.add(here, "wrong_type", f"must be one of {', '.join(ACTIONS)}, or an object with a type")
            continue
        problems.unknown_fields(rule, ("type", "url", "tool"), here)
        kind = problems.choice({"type": None, **rule}, "type", f"{here}.", ACTIONS)
        needs = {"webhook": "url", "tool": "tool"}.get(kind)
        action = ActionRule(
            kind, problems.text(rule, "url", f"{here}.", most=4096), problems.text(rule, "tool", f"{here}.")
        )
        if needs and not getattr(action, needs):
            problems.add(f"{here}.{needs}", "missing", f"an action of the type {kind} needs its {needs}")
        found[name] = action
    return found


def _auto_approve(
    raw: Mapping[str, Any], actions: Mapping[str, ActionRule], path: str, problems: Problems
) -> dict[str, float]:
    found = {}
    given = problems.mapping(raw, "auto_approve", path)
    for name in given:
        least = problems.number(given, name, f"{path}auto_approve.", least=0, most=1)
        if name not in actions:
            problems.add(
                f"{path}auto_approve.{name}", "unknown_action", f"there is no such action{closest(name, actions)}"
            )
        elif least is not None:
            found[name] = least
    return found
