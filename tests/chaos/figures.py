"""Figures that the fault tests measure on the way; they are told at the end and never decide whether a test passes."""

from collections.abc import Sequence

FIGURES: list[tuple[str, str]] = []


def tell(what: str, figure: str) -> None:
    FIGURES.append((what, figure))


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
