"""Ids that follow from what they name."""

from functools import lru_cache

from handrail_contracts.ids import derive


@lru_cache(maxsize=16_384)
def run_id(execution_id: str, step_id: str, *parts: int | str) -> str:
    """Names a step run: the same for each of its attempts. After a rewind it is another run, and has another name.

    `parts` are the attempts of the step before the rewind and, inside of loops that began again, those of the loops; and
    of a step whose suggestion is revised or carried out, what is done with which.
    """
    return derive(execution_id, step_id, *parts)


def request_id(run: str, attempt: int) -> str:
    """Names one attempt, and the child that an attempt of a sub-workflow starts."""
    return derive(run, attempt)


def suggestion_id(run: str, attempt: int) -> str:
    return derive(run, "suggestion", attempt)


def gate_id(run: str, attempt: int) -> str:
    """Names the gate of an approval step; one that was opened anew has a name of its own."""
    return run if attempt == 1 else derive(run, "gate", attempt)
