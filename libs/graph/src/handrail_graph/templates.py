"""Templates: JSON with expressions in its strings, as `{{ expression }}` or `${ expression }`.

A string that is one expression and nothing else keeps the type of its value; otherwise values become part of the text:
strings as they are, all else as compact JSON.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from handrail_graph.expressions import Expression, ExpressionError, Path, Scope, compile_expression

MAX_RENDERED = 256 * 1024


@dataclass(frozen=True, slots=True)
class Template:
    """Compiled once, rendered often. A template without expressions gives its own value: don't change it."""

    value: Any
    references: frozenset[Path]
    _program: Any

    def render(self, scope: Scope) -> Any:
        """Raises `ExpressionError`, also if text grows beyond 256 KiB."""
        return self.value if self._program is None else _render(self._program, scope)


@dataclass(frozen=True, slots=True)
class _Text:
    parts: tuple[str | Expression, ...]


@dataclass(frozen=True, slots=True)
class _Object:
    entries: tuple[tuple[str, Any, bool], ...]


@dataclass(frozen=True, slots=True)
class _List:
    items: tuple[tuple[Any, bool], ...]


def compile_template(value: Any) -> Template:
    """Raises `ExpressionError` with the first expression that does not compile."""
    references: set[Path] = set()
    program = _compile(value, references)
    return Template(value, frozenset(references), program)


def _compile(value: Any, references: set[Path]) -> Any:
    """A program, or None for a constant."""
    if isinstance(value, str):
        return _compile_text(value, references)
    if isinstance(value, dict):
        entries = [(key, item, _compile(item, references)) for key, item in value.items()]
        if all(program is None for _, _, program in entries):
            return None
        return _Object(tuple((key, item if prog is None else prog, prog is None) for key, item, prog in entries))
    if isinstance(value, list):
        items = [(item, _compile(item, references)) for item in value]
        if all(program is None for _, program in items):
            return None
        return _List(tuple((item if prog is None else prog, prog is None) for item, prog in items))
    return None


def _compile_text(text: str, references: set[Path]) -> Any:
    parts = tuple(
        part if is_text else compile_expression(part) for part, is_text in split_text(text) if part or not is_text
    )
    expressions = [part for part in parts if not isinstance(part, str)]
    if not expressions:
        return None
    for expression in expressions:
        references.update(expression.references)
    return expressions[0] if len(parts) == 1 else _Text(parts)


def split_text(text: str) -> Iterator[tuple[str, bool]]:
    """Pieces of a string: (text, True) and (expression, False), in order."""
    start = 0
    while True:
        opening = _OPENING.search(text, start)
        if opening is None:
            yield text[start:], True
            return
        closing = _closing(text, opening)
        yield text[start : opening.start()], True
        end = 2 if opening.group() == "{{" else 1
        yield text[opening.end() : closing], False
        start = closing + end


_OPENING = re.compile(r"\{\{|\$\{")


def _closing(text: str, opening: "re.Match[str]") -> int:
    """Where the expression ends: the closing braces that are in no string and close no brace of the expression."""
    wanted = "}}" if opening.group() == "{{" else "}"
    depth, quote, i = 0, "", opening.end()
    while i < len(text):
        character = text[i]
        if quote:
            i += character == "\\"
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif depth == 0 and text.startswith(wanted, i):
            return i
        else:
            depth += (character == "{") - (character == "}")
        i += 1
    raise ExpressionError(f"{opening.group()} is never closed with {wanted}", text[opening.start() :][:60])


def _render(program: Any, scope: Scope) -> Any:
    if isinstance(program, _Object):
        return {key: item if constant else _render(item, scope) for key, item, constant in program.entries}
    if isinstance(program, _List):
        return [item if constant else _render(item, scope) for item, constant in program.items]
    if isinstance(program, _Text):
        return _join(program, scope)
    return program.evaluate(scope)


def _join(text: _Text, scope: Scope) -> str:
    joined = "".join(part if isinstance(part, str) else _as_text(part.evaluate(scope)) for part in text.parts)
    if len(joined) > MAX_RENDERED:
        raise ExpressionError(f"a rendered text may have {MAX_RENDERED} characters; this one has {len(joined)}", "")
    return joined


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Condition:
    """An expression that must be true or false."""

    text: str
    expression: Expression

    @property
    def references(self) -> frozenset[Path]:
        return self.expression.references

    def evaluate(self, scope: Scope) -> bool:
        result = self.expression.evaluate(scope)
        if not isinstance(result, bool):
            raise ExpressionError(f"a condition must be true or false, not {type(result).__name__}", self.text)
        return result


def compile_condition(text: str) -> Condition:
    """Within a condition `{{ path }}` is the path itself: `{{input.priority}} == 'high'` compares the value."""
    bare = "".join(part if is_text else f"({part.strip()})" for part, is_text in split_text(text))
    return Condition(text, compile_expression(bare))
