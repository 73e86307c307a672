"""What differs between two definitions, for people: steps and tasks are matched by their id, not by their place. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

IDS = ("step_id", "id")
_NOTHING = object()


def differences(before: Any, after: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """`{path, kind, before, after}` with kind added, removed or changed; nothing where both are equal."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in [*before, *(name for name in after if name not in before)]:
            inside = f"{path}.{name}" if path else str(name)
            yield from _compared(before.get(name, _NOTHING), after.get(name, _NOTHING), inside)
    elif isinstance(before, list) and isinstance(after, list):
        for label, old, new in _paired(before, after):
            yield from _compared(old, new, f"{path}[{label}]")
    elif before != after:
        yield {"path": path, "kind": "changed", "before": before, "after": after}


def _compared(before: Any, after: Any, path: str) -> Iterator[dict[str, Any]]:
    if before is _NOTHING:
        yield {"path": path, "kind": "added", "before": None, "after": after}
    elif after is _NOTHING:
        yield {"path": path, "kind": "removed", "before": before, "after": None}
    else:
        yield from differences(before, after, path)


def _paired(before: list[Any], after: list[Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in IDS:
        old, new = _by_id(before, name), _by_id(after, name)
        if old is not None and new is not None:
            for label in [*old, *(label for label in new if label not in old)]:
                yield label, old.get(label, _NOTHING), new.get(label, _NOTHING)
            return
    for index in range(max(len(before), len(after))):
        yield (
            str(index),
            before[index] if index < len(before) else _NOTHING,
            after[index] if index < len(after) else _NOTHING,
        )


def _by_id(items: list[Any], name: str) -> dict[str, Any] | None:
    """None if they are not all objects with an id of their own."""
    if not items or not all(isinstance(item, Mapping) and isinstance(item.get(name), str) for item in items):
        return None
    found = {item[name]: item for item in items}
    return found if len(found) == len(items) else None
