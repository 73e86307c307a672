"""Whether a schema still says what a released one said: messages on the bus outlive the release that wrote them.

Within a version a field may be added if nobody has to say it, and a value may be allowed that was not. Everything else
needs a new version: old messages must stay readable, and readers of the last release must take what is written now.
"""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_SAME = ("type", "format", "pattern", "default")
_ABSENT: Any = object()


def incompatibilities(released: Schema, current: Schema) -> list[str]:
    """What is wrong with `current`, a sentence each; empty if it may replace `released`."""
    return list(_Comparison(released, current).nodes(released, current, ""))


class _Comparison:
    def __init__(self, released: Schema, current: Schema) -> None:
        self._released, self._current = released, current

    def nodes(self, old: Any, new: Any, path: str) -> Iterator[str]:
        if not isinstance(old, dict) or not isinstance(new, dict):
            if old != new:
                yield f"{path}: was {old!r} and is {new!r}"
            return
        old, new = _resolve(self._released, old), _resolve(self._current, new)
        yield from _same(old, new, path)
        yield from _values(old, new, path)
        yield from _bounds(old, new, path)
        yield from self._fields(old, new, path)
        yield from self._parts(old, new, path)

    def _fields(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        needed, needs = set(old.get("required", ())), set(new.get("required", ()))
        for name in sorted(needs - needed):
            yield f"{_at(path, name)}: became required; earlier messages do not have it"
        for name in sorted((needed - needs) & set(after)):
            yield f"{_at(path, name)}: is no longer required; readers of the last release refuse messages without it"
        for name, field in before.items():
            if name in after:
                yield from self.nodes(field, after[name], _at(path, name))
            else:
                yield f"{_at(path, name)}: was removed"

    def _parts(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        for word in ("items", "additionalProperties"):
            if word in old or word in new:
                yield from self.nodes(old.get(word, True), new.get(word, True), f"{path}[]")
        before, after = old.get("prefixItems", []), new.get("prefixItems", [])
        if len(before) != len(after):
            yield f"{path}: had {len(before)} places and has {len(after)}"
        for index, (was, is_now) in enumerate(zip(before, after, strict=False)):
            yield from self.nodes(was, is_now, f"{path}[{index}]")
        yield from self._choices(old, new, path)

    def _choices(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        """Each released alternative needs one now; by its tag where alternatives have one, else the closest."""
        before = [_resolve(self._released, part) for part in _alternatives(old)]
        after = [_resolve(self._current, part) for part in _alternatives(new)]
        if bool(before) != bool(after):
            yield f"{path}: was {'one of several kinds' if before else 'of one kind'}, and is not any more"
            return
        tag = old.get("discriminator", {}).get("propertyName")
        for was in before:
            where = f"{path}<{_tag(was, tag)}>" if tag else path
            candidates = [part for part in after if not tag or _tag(part, tag) == _tag(was, tag)]
            problems = [list(self.nodes(was, part, where)) for part in candidates]
            yield from min(problems, key=len, default=[f"{where}: was removed"])


def _resolve(root: Schema, node: Schema) -> Schema:
    while "$ref" in node:
        target: Schema = root
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = {**target, **{word: value for word, value in node.items() if word != "$ref"}}
    return node


def _same(old: Schema, new: Schema, path: str) -> Iterator[str]:
    for word in _SAME:
        was, is_now = old.get(word, _ABSENT), new.get(word, _ABSENT)
        if was != is_now and not (word == "default" and _has_grown(was, is_now)):
            yield f"{path}: {word} was {_shown(was)} and is {_shown(is_now)}"


def _has_grown(was: Any, is_now: Any) -> bool:
    """A default that is an object may gain fields; those that were there stay as they were."""
    return isinstance(was, dict) and isinstance(is_now, dict) and is_now.items() >= was.items()


def _values(old: Schema, new: Schema, path: str) -> Iterator[str]:
    was, is_now = _enumerated(old), _enumerated(new)
    if is_now is None:
        return
    if was is None:
        yield f"{path}: any value was good, and now only {is_now!r}"
        return
    for value in was:
        if value not in is_now:
            yield f"{path}: {value!r} is no longer a value"


def _bounds(old: Schema, new: Schema, path: str) -> Iterator[str]:
    for word in _LEAST:
        if word in new and new[word] > old.get(word, float("-inf")):
            yield f"{path}: {word} rose to {new[word]}"
    for word in _MOST:
        if word in new and new[word] < old.get(word, float("inf")):
            yield f"{path}: {word} fell to {new[word]}"


def _enumerated(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    found: list[Any] | None = schema.get("enum")
    return found


def _alternatives(schema: Schema) -> list[Schema]:
    found: list[Schema] = schema.get("anyOf") or schema.get("oneOf") or []
    return found


def _tag(schema: Schema, name: str) -> Any:
    return schema["properties"][name]["const"]


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else repr(value)
