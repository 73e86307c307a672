"""What is wrong with a definition: all of it at once, each with the field's path and a sentence for a person."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from handrail_graph.expressions import ExpressionError

MAX_PROBLEMS = 50
TEN_YEARS = 10 * 366 * 86_400
T = TypeVar("T")


def _plain(number: float) -> str:
    return f"{number:.10f}".rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class Problem:
    """`path` points into the document: `steps[2].next_steps[0]`. `code` is stable, `message` is for people."""

    path: str
    message: str
    code: str


class DefinitionError(Exception):
    """A definition that does not compile."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(f"{problem.path}: {problem.message}" for problem in problems[:3]))
        self.problems = problems


def closest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known, or nothing."""
    matches = difflib.get_close_matches(name, list(known)[:2000], n=1, cutoff=0.6)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(slots=True)
class Problems:
    """Collects problems while a definition is read; readers return a stand-in and go on."""

    found: list[Problem] = field(default_factory=list)

    def add(self, path: str, code: str, message: str) -> None:
        if len(self.found) < MAX_PROBLEMS:
            self.found.append(Problem(path, message, code))

    def raise_if_any(self) -> None:
        if self.found:
            raise DefinitionError(tuple(self.found))

    def unknown_fields(self, raw: Mapping[str, Any], known: Iterable[str], path: str) -> None:
        allowed = list(known)
        for name in raw:
            if name not in allowed:
                where = f"{path}.{name}" if path else str(name)
                self.add(where, "unknown_field", f"there is no field {shown(name)} here{closest(str(name), allowed)}")

    def text(self, raw: Mapping[str, Any], name: str, path: str, *, default: str = "", most: int = 200) -> str:
        value = raw.get(name, default)
        if not isinstance(value, str):
            self.add(f"{path}{name}", "wrong_type", f"must be text, not {_kind(value)}")
            return default
        if len(value) > most:
            self.add(f"{path}{name}", "too_long", f"may have {most} characters; this one has {len(value)}")
            return default
        return value

    def texts(self, raw: Mapping[str, Any], name: str, path: str) -> tuple[str, ...]:
        value = raw.get(name) or []
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list):
            self.add(f"{path}{name}", "wrong_type", f"must be a list, not {_kind(value)}")
            return ()
        for index, item in enumerate(value):
            if not isinstance(item, str):
                self.add(f"{path}{name}[{index}]", "wrong_type", f"must be text, not {_kind(item)}")
        return tuple(item for item in value if isinstance(item, str))

    def number(
        self, raw: Mapping[str, Any], name: str, path: str, *, least: float, most: float, whole: bool = False
    ) -> float | None:
        value = raw.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or (whole and not isinstance(value, int)):
            self.add(f"{path}{name}", "wrong_type", f"must be a {'whole ' * whole}number, not {shown(value)}")
            return None
        if not least <= value <= most:
            self.add(f"{path}{name}", "out_of_range", f"must be from {_plain(least)} to {_plain(most)}, not {value}")
            return None
        return value

    def deadline(self, raw: Mapping[str, Any], path: str) -> float | None:
        """In seconds, of `timeout_hours` or `timeout_seconds`."""
        hours = self.number(raw, "timeout_hours", path, least=0, most=TEN_YEARS / 3600)
        seconds = self.number(raw, "timeout_seconds", path, least=0, most=TEN_YEARS)
        return seconds if hours is None else hours * 3600

    def choice(self, raw: Mapping[str, Any], name: str, path: str, allowed: tuple[str, ...]) -> str:
        value = raw.get(name, allowed[0])
        if value not in allowed:
            self.add(f"{path}{name}", "wrong_value", f"must be one of {', '.join(allowed)}, not {shown(value)}")
            return allowed[0]
        return str(value)

    def mapping(self, raw: Mapping[str, Any], name: str, path: str) -> dict[str, Any]:
        value = raw.get(name) or {}
        if not isinstance(value, dict):
            self.add(f"{path}{name}", "wrong_type", f"must be an object, not {_kind(value)}")
            return {}
        return value

    def expression(self, compile_: Callable[[Any], T], value: Any, path: str, stand_in: Any) -> T:
        try:
            return compile_(value)
        except ExpressionError as error:
            self.add(path, "bad_expression", str(error))
            return compile_(stand_in)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
