"""What is to be done, as it was said: in order, side by side, either or, again and again. Pure."""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
Items = tuple["Item", ...]


@dataclass(frozen=True, slots=True)
class Task:
    """`verb` is its base form, empty if it is not known; `actor` who is named to do it."""

    verb: str
    text: str
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Approve:
    who: str
    text: str


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: int


@dataclass(frozen=True, slots=True)
class Signal:
    text: str


@dataclass(frozen=True, slots=True)
class Choice:
    condition: str
    then: Items
    otherwise: Items = ()


@dataclass(frozen=True, slots=True)
class Each:
    noun: str
    body: Items


@dataclass(frozen=True, slots=True)
class Until:
    condition: str
    body: Items


@dataclass(frozen=True, slots=True)
class Together:
    branches: tuple[Items, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """By the labels of the classification before it."""

    text: str


Item = Task | Approve | Wait | Signal | Choice | Each | Until | Together | Route


@dataclass(frozen=True, slots=True)
class Plan:
    """`careless`: it is said that nobody has to be asked."""

    trigger: Json
    items: Items
    careless: bool


def tasks_in(items: Items) -> list[Item]:
    """All that is done, whatever it is in."""
    found: list[Item] = []
    for item in items:
        match item:
            case Choice(then=then, otherwise=otherwise):
                found += [item, *tasks_in(then), *tasks_in(otherwise)]
            case Each(body=body) | Until(body=body):
                found += [item, *tasks_in(body)]
            case Together(branches=branches):
                found += [item, *(inner for branch in branches for inner in tasks_in(branch))]
            case _:
                found.append(item)
    return found
