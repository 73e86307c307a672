"""Changing a document step by step, and drawing it. Pure; what comes out is compiled before it is saved."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from handrail_graph import Graph, Node

from handrail_gateway.problems import Problem, conflict, invalid, not_found

Document = dict[str, Any]
Json = dict[str, Any]
COLUMN, ROW = 260, 130


@dataclass(frozen=True, slots=True)
class _Words:
    """How a dialect says it. `otherwise` and `error` are empty where it can't."""

    listed: str
    identifier: str
    following: str
    otherwise: str = ""
    error: str = ""


STEPS = _Words("steps", "step_id", "next_steps", "else_steps", "error_steps")
DEFINITION = _Words("steps", "id", "next", "else")
DEPENDENCIES = _Words("tasks", "id", "depends_on")
TASKS = _Words("tasks", "", "")


def _words(document: Document) -> _Words:
    if "entry_step" in document:
        return DEFINITION
    if "steps" in document:
        return STEPS
    tasks = document.get("tasks") or []
    return DEPENDENCIES if any("depends_on" in task for task in tasks) else TASKS


class Steps:
    """A document whose steps can be changed; every method gives a new document."""

    def __init__(self, document: Document) -> None:
        self._document, self._words = document, _words(document)
        self._steps: list[Json] = list(document[self._words.listed])

    def added(self, step: Json, after: str | None) -> Document:
        words = self._words
        step_id = step.get(words.identifier) if words.identifier else None
        if words.identifier and not isinstance(step_id, str):
            raise invalid(
                "The step has no id.", [{"path": f"step.{words.identifier}", "message": "give the step an id"}]
            )
        if words.identifier and any(other.get(words.identifier) == step_id for other in self._steps):
            raise conflict("STEP_EXISTS", f"There is a step {step_id!r} already.")
        if after is None:
            return self._with([*self._steps, step])
        place = self._place(after)
        steps = list(self._steps)
        if words is DEPENDENCIES:
            step = _linked(step, words.following, after, wanted=True)
        elif words is not TASKS:
            steps[place] = self._leading(steps[place], str(step_id), "next", wanted=True)
        return self._with([*steps[: place + 1], step, *steps[place + 1 :]])

    def replaced(self, step_id: str, step: Json) -> Document:
        place = self._place(step_id)
        if self._words.identifier and step.get(self._words.identifier, step_id) != step_id:
            raise conflict("STEP_ID_CHANGED", f"A step keeps its id; this one is {step_id!r}. Add a new one instead.")
        named = {self._words.identifier: step_id} if self._words.identifier else {}
        return self._with([*self._steps[:place], {**named, **step}, *self._steps[place + 1 :]])

    def deleted(self, step_id: str) -> Document:
        place = self._place(step_id)
        rest = [*self._steps[:place], *self._steps[place + 1 :]]
        return self._with([_without(step, step_id) for step in rest])

    def reordered(self, step_ids: list[str]) -> Document:
        places = [self._place(step_id) for step_id in step_ids]
        if sorted(places) != list(range(len(self._steps))):
            raise conflict("NOT_ALL_STEPS", f"Name each of the {len(self._steps)} steps once.")
        return self._with([self._steps[place] for place in places])

    def connected(self, step_id: str, target: str, kind: str, *, wanted: bool) -> Document:
        place, aim, words = self._place(step_id), self._place(target), self._words
        if words is TASKS:
            raise conflict(
                "CHAIN", "Tasks run one after the other: reorder them, or export the workflow as steps first."
            )
        steps = list(self._steps)
        if words is DEPENDENCIES:
            if kind != "next":
                raise self._no_word(kind)
            steps[aim] = _linked(steps[aim], words.following, step_id, wanted=wanted)
        else:
            steps[place] = self._leading(steps[place], target, kind, wanted=wanted)
        return self._with(steps)

    def _leading(self, step: Json, target: str, kind: str, *, wanted: bool) -> Json:
        words = self._words
        field = {"next": words.following, "else": words.otherwise, "error": words.error}[kind]
        if words is DEFINITION and kind == "next" and step.get("type") == "conditional":
            field = "then"
        if not field:
            raise self._no_word(kind)
        return _linked(step, field, target, wanted=wanted)

    def _no_word(self, kind: str) -> Problem:
        return conflict(
            "NO_WORD", f"The dialect of this workflow has no connection of kind {kind!r}; export it as steps first."
        )

    def _place(self, step_id: str) -> int:
        for place, step in enumerate(self._steps):
            if step_id == (step.get(self._words.identifier) if self._words.identifier else f"step_{place + 1}"):
                return place
        raise not_found("step", step_id)

    def _with(self, steps: list[Json]) -> Document:
        return {**self._document, self._words.listed: steps}


def _linked(step: Json, field: str, target: str, *, wanted: bool) -> Json:
    given = step.get(field) or []
    targets = [given] if isinstance(given, str) else list(given)
    kept = [other for other in targets if other != target]
    return {**step, field: [*kept, target] if wanted else kept}


def _without(step: Json, target: str) -> Json:
    """The step without what leads to the target."""
    changed = dict(step)
    for field in ("next_steps", "else_steps", "error_steps", "next", "then", "else", "depends_on"):
        if field in step:
            changed = _linked(changed, field, target, wanted=False)
    if step.get("compensate_with") == target:
        del changed["compensate_with"]
    cases = (step.get("parameters") or {}).get("cases")
    if isinstance(cases, list):
        kept = [_linked(case, "next_steps", target, wanted=False) for case in cases if isinstance(case, dict)]
        changed["parameters"] = {**step["parameters"], "cases": kept}
    return changed


def canvas(graph: Graph, document: Document) -> tuple[list[Json], list[Json]]:
    """Nodes with their places, and edges. Of steps that the compiler made out of one, each is a node."""
    placed = (document.get("canvas") or {}).get("positions") or {}
    words = _words(document)
    said = {step.get(words.identifier): step for step in document[words.listed]} if words.identifier else {}
    columns: dict[str, int] = {}
    rows: dict[int, int] = {}
    nodes = []
    for step_id in (*graph.order, *(other for other in graph.nodes if other not in graph.order)):
        node = graph.nodes[step_id]
        column = columns[step_id] = 1 + max((columns.get(before, -1) for before in node.predecessors), default=-1)
        row = rows[column] = rows.get(column, -1) + 1
        position = placed.get(step_id) or {"x": column * COLUMN, "y": row * ROW}
        place = step_id.removeprefix("step_")
        step = said.get(step_id) or (
            document[words.listed][int(place) - 1] if words is TASKS and place.isdigit() else {}
        )
        nodes.append({"id": step_id, "type": node.type.value, "name": node.name, "position": position, "step": step})
    return nodes, [edge for step_id in graph.nodes for edge in _edges(graph.nodes[step_id])]


def _edges(node: Node) -> Iterator[Json]:
    kinds: list[tuple[str, tuple[str, ...], str]] = [
        ("next", node.next, ""),
        ("else", node.otherwise, "else"),
        ("error", node.catch, "error"),
        ("compensation", () if node.compensation is None else (node.compensation,), "undo"),
        *(("case", targets, f"case {number}") for number, targets in enumerate(node.cases, 1)),
    ]
    for kind, targets, label in kinds:
        for target in targets:
            yield {
                "id": f"{node.id}-{label or kind}-{target}", "source": node.id, "target": target, "kind": kind, "label": label,
            }  # fmt: skip
