"""What all dialects read in the same way."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from handrail_contracts.budgets import DIMENSIONS, Limits

from handrail_graph.build import MAX_STEPS
from handrail_graph.graph import Concurrency, TriggerParameters
from handrail_graph.parameters import read_trigger
from handrail_graph.problems import Problems, shown
from handrail_graph.templates import compile_template

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def document_name(document: Mapping[str, Any], problems: Problems) -> str:
    name = problems.text(document, "name", "")
    if not name.strip() and isinstance(document.get("name", ""), str) and not problems.found:
        problems.add("name", "missing", "give the workflow a name")
    return name


def items(document: Mapping[str, Any], field: str, missing: str, problems: Problems, path: str = "") -> list[Any]:
    """The list of steps or tasks; empty, and reported, if there is none or it is too long."""
    raw = document.get(field)
    if not isinstance(raw, list) or not raw:
        problems.add(f"{path}{field}", "missing", missing)
        return []
    if len(raw) > MAX_STEPS:
        problems.add(f"{path}{field}", "too_many", f"a workflow may have {MAX_STEPS} {field}; this one has {len(raw)}")
        return []
    return raw


SHOWN = ("id", "category", "tags", "canvas", "trigger", "concurrency", "budget", "metadata")
"""Fields of a document that every dialect takes."""


def document_trigger(document: Mapping[str, Any], problems: Problems) -> TriggerParameters | None:
    """`trigger: {type, ...}` beside the steps. Of an event, `condition` may be its bare name."""
    raw = problems.mapping(document, "trigger", "")
    if not raw:
        return None
    given = {
        "kind": raw.get("type", raw.get("kind", "api")),
        **{k: v for k, v in raw.items() if k not in ("type", "kind")},
    }
    if given["kind"] == "event" and "event" not in given and _ID.fullmatch(str(given.get("condition", ""))):
        given["event"] = given.pop("condition")
    return read_trigger(given, "trigger.", problems)


def document_budget(document: Mapping[str, Any], problems: Problems) -> Limits | None:
    """`budget: {tokens, cost_usd, calls, seconds}`: what the agents of one execution may use together."""
    raw = problems.mapping(document, "budget", "")
    if not raw:
        return None
    problems.unknown_fields(raw, DIMENSIONS, "budget")
    whole = ("tokens", "calls")
    given = {
        name: problems.number(raw, name, "budget.", least=0, most=1e15, whole=name in whole)
        for name in DIMENSIONS
        if name in raw
    }
    return Limits.model_validate(given)


def document_concurrency(document: Mapping[str, Any], problems: Problems) -> Concurrency | None:
    """`concurrency: {limit, key, on_conflict}`."""
    raw = problems.mapping(document, "concurrency", "")
    if not raw:
        return None
    path = "concurrency."
    problems.unknown_fields(raw, ("limit", "key", "on_conflict"), "concurrency")
    limit = problems.number(raw, "limit", path, least=1, most=100_000, whole=True)
    key = problems.expression(compile_template, raw["key"], f"{path}key", "") if "key" in raw else None
    if key is not None and any(reference[0] not in ("input", "user_input", "context") for reference in key.references):
        problems.add(
            f"{path}key", "bad_expression", "the key is made before any step runs: it sees only input and context"
        )
    on_conflict = problems.choice(raw, "on_conflict", path, ("queue", "cancel_old", "reject"))
    return Concurrency(1 if limit is None else int(limit), key, on_conflict)


@dataclass
class StepIds:
    """Well formed, and each once."""

    problems: Problems
    seen: dict[str, str] = field(default_factory=dict)

    def read(self, raw: Mapping[str, Any], name: str, path: str) -> str | None:
        step_id = raw.get(name)
        if not isinstance(step_id, str) or not _ID.fullmatch(step_id):
            rule = "an id has 1 to 100 letters, digits, '_' or '-', and begins with a letter or digit"
            self.problems.add(f"{path}.{name}", "bad_id", f"{rule}; this one is {shown(step_id)}")
            return None
        if step_id in self.seen:
            self.problems.add(f"{path}.{name}", "duplicate_id", f"{self.seen[step_id]} has the id {step_id!r} already")
            return None
        self.seen[step_id] = path
        return step_id
