"""Expressions: Google's CEL over `input, user_input, context, steps, previous_output, loop, now`; a fast road for plain paths.

A path (`steps.draft.output.title`, `input.items[0]`) walks JSON objects and lists and nothing else. Anything more is CEL,
compiled once; its context holds only what the expression names, since converting everything is what would cost time.
Cost is bounded by length, by nesting depth and by the iteration budget of the library.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from cel_expr_python import cel

Path = tuple[str, ...]
Scope = Mapping[str, Any]

ROOTS = ("input", "user_input", "context", "steps", "previous_output", "loop", "now")
MAX_LENGTH = 4096
MAX_DEPTH = 40
MAX_STRING_FOR_REGEX = 10_000

_SEGMENT = r"(?:\.[A-Za-z0-9_][A-Za-z0-9_-]*|\[\d+\]|\['[^'\\]*'\]|\[\"[^\"\\]*\"\])"
_PATH = re.compile(rf"(?:{'|'.join(ROOTS)}){_SEGMENT}*")
_CEL_SEGMENT = r"(?:\s*\.\s*[A-Za-z_][A-Za-z0-9_]*(?!\s*\()|\[\d+\]|\['[^'\\]*'\]|\[\"[^\"\\]*\"\])"
_CEL_PATH = re.compile(rf"(?<![\w.])(?:{'|'.join(ROOTS)}){_CEL_SEGMENT}*")
_PARTS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*|'[^']*'|\"[^\"]*\"")
_STRINGS = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
_MACROS = re.compile(r"\.\s*(map|filter|all|exists|exists_one)\s*\(")
_FORBIDDEN = re.compile(r"\bmatches\s*\(")


class ExpressionError(Exception):
    """An expression that can't be compiled or evaluated. `path` is the missing path, where one is missing."""

    def __init__(self, message: str, expression: str, path: str | None = None) -> None:
        super().__init__(f"{message} (in {expression!r})" if expression else message)
        self.expression, self.path = expression, path


class _Absent:
    """What a path that leads nowhere gives, until a default takes its place."""


_ABSENT = _Absent()


@dataclass(frozen=True, slots=True)
class _PathExpression:
    """The fast road: a plain path."""

    text: str
    path: Path

    @property
    def references(self) -> frozenset[Path]:
        return frozenset((self.path,))

    def evaluate(self, scope: Scope) -> Any:
        value = walk(scope, self.path)
        if value is _ABSENT:
            raise ExpressionError(f"{self.text} does not exist", "", self.text)
        return value


@dataclass(frozen=True, slots=True)
class _CelExpression:
    text: str
    compiled: Any
    references: frozenset[Path]
    longest_list: int | None

    def evaluate(self, scope: Scope) -> Any:
        context = _context(scope, self.references)
        if self.longest_list is not None and (length := _longest_list(context)) > self.longest_list:
            message = (
                f"it goes through lists of up to {self.longest_list} items; one here has {length}; use a loop step"
            )
            raise ExpressionError(message, self.text)
        try:
            result = self.compiled.eval(data=context)
        except Exception as error:
            raise ExpressionError(_reason(str(error)), self.text) from error
        if result.type() == cel.Type.ERROR:
            raise ExpressionError(_reason(str(result.value())), self.text, _missing(scope, self.references))
        return _json(result.plain_value(), self.text)


@dataclass(frozen=True, slots=True)
class _DefaultExpression:
    """`a ?? b`: b where a leads nowhere or is null."""

    text: str
    first: "Expression"
    otherwise: "Expression"
    references: frozenset[Path] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "references", self.first.references | self.otherwise.references)

    def evaluate(self, scope: Scope) -> Any:
        try:
            value = self.first.evaluate(scope)
        except ExpressionError as error:
            if error.path is None:
                raise
            value = None
        return self.otherwise.evaluate(scope) if value is None else value


_SYNTAX = re.compile(r"\b\d+:(\d+): Syntax error: [^']*'(.*?)'(?: expecting .*|$| \[)")
"""The parser's complaints: mismatched or extraneous input, no viable alternative, a token that it doesn't know."""

Expression = _PathExpression | _CelExpression | _DefaultExpression


@lru_cache(maxsize=4096)
def compile_expression(text: str) -> Expression:
    """Raises `ExpressionError` for anything that is no expression, before anything runs."""
    text = text.strip()
    _check_bounds(text)
    parts = _split_default(text)
    if len(parts) > 1:
        first, rest = parts[0], " ?? ".join(parts[1:])
        return _DefaultExpression(text, compile_expression(first), compile_expression(rest))
    if _PATH.fullmatch(text):
        return _PathExpression(text, parse_path(text))
    return _CelExpression(text, _compile_cel(text), _references(text), _list_limit(text))


def _list_limit(text: str) -> int | None:
    """How long a list may be that the expression goes through; None if it goes through none.

    The library builds lists in quadratic time: these limits keep the worst case within 50 ms (measured; see the tests).
    """
    macros = _MACROS.findall(_STRINGS.sub("''", text))
    building = sum(macro in ("map", "filter") for macro in macros)
    if not macros:
        return None
    return 100 if building > 1 or (building and len(macros) > 1) else 1000 if building else 5000


def _longest_list(value: Any) -> int:
    longest, stack = 0, [value]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            longest = max(longest, len(item))
            stack += item[:5001]
        elif isinstance(item, dict):
            stack += item.values()
    return longest


def user_input(given: Any) -> Any:
    """What the user said: the input's message, or the whole input where it has none."""
    return given.get("message", given) if isinstance(given, dict) else given


def parse_path(text: str) -> Path:
    return tuple(part.strip("'\"") for part in _PARTS.findall(text))


def walk(scope: Scope, path: Path) -> Any:
    """The value at a path: objects by key, lists by index, nothing else; `_ABSENT` where it leads nowhere."""
    value: Any = scope
    for part in path:
        if isinstance(value, dict):
            value = value.get(part, _ABSENT)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _ABSENT
        if value is _ABSENT:
            return _ABSENT
    return value


def _check_bounds(text: str) -> None:
    if not text:
        raise ExpressionError("an expression is empty", "")
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"an expression may have {MAX_LENGTH} characters; this one has {len(text)}", text[:60] + "..."
        )
    bare = _STRINGS.sub("''", text)
    depth = deepest = run = 0
    for character in bare:
        depth += (character in "([{") - (character in ")]}")
        run = run + 1 if character in "-!?" else 0 if character != " " else run
        deepest = max(deepest, depth, run)
    if deepest > MAX_DEPTH:
        raise ExpressionError(f"an expression may be nested {MAX_DEPTH} levels deep", text[:60] + "...")
    if _FORBIDDEN.search(bare):
        raise ExpressionError("regular expressions are not offered; use contains, startsWith or endsWith", text)


def _split_default(text: str) -> list[str]:
    """At `??` outside of strings and brackets."""
    parts, depth, start, quote, i = [], 0, 0, "", 0
    while i < len(text):
        character = text[i]
        if quote:
            i += character == "\\"
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif text.startswith("??", i) and depth == 0:
            parts.append(text[start:i].strip())
            start, i = i + 2, i + 1
        else:
            depth += (character in "([{") - (character in ")]}")
        i += 1
    return [*parts, text[start:].strip()]


@lru_cache(maxsize=1)
def _environment() -> Any:
    return cel.NewEnv(variables=dict.fromkeys((*ROOTS, LOOP_IN_CEL), cel.Type.DYN))


def _compile_cel(text: str) -> Any:
    try:
        return _environment().compile(_LOOP.sub(lambda found: found.group(1) or LOOP_IN_CEL, text))
    except Exception as error:
        raise ExpressionError(_reason(str(error)), text) from error


def _reason(message: str) -> str:
    """The first line of the library's message, without its own marks."""
    line = message.splitlines()[0] if message else "unknown error"
    if absent := re.search(r"Syntax error: missing ('.+?') at", line):
        return f"{absent[1]} is missing"
    if syntax := _SYNTAX.search(line):
        column, token = syntax.groups()
        return "it ends too early" if token == "<EOF>" else f"{token!r} was not expected at character {int(column) + 1}"
    line = re.sub(r"^(?:[A-Z_]+: )?(?:ERROR: )?(?:<input>:)?(?:\d+:\d+: )?", "", line)
    line = re.sub(r" \[[A-Z_]+\]$", "", line)
    return line.replace("Key not found in map", "no such key")


LOOP_IN_CEL = "loop_"
"""CEL keeps the word `loop` for itself, so expressions get their `loop` by another name."""
_LOOP = re.compile(rf"({_STRINGS.pattern})|(?<![\w.])loop\b", re.DOTALL)


def _references(text: str) -> frozenset[Path]:
    bare = _STRINGS.sub(lambda m: "''" if not _is_index(text, m) else m.group(), text)
    return frozenset(parse_path(match.group()) for match in _CEL_PATH.finditer(bare))


def _is_index(text: str, match: "re.Match[str]") -> bool:
    return text[: match.start()].rstrip().endswith("[") and text[match.end() :].lstrip().startswith("]")


def _context(scope: Scope, references: frozenset[Path]) -> dict[str, Any]:
    """Of the scope, only what is named: whole at the end of each path, bare objects on the way."""
    context: dict[str, Any] = {}
    for path in sorted(references):
        _graft(context, scope, path)
    if "loop" in context:
        context[LOOP_IN_CEL] = context.pop("loop")
    return context


def _graft(context: dict[str, Any], scope: Scope, path: Path) -> None:
    source: Any = scope
    target = context
    for depth, part in enumerate(path):
        if not isinstance(source, dict) or part not in source:
            if depth == 0:
                target.setdefault(part, {} if part in ("loop", "steps", "context") else None)
            return
        source = source[part]
        last = depth == len(path) - 1 or not isinstance(source, dict)
        if part in target and target[part] is source:
            return
        if last:
            target[part] = source
            return
        target = target.setdefault(part, {})


def _missing(scope: Scope, references: frozenset[Path]) -> str | None:
    for path in sorted(references):
        if walk(scope, path) is _ABSENT:
            return ".".join(path)
    return None


def _json(value: Any, text: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_json(item, text) for item in value]
    if isinstance(value, dict):
        return {str(key): _json(item, text) for key, item in value.items()}
    raise ExpressionError(f"the result is {type(value).__name__}, which is no JSON", text)
